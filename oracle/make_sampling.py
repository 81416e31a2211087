"""tests/golden/sampling: what transformers makes of logits before it samples, and what a real checkpoint says greedily.

processors.json holds logits with the tokens that stand before them, and the scores that transformers' own chain of
processors leaves (null: ruled out). stories.json holds greedy continuations by the checkpoint stories260k_hf, which lies
below $DELTAW_DATA and is no part of this repository; without it that file is left as it is.
"""
import hashlib
import os
from pathlib import Path

from common import GOLDEN, generator, normal, provenance, save_json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

FOLDER = GOLDEN / "sampling"
VOCABULARY, HISTORY = 24, [3, 7, 7, 0, 21, 3, 11]
SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 1.8, "repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"top_k": 5},
    {"top_k": 100},
    {"top_p": 0.6},
    {"top_p": 0.0},
    {"min_p": 0.15},
    {"temperature": 0.6, "top_k": 9, "top_p": 0.85},
    {"temperature": 1.4, "top_k": 12, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.2},
    {"top_k": 3, "ties": True},
]
PROMPTS = ["Once upon a time", "The dog", "Lily and Ben went to the park. They saw a big", "One day,"]


def tiny_model():
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                        num_attention_heads=2))


def processed(model, logits, settings):
    """The chain that generate() builds, in its own order."""
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0} | settings
    config = GenerationConfig(do_sample=True, **options)
    chain = model._get_logits_processor(config, input_ids_seq_length=len(HISTORY), logits_processor=[], device="cpu")
    return chain(torch.tensor([HISTORY]), logits[None].clone())[0]


def processor_cases():
    model = tiny_model()
    rng = generator("sampling")
    for settings in SETTINGS:
        logits = normal((VOCABULARY,), 2.5, rng)
        settings = dict(settings)
        if settings.pop("ties", False):
            logits = (logits / 2).round() * 2  # several tokens share the third place
        scores = processed(model, logits, settings)
        yield {"settings": settings, "logits": logits.tolist(),
               "expected": [None if score == float("-inf") else score for score in scores.tolist()]}


def greedy(model, tokenizer, prompt, count, **options):
    encoded = tokenizer(prompt, return_tensors="pt")
    said = model.generate(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], do_sample=False,
                          max_new_tokens=count, pad_token_id=0, eos_token_id=-1, **options)[0]
    ids = encoded["input_ids"][0].tolist()
    return {"prompt": prompt, "ids": ids, "tokens": said[len(ids):].tolist(),
            "text": tokenizer.decode(said, skip_special_tokens=True), **options}


def stories(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [greedy(model, tokenizer, prompt, 80) for prompt in PROMPTS]
    rows.append(greedy(model, tokenizer, PROMPTS[0], 80, repetition_penalty=1.2))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return {"checkpoint": {"name": "stories260k_hf", "model.safetensors": digest}, "rows": rows}


def main():
    save_json(FOLDER / "processors.json", {"history": HISTORY, "cases": list(processor_cases()),
                                           "provenance": provenance(__file__, "sampling")})
    data = os.environ.get("DELTAW_DATA")
    folder = Path(data) / "models" / "stories260k_hf" if data else None
    if folder is None or not folder.exists():
        print("stories.json is as it was: no stories260k_hf below $DELTAW_DATA")
        return
    save_json(FOLDER / "stories.json", stories(folder) | {"provenance": provenance(__file__, "stories")})


if __name__ == "__main__":
    main()
