"""Writes tests/golden/bare: adapters that PEFT saved of models without a head, their hidden states, and logits of the same
adapter on a model with one.

PEFT names modules as the model it wraps has them: without the prefix that they have behind a head. It does not read
such a file into a model with a head, so its names are given the prefix first.
"""
from common import (GOLDEN, MODELS, inputs_of, is_causal, load_base, logits_of, make_batch, provenance, require_moved,
                    save_json, save_tensors, seed_of)

import shutil
import tempfile
from pathlib import Path

import torch
from make_foreign import fill
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

BARE = GOLDEN / "bare"
START = "base_model.model."
CASES = {"bert": ("bert_cls", None, "FEATURE_EXTRACTION"), "deberta": ("deberta_v3_cls", None, "FEATURE_EXTRACTION"),
         "modernbert": ("modernbert_cls", ["Wqkv"], None), "llama": ("llama_tied", None, "FEATURE_EXTRACTION"),
         "masked": ("roberta_masked", ["query", "word_embeddings"], None)}


def with_prefix(folder, prefix, target):
    shutil.copytree(folder, target)
    path = target / "adapter_model.safetensors"
    tensors = {START + prefix + "." + k.removeprefix(START): v for k, v in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def write_case(name, base, targets, task):
    folder = BARE / name
    bare = AutoModel.from_pretrained(MODELS / base, dtype=torch.float32, attn_implementation="eager").eval()
    bare.name_or_path = bare.config._name_or_path = base
    torch.manual_seed(seed_of(name))
    model = get_peft_model(bare, LoraConfig(task_type=task, r=3, lora_alpha=6, target_modules=targets))
    fill(model, name)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    headed = load_base(base)
    batch = make_batch(headed.config, name, [7, 4] if is_causal(headed.config) else [9, 6])
    plain = logits_of(headed, batch)
    with tempfile.TemporaryDirectory() as scratch:
        named = Path(scratch) / "named"
        with_prefix(folder, headed.base_model_prefix, named)
        adapted = PeftModel.from_pretrained(headed, named).eval()
    logits = logits_of(adapted, batch)
    require_moved(f"{name}: the adapter", logits, plain)
    hidden = model.eval()(**inputs_of(batch)).last_hidden_state
    inner = adapted.get_base_model().base_model(**inputs_of(batch)).last_hidden_state
    assert torch.equal(hidden, inner), f"{name}: other hidden states"
    save_tensors(folder / "io.safetensors", {**inputs_of(batch), "hidden": hidden.detach(), "logits": logits}, __file__, name)
    save_json(folder / "case.json", {"name": name, "base": base, "prefix": headed.base_model_prefix,
                                     "provenance": provenance(__file__, name)})


def main():
    shutil.rmtree(BARE, ignore_errors=True)
    for name, (base, targets, task) in CASES.items():
        write_case(name, base, targets, task)
        print(f"  {name}")


if __name__ == "__main__":
    main()
