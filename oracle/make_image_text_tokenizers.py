"""Writes the fixtures of tests/text/fixtures for CLIP, SigLIP and SigLIP 2.

    python oracle/make_image_text_tokenizers.py [--data FOLDER] [--train]

FOLDER (or $DELTAW_DATA) holds `tokenizers/clip`, OpenAI's vocabulary; without it its fixture is left as it is. A vocabulary is
trained if --train is given or its file is missing. Results as in make_tokenizers.py; SigLIP's tokenizer is SentencePiece
and Python, so that its golden file holds ids and texts alone.
"""
from make_encoder_tokenizers import token, unigram
from make_tokenizers import DECODED, FOLDER, Lines, PAIRS, crc, goldens, pair_length, provenance, write

import argparse
import gzip
import json
import os
import pathlib
import shutil
import tempfile

import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # before transformers 5, which has the marks in it


# ---- CLIP

def bytes_in_order():
    """The characters of bytes as GPT-2 and CLIP number them: those that can be seen, then the others."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) for byte in seen] + [chr(256 + i) for i in range(len(others))]


def write_vocabulary(folder, merges):
    pieces = bytes_in_order()
    pieces += [piece + "</w>" for piece in pieces] + ["".join(merge) for merge in merges] + [BEGIN, END]
    assert len(set(pieces)) == len(pieces)
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, separators=(",", ":")) + "\n", encoding="ascii")
    text = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    return vocabulary


def clip_config(pad):
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace",
            "add_prefix_space": False, "bos_token": token(BEGIN, normalized=True), "eos_token": token(END, normalized=True),
            "unk_token": token(END, normalized=True), "pad_token": pad}


def trained_merges(lines):
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1300, end_of_word_suffix="</w>", show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def as_published(vocabulary, merges):
    """tokenizer.json as versions before the fifth wrote it."""
    def mark(content, normalized):
        return {"id": vocabulary[content], "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": normalized, "special": True}

    blanks = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    words = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [mark(BEGIN, True), mark(END, False)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, blanks, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, vocabulary[END]], "cls": [BEGIN, vocabulary[BEGIN]],
                           "trim_offsets": False, "add_prefix_space": False},
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": vocabulary,
                  "merges": [" ".join(merge) for merge in merges]}}


def clip_from_lists(folder, pad):
    """What transformers reads from vocab.json and merges.txt alone."""
    with tempfile.TemporaryDirectory() as lists:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(folder / name, lists)
        (pathlib.Path(lists) / "tokenizer_config.json").write_text(json.dumps(clip_config(pad)))
        return transformers.AutoTokenizer.from_pretrained(lists)


def clip(lines, train):
    folder = FOLDER / "clip"
    folder.mkdir(exist_ok=True)
    if train or not (folder / "vocab.json").exists():
        merges = trained_merges(lines * 2)
        text = json.dumps(as_published(write_vocabulary(folder, merges), merges), separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n", encoding="ascii")
    write(folder / "tokenizer_config.json", clip_config(END))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    lists, published = clip_from_lists(folder, END), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for line in lines:
        ids = tokenizer(line).input_ids
        assert ids == lists(line).input_ids == published.encode(line).ids, line
    write(folder / "golden.json", goldens(tokenizer._tokenizer, lines))
    write(folder / "golden_pad.json", goldens(clip_from_lists(folder, "!")._tokenizer, lines, 1000, 0))


def clip_vocabulary(data, lines):
    """OpenAI's own, of which every merge stands in one packed file."""
    rows = gzip.open(data / "tokenizers/clip/bpe_simple_vocab_16e6.txt.gz").read().decode("utf-8").split("\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        assert len(write_vocabulary(folder, [tuple(row.split()) for row in rows[1:48895]])) == 49408
        write(FOLDER / "shared_clip.json", goldens(clip_from_lists(folder, END)._tokenizer, lines))


# ---- SigLIP

def slow_goldens(tokenizer, lines):
    """`cut`: ids of a line cut and filled to the lengths of the pairs, as a model of images and text gets them."""
    rows = [tokenizer(line).input_ids for line in lines]
    filled = [tokenizer(line, truncation=True, padding="max_length", max_length=pair_length(i)).input_ids
              for i, line in enumerate(lines[:PAIRS])]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) + "\n" for ids in rows]

    def sums(some):
        return " ".join(crc(" ".join(map(str, ids))) for ids in some)
    return {"provenance": provenance(), "first": rows[:20], "ids": sums(rows), "cut": sums(filled),
            "decode": " ".join(crc("".join(texts[i : i + DECODED])) for i in range(0, len(texts), DECODED))}


def siglip(lines, train):
    folder = FOLDER / "siglip"
    unigram(folder, "spiece.model", lines, train, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, required_chars="\u03c3\u03c2")
    mark = {"lstrip": True, "rstrip": True}
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "SiglipTokenizer", "model_max_length": 64, "do_lower_case": True, "model_input_names": ["input_ids"],
        "added_tokens_decoder": {"1": token("</s>", **mark), "2": token("<unk>", **mark)},
        "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == "SiglipTokenizer"
    write(folder / "golden.json", slow_goldens(tokenizer, lines))


def siglip2(lines):
    """Gemma's tokenizer.json (the fixture's), whose texts the model_type alone puts in lower case."""
    folder = FOLDER / "siglip2"
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True, "bos_token": "<bos>",
        "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
        "model_input_names": ["input_ids"]})
    write(folder / "config.json", {"model_type": "siglip2"})
    with tempfile.TemporaryDirectory() as temporary:
        for file in (folder / "tokenizer_config.json", folder / "config.json", FOLDER / "gemma" / "tokenizer.json"):
            shutil.copy(file, temporary)
        tokenizer = transformers.AutoTokenizer.from_pretrained(temporary)
    assert type(tokenizer).__name__ == "Siglip2Tokenizer" and tokenizer.padding_side == "left"
    write(folder / "golden.json", goldens(tokenizer._tokenizer, lines, 1000, 0))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", default=os.environ.get("DELTAW_DATA"))
    arguments.add_argument("--train", action="store_true")
    arguments = arguments.parse_args()
    lines = Lines().make()
    clip(lines, arguments.train)
    siglip(lines, arguments.train)
    siglip2(lines)
    if arguments.data:
        clip_vocabulary(pathlib.Path(arguments.data), lines)


if __name__ == "__main__":
    main()
