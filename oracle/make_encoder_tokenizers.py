"""Writes the fixtures of tests/text/fixtures that encoders need: small vocabularies in the files that published ones have.

    python oracle/make_encoder_tokenizers.py [--train]

A vocabulary is trained if --train is given or its file is missing. Results as in make_tokenizers.py.
"""
from make_tokenizers import FOLDER, Lines, added, goldens, write

import argparse
import json
import pathlib
import tempfile
from types import SimpleNamespace

import sentencepiece as spm
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import DebertaV2Converter

XLM_R = {"bos_id": 1, "eos_id": 2, "unk_id": 0, "pad_id": -1}
ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
           "eos_piece": "[SEP]", "unk_piece": "[UNK]"}


def token(content, **flags):
    return {"__type": "AddedToken", "content": content, "lstrip": False, "rstrip": False, "normalized": False,
            "single_word": False, "special": True, **flags}


# ---- SentencePiece

def unigram(folder, file, lines, train, **options):
    path = folder / file
    folder.mkdir(exist_ok=True)
    if train or not path.exists():
        with tempfile.TemporaryDirectory() as temporary:
            text = pathlib.Path(temporary) / "lines.txt"
            text.write_text("\n".join(line for line in lines if line.isprintable() and max(map(ord, line), default=0) < 0x250), encoding="utf-8")
            spm.SentencePieceTrainer.train(input=str(text), model_prefix=f"{temporary}/m", vocab_size=900,
                                           character_coverage=0.99, normalization_rule_name="nmt_nfkc",
                                           model_type="unigram", num_threads=1, minloglevel=2, **options)
            path.write_bytes((pathlib.Path(temporary) / "m.model").read_bytes())
    return path


def unlike_the_library(name, path, tokenizer, lines, id_of, marks):
    """On how many lines the library itself gives other ids: equal scores, marks of more than one code point, blanks that
    it drops. It finds no special tokens in a text."""
    library = spm.SentencePieceProcessor(model_file=str(path))
    plain = [line for line in lines if not any(mark in line for mark in marks)]
    other = sum(tokenizer.encode(line, add_special_tokens=False).ids != [id_of(i) for i in library.encode(line)]
                for line in plain)
    print(f"{name}: {other} of {len(plain)} lines have other ids in the library")
    return other


def xlm_roberta(lines, train):
    folder = FOLDER / "xlm_roberta"
    path = unigram(folder, "sentencepiece.bpe.model", lines, train, **XLM_R)
    write(folder / "tokenizer_config.json", {"model_max_length": 512, "mask_token": token("<mask>", lstrip=True)})
    write(folder / "config.json", {"model_type": "xlm-roberta"})  # which alone names the tokenizer
    tokenizer = transformers.XLMRobertaTokenizer.from_pretrained(folder)._tokenizer
    unlike_the_library("xlm_roberta", path, tokenizer, lines, lambda i: i + 1 if i > 2 else 3,
                       ("<s>", "</s>", "<unk>", "<pad>", "<mask>"))
    write(folder / "golden.json", goldens(tokenizer, lines))


def albert(lines, train):
    folder = FOLDER / "albert"
    unigram(folder, "spiece.model", lines, train, **ALBERT)
    write(folder / "tokenizer_config.json", {"tokenizer_class": "AlbertTokenizer", "do_lower_case": True,
                                             "mask_token": token("[MASK]", lstrip=True)})
    tokenizer = transformers.AlbertTokenizer.from_pretrained(folder)._tokenizer
    write(folder / "golden.json", goldens(tokenizer, lines))


def deberta_as_published(path):
    """The tokenizers that transformers makes of an spm.model: the fifth version's own, whose normalizer is not the
    model's, and that of the versions before, which is."""
    slow = transformers.DebertaV2Tokenizer.from_pretrained(path.parent)
    original = SimpleNamespace(vocab_file=str(path), do_lower_case=False, split_by_punct=False, add_prefix_space=True,
                               legacy=True, convert_tokens_to_ids=slow.convert_tokens_to_ids)
    tokenizer = DebertaV2Converter(original).converted()
    tokenizer.add_special_tokens([token for token in slow.added_tokens_decoder.values() if token.special])
    return slow._tokenizer, tokenizer


def deberta(lines, train):
    folder = FOLDER / "deberta_v2"
    path = unigram(folder, "spm.model", lines, train, **DEBERTA)
    write(folder / "tokenizer_config.json", {"do_lower_case": False, "vocab_type": "spm"})
    write(folder / "config.json", {"model_type": "deberta-v2"})  # which alone names the tokenizer
    fifth, published = deberta_as_published(path)
    marks = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
    ours = unlike_the_library("deberta_v2 as published", path, published, lines, lambda i: i, marks)
    assert 2 * ours < unlike_the_library("deberta_v2 of transformers 5", path, fifth, lines, lambda i: i, marks)
    write(folder / "golden.json", goldens(published, lines))


# ---- other files

def mpnet(lines, train):
    """A vocab.txt of WordPiece with RoBERTa's special tokens before BERT's [UNK]."""
    folder = FOLDER / "mpnet"
    folder.mkdir(exist_ok=True)
    path = folder / "vocab.txt"
    if train or not path.exists():
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(
            vocab_size=1200, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "[UNK]"], limit_alphabet=300,
            min_frequency=2, show_progress=False))
        words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        path.write_text("".join(f"{word}\n" for word, _ in words) + "<mask>\n", encoding="utf-8")
    write(folder / "tokenizer_config.json", {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True})
    write(folder / "golden.json", goldens(transformers.MPNetTokenizer.from_pretrained(folder)._tokenizer, lines))


def modernbert(lines, train):
    """GPT-NeoX's kind of byte-level BPE with BERT's special tokens and runs of blanks as tokens that are not special."""
    folder = FOLDER / "modernbert"
    folder.mkdir(exist_ok=True)
    path = folder / "tokenizer.json"
    if train or not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
            vocab_size=1100, special_tokens=["|||IP_ADDRESS|||", "<|padding|>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.add_tokens([added(" " * n) for n in range(8, 1, -1)])
        tokenizer.add_special_tokens([added(name, normalized=False) for name in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")] +
                                     [added("[MASK]", lstrip=True, normalized=False)])
        marks = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=marks)
        tokenizer.decoder = decoders.ByteLevel()
        text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=True, separators=(",", ":"))
        path.write_text(text + "\n", encoding="ascii")
    write(folder / "golden.json", goldens(Tokenizer.from_file(str(path)), lines))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--train", action="store_true")
    train = arguments.parse_args().train
    lines = Lines().make()
    for make in (xlm_roberta, albert, deberta, mpnet, modernbert):
        make(lines, train)


if __name__ == "__main__":
    main()
