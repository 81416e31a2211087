"""Writes tests/golden/token_cls: words as transformers' tokenizers read them, its pipeline's entities, its loss.

    words.json      rows of words through the tokenizers of tests/text/fixtures with is_split_into_words: ids and words
    entities.json   what the pipeline of token classification makes of random logits, by every aggregation_strategy
    io.safetensors  the loss of random logits with labels, also smoothed, and its gradient
"""
from common import GOLDEN, generator, normal, provenance, save_tensors

import json
import random
import unicodedata

import torch
from tokenizers import Tokenizer
from transformers import (AutoTokenizer, BertConfig, BertForTokenClassification, PreTrainedTokenizerFast,
                          TokenClassificationPipeline)
from transformers.loss.loss_utils import ForTokenClassification
from transformers.trainer_pt_utils import LabelSmoother

FOLDER = GOLDEN / "token_cls"
TOKENIZERS = GOLDEN.parent / "text" / "fixtures"
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ROWS, SEED = 60, 20261129
ODD = [["U.N.", "official", "don't", "(well)"], ["", "a", "\u200b", "b"], [" a", "b ", "c d"], ["\u4e2d\u6587", "\u00e9t\u00e9", "\U0001f600!"],
       ["New-York", "1,000.50", "e.g.", "\u2026"], ["#", "##", "@user", "http://a.b/c"], ["\u0130stanbul", "STRASSE", "na\u00efve"]]
STRATEGIES = ["none", "simple", "first", "average", "max"]


def own_file(name):
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(TOKENIZERS / name / "tokenizer.json")))


def tokenizers():
    yield "wordpiece", own_file("wordpiece"), False
    yield "unigram", own_file("unigram"), False
    yield "roberta", AutoTokenizer.from_pretrained(TOKENIZERS / "roberta", add_prefix_space=True), False
    yield "t5", AutoTokenizer.from_pretrained(TOKENIZERS / "t5"), False
    # Its pre-tokenizer would put a blank before every piece of a word: here the word has one.
    yield "byte_level", own_file("byte_level"), True


def words_of_lines():
    rng = random.Random(SEED)
    lines = [json.loads(line) for line in (TOKENIZERS / "lines.jsonl").read_text().splitlines()]
    rows = [line.split()[:12] for line in rng.sample(lines, 4 * ROWS)]
    plain = [row for row in rows if row and all(unicodedata.category(c) not in ("Cn", "Cs") for w in row for c in w)]
    return ODD + plain[:ROWS]


def with_blank(word, tokenizer):
    """As ByteLevel with add_prefix_space has it: an added token has no blank before it."""
    ids = tokenizer(word)["input_ids"]
    bare = not word or word.startswith(" ") or ids[0] in tokenizer.added_tokens_decoder
    return word if bare else " " + word


def write_words():
    rows = words_of_lines()
    result = {"provenance": provenance(__file__, "words"), "rows": rows, "tokenizers": {}}
    for name, tokenizer, blank in tokenizers():
        found = []
        for row in rows:
            given = [with_blank(word, tokenizer) if blank else word for word in row]
            encoding = tokenizer(given, is_split_into_words=True)
            found.append([encoding["input_ids"], [-1 if w is None else w for w in encoding.word_ids()]])
        result["tokenizers"][name] = found
    (FOLDER / "words.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")


def rounded(entities):
    return [{key: round(float(value), 6) if key == "score" else value for key, value in one.items()} for one in entities]


def tiny_model(vocabulary):
    config = BertConfig(vocab_size=vocabulary, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=8, id2label=dict(enumerate(LABELS)),
                        label2id={label: i for i, label in enumerate(LABELS)})
    return BertForTokenClassification(config)


def write_entities():
    texts = ["The committee met in Paris, said John Smith.", "said", "unaffordable tokenization in New York",
             "caf\u00e9 \u00e9t\u00e9 \U0001f600 was there", "he  went   to school (again)"]
    words = [["The", "committee", "met", "in", "Paris", "again"], ["unaffordable", "tokenization"], ["said"]]
    cases = []
    for name, tokenizer, _ in tokenizers():
        if name in ("t5", "byte_level"):
            continue
        if tokenizer.unk_token is None:
            tokenizer.unk_token = "[UNK]" if name == "wordpiece" else "<unk>"
        pipe = TokenClassificationPipeline(model=tiny_model(len(tokenizer)), tokenizer=tokenizer)
        for number, row in enumerate(texts + words):
            split = isinstance(row, list)
            how = {"is_split_into_words": True, "delimiter": " "} if split else {"is_split_into_words": False}
            inputs = list(pipe.preprocess(row, **how))
            assert len(inputs) == 1
            count = inputs[0]["input_ids"].shape[1]
            logits = normal((count, len(LABELS)), 1.5, generator(f"{name} {number}"))
            logits[:, 0] += 0.5
            special = inputs[0].pop("special_tokens_mask")
            outputs = {"logits": logits[None], "special_tokens_mask": special, **inputs[0]}
            entities = {}
            for strategy in STRATEGIES:
                _, _, post = pipe._sanitize_parameters(aggregation_strategy=strategy)
                # The pipeline adds to the offsets in place.
                fresh = {**outputs, "offset_mapping": outputs["offset_mapping"].clone()}
                entities[strategy] = rounded(pipe.postprocess([fresh], **post))
            kept = [token for token in range(count) if not special[0][token]]
            cases.append({"tokenizer": name, "row": row, "entities": entities,
                          "logits": [[round(x, 6) for x in logits[token].tolist()] for token in kept]})
    text = json.dumps({"provenance": provenance(__file__, "entities"), "labels": LABELS, "cases": cases})
    (FOLDER / "entities.json").write_text(text + "\n")


def write_loss():
    name = "token_cls loss"
    rng = generator(name)
    logits = normal((4, 9, len(LABELS)), 2.0, rng).double().requires_grad_()
    labels = torch.randint(0, len(LABELS), (4, 9), generator=rng)
    labels[torch.rand((4, 9), generator=rng) < 0.4] = -100
    config = BertConfig(num_labels=len(LABELS))
    loss = ForTokenClassification(logits, labels, config)
    (gradient,) = torch.autograd.grad(loss, logits)
    smoothed = LabelSmoother(epsilon=0.1)({"logits": logits}, labels)
    save_tensors(FOLDER / "io.safetensors", {"logits": logits, "labels": labels, "loss": loss, "smoothed": smoothed,
                                             "gradient": gradient}, __file__, name)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_words()
    write_entities()
    write_loss()
    for file in sorted(FOLDER.iterdir()):
        print(f"  {file.name}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
