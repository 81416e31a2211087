"""Writes tests/golden/segments: encoders with tokenizers that give segments or none, and padding tokens of every kind."""
from common import GOLDEN, logits_of, provenance, randomise, require_equal, require_moved, save_json, save_tensors

import json
import shutil

import torch
from make_models import bert, roberta
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification,
                          BertTokenizerFast, RobertaForSequenceClassification)

SEGMENTS = GOLDEN / "segments"
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "a man is not the fish in bank of river firm that was sold".split()
PAIRS = [("a man", "a fish"), ("the bank", "the firm that was sold"), ("the river is not a bank of fish", "a man"),
         ("not in the river", "that was a fish")]
NONE = ["input_ids", "attention_mask"]

# What stands in config.json and tokenizer_config.json, and whether segments reach the model.
CASES = {
    "bert": (bert(num_labels=2), {}, True),
    "bert_unnamed": (bert(num_labels=2), {"model_input_names": NONE}, False),
    "bert_generic_class": (bert(num_labels=2), {"tokenizer_class": "PreTrainedTokenizerFast"}, False),
    "bert_one_segment": (bert(num_labels=2, type_vocab_size=1), {"model_input_names": NONE}, False),
    "bert_pad_minus_one": (bert(num_labels=2, pad_token_id=-1), {}, True),
    "roberta_two_segments": (roberta(num_labels=2, type_vocab_size=2), {}, True),
    "roberta_one_segment": (roberta(num_labels=2), {"tokenizer_class": "PreTrainedTokenizerFast"}, False),
    "roberta_pad_minus_one": (roberta(num_labels=2, pad_token_id=-1), {"model_input_names": NONE}, False),
}


def write_tokenizer(folder, changes):
    # RoBERTa counts positions from its padding token, which is 1 here as there.
    words = [MARKS[1], MARKS[0], *MARKS[2:]] if folder.name.startswith("roberta") else MARKS
    vocabulary = {word: i for i, word in enumerate([*words, *WORDS])}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = {**json.loads(file.read_text()), **changes}
    if "tokenizer_class" in changes:
        config.pop("model_input_names", None)
    save_json(file, config)


def write(name, config, changes, has_segments):
    folder = SEGMENTS / name
    kind = BertForSequenceClassification if name.startswith("bert") else RobertaForSequenceClassification
    randomise(kind(config), name).save_pretrained(folder)
    write_tokenizer(folder, changes)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32,
                                                               attn_implementation="eager").eval()
    batch = dict(tokenizer(*map(list, zip(*PAIRS)), padding=True, return_tensors="pt"))
    assert tokenizer.unk_token_id not in batch["input_ids"], name
    assert ("token_type_ids" in batch) == has_segments, (name, list(batch))
    logits = logits_of(model, batch)
    rows = torch.cat([logits_of(model, dict(tokenizer(*pair, return_tensors="pt"))) for pair in PAIRS])
    require_equal(f"{name} padding", logits, rows)
    segments = torch.zeros_like(batch["input_ids"])
    for row, ids in enumerate(batch["input_ids"]):
        first = (ids == tokenizer.sep_token_id).nonzero()[0, 0]
        segments[row, first + 1:] = batch["attention_mask"][row, first + 1:]
    if has_segments:
        require_moved(f"{name} segments", logits, logits_of(model, {**batch, "token_type_ids": 0 * segments}))
    elif config.type_vocab_size > 1:
        require_moved(f"{name} segments", logits, logits_of(model, {**batch, "token_type_ids": segments}))
    save_tensors(folder / "io.safetensors", {**batch, "logits": logits}, __file__, name)
    print(f"  {name}")


def main():
    shutil.rmtree(SEGMENTS, ignore_errors=True)
    for name, case in CASES.items():
        write(name, *case)
    save_json(SEGMENTS / "case.json", {"pairs": PAIRS, "segments": {name: case[2] for name, case in CASES.items()},
                                       "provenance": provenance(__file__, "segments")})


if __name__ == "__main__":
    main()
