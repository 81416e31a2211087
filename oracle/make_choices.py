"""tests/golden/evaluation: what transformers makes of a real checkpoint by likelihood.

choices.json: for the first 100 rows of ARC-Easy's test set, as LLM-Adapters wrote it, the log-likelihood of every
choice, and accuracy with its standard error, by the definitions of lm-evaluation-harness: the tokens of the choice are
those of "context + choice" behind as many as the context alone has; accuracy takes the likeliest choice, acc_norm the
likeliest by its length in characters. perplexity.json: a piece of tinyshakespeare in windows that
overlap, and the first 125 tokens of what the model says itself, the start token among them. Checkpoint and data lie
below $DELTAW_DATA and are no part of this repository; without them the files are left as they are.
"""
import hashlib
import json
import math
import os
import re
from pathlib import Path

from common import GOLDEN, provenance, save_json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = GOLDEN / "evaluation"
ROWS = 100
TEXT_BYTES, MAX_LENGTH, STRIDES = 6000, 256, [255, 100]
OWN_PROMPT, OWN_TOKENS = "Once upon a time", 125


def take_apart(instruction):
    """Question and choices of an instruction of LLM-Adapters."""
    body = instruction.split(": ", 1)[1].rsplit("Answer format:", 1)[0]
    question, *choices = re.split(r"Answer\d:", body)
    return question.strip(), [choice.strip() for choice in choices]


def log_likelihoods(model, ids):
    """Of each token but the first, given those before it."""
    ids = torch.tensor(ids)[None]
    with torch.no_grad():
        scores = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    return scores.gather(1, ids[0, 1:, None])[:, 0]


def choice_case(model, tokenizer, row):
    question, choices = take_apart(row["instruction"])
    context = f"Question: {question}\nAnswer:"
    before = tokenizer.encode(context)
    values = []
    for choice in choices:
        whole = tokenizer.encode(f"{context} {choice}")
        assert len(before) < len(whole) <= model.config.max_position_embeddings
        values.append(log_likelihoods(model, whole)[len(before) - 1:].sum().item())
    return {"answer": int(row["answer"].removeprefix("answer")) - 1, "log_likelihoods": values,
            "lengths": [len(choice) for choice in choices]}


def share(hits):
    p = sum(hits) / len(hits)
    return p, math.sqrt(p * (1 - p) / (len(hits) - 1))


def first_best(values):
    return max(range(len(values)), key=lambda i: (values[i], -i))


def margin(values):
    ordered = sorted(values, reverse=True)
    return ordered[0] - ordered[1]


def choice_cases(model, tokenizer, rows):
    cases = [choice_case(model, tokenizer, row) for row in rows]
    hits, hits_norm, margins = [], [], []
    for case in cases:
        normed = [value / length for value, length in zip(case["log_likelihoods"], case["lengths"])]
        hits.append(first_best(case["log_likelihoods"]) == case["answer"])
        hits_norm.append(first_best(normed) == case["answer"])
        margins += [margin(case["log_likelihoods"]), margin(normed)]
    assert min(margins) > 1e-5, "a row is too near a tie to be compared"
    (acc, acc_stderr), (acc_norm, acc_norm_stderr) = share(hits), share(hits_norm)
    return {"acc": acc, "acc_stderr": acc_stderr, "acc_norm": acc_norm, "acc_norm_stderr": acc_norm_stderr,
            "rows": cases}


def windows(count, stride):
    """Begin, first scored and end of each: the loop of transformers' guide to perplexity."""
    scored = 1
    for begin in range(0, count, stride):
        end = min(begin + MAX_LENGTH, count)
        yield begin, scored, end
        scored = end
        if end == count:
            return


def perplexity_case(model, tokenizer, text, stride):
    ids = tokenizer.encode(text)
    nll = 0.0
    for begin, scored, end in windows(len(ids), stride):
        nll -= log_likelihoods(model, ids[begin:end])[scored - begin - 1:].sum().item()
    tokens = len(ids) - 1
    return {"stride": stride, "nll": nll, "tokens": tokens, "perplexity": math.exp(nll / tokens),
            "bits_per_byte": nll / len(text.encode()) / math.log(2),
            "word_perplexity": math.exp(nll / len(re.split(r"\s+", text)))}


def own_words(model, tokenizer):
    encoded = tokenizer(OWN_PROMPT, return_tensors="pt")
    said = model.generate(**{key: encoded[key] for key in ("input_ids", "attention_mask")}, do_sample=False,
                          max_new_tokens=OWN_TOKENS, pad_token_id=0, eos_token_id=-1)[0].tolist()
    ids = said[:OWN_TOKENS]
    return {"ids": ids, "nll": -log_likelihoods(model, ids).sum().item()}


def main():
    data = Path(os.environ.get("DELTAW_DATA", "/nonexistent"))
    folder = data / "models" / "stories260k_hf"
    if not folder.exists():
        print("tests/golden/evaluation is as it was: no stories260k_hf below $DELTAW_DATA")
        return
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    common = {"checkpoint": {"name": "stories260k_hf", "model.safetensors": digest}}

    rows = json.loads((data / "llm_adapters" / "ARC-Easy" / "test.json").read_text())[:ROWS]
    save_json(FOLDER / "choices.json", common | choice_cases(model, tokenizer, rows)
              | {"provenance": provenance(__file__, "choices")})
    text = (data / "tinyshakespeare" / "input.txt").read_bytes()[:TEXT_BYTES].decode()
    save_json(FOLDER / "perplexity.json", common | {
        "text_bytes": TEXT_BYTES, "max_length": MAX_LENGTH,
        "cases": [perplexity_case(model, tokenizer, text, stride) for stride in STRIDES],
        "own_words": own_words(model, tokenizer), "provenance": provenance(__file__, "perplexity")})


if __name__ == "__main__":
    main()
