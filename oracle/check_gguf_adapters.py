"""Adapters that deltaw exports for llama.cpp, run by llama.cpp over the bases of tests/golden/gguf_models.

    python oracle/check_gguf_adapters.py PROGRAM [NAME ...]
    python oracle/check_gguf_adapters.py --by_hand [NAME ...]     the check checked: adapters written by the package gguf

Needs oracle/requirements-gguf.txt. For every float32 base: a random LoRA of PEFT on all layers that GGUF can carry, of
several ranks and scales; llama.cpp's log-probabilities with it must be PEFT's. By hand, wrong ones must be noticed too:
rows not permuted, the scale left out, A and B of another layer. Exit status 1, with a line for each problem.
"""
from common import GOLDEN, generator, normal
from gguf_layout import architecture_of, heads_of, module_of, permuted, tensors_of, undone
from llamacpp import log_probabilities

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import peft
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

FOLDER = GOLDEN / "gguf_models"
NEAR, MOVED = 0.02, 0.5  # nats


def export(program, base, adapter, target):
    """The one place that knows the command line."""
    subprocess.run([program, "export", "--model_name_or_path", base, "--adapter_name_or_path", adapter, "--to", "gguf",
                    "--output_dir", target], check=True)
    return next(target.glob("*.gguf"))


# ---- base and adapter

def base_of(name):
    """What llama.cpp makes of the file: without a window where it has none."""
    told = json.loads((FOLDER / f"{name}.json").read_text())
    config = AutoConfig.for_model(**told["config"])
    if "no_window_next_logprobs" in told:
        config.sliding_window = None
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    found = [undone(tensor, config) for tensor in tensors_of(FOLDER / f"{name}.gguf")]
    model.load_state_dict({name: torch.tensor(value) for name, _, value in found if name}, strict=config.tie_word_embeddings is False)
    return model, told


def layers_of(path, config):
    """Matrices that an adapter may stand on: names in the file and in transformers."""
    stems = [t.name.removesuffix(".weight") for t in tensors_of(path) if t.name.endswith(".weight") and len(t.shape) == 2]
    return {stem: module_of(architecture_of(config), stem) for stem in stems if "_embd" not in stem}


def adapted(model, name, layers):
    """Ranks and scales differ from layer to layer, by PEFT's patterns."""
    settings = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=sorted(layers.values()), task_type="CAUSAL_LM",
        rank_pattern={rf".*\.0\..*{part}": 3 for part in ("q_proj", "c_attn", "qkv_proj")},
        alpha_pattern={rf".*\.1\..*{part}": 9 for part in ("down_proj", "c_fc")}, use_rslora=name == "qwen3",
        fan_in_fan_out=model.config.model_type == "gpt2")
    changed = peft.get_peft_model(model, settings).eval()
    rng = generator(name + " gguf adapter")
    with torch.no_grad():
        for key, value in changed.named_parameters():
            if ".lora_" in key:
                value.copy_(normal(value.shape, 0.2, rng))
    return changed


# ---- the same by hand

def write_by_hand(changed, config, layers, path, fault=None):
    writer = gguf.GGUFWriter(path, architecture_of(config))
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 0.0)  # the scale stands in B
    modules = dict(changed.get_base_model().named_modules())
    order = list(layers)
    if fault == "other layers":
        order = [stem.replace("blk.0.", "blk.x.").replace("blk.1.", "blk.0.").replace("blk.x.", "blk.1.") for stem in order]
    for stem, source in zip(layers, order):
        layer = modules[layers[source]]
        a, b = (getattr(layer, f"lora_{x}")["default"].weight.detach().numpy() for x in "AB")
        b = b * np.float32(1 if fault == "no scale" else layer.scaling["default"])
        heads = heads_of(stem + ".weight", config)
        writer.add_tensor(f"{stem}.weight.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{stem}.weight.lora_b", np.ascontiguousarray(permuted(b, heads) if heads and fault != "no permutation" else b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ---- the check

def following(said, ids):
    return np.asarray(said)[np.arange(len(ids) - 1), ids[1:]]


def distance(base, adapter, expected, ids, vocabulary):
    found = log_probabilities(base, ids, vocabulary, adapter=adapter)
    return np.abs(found - expected).max()


def check(name, program):
    problems = []
    model, told = base_of(name)
    config, path, ids = model.config, FOLDER / f"{name}.gguf", told["input_ids"]
    with torch.no_grad():
        before = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
    prefix = "no_window_" if "no_window_next_logprobs" in told else ""
    assert np.abs(following(before, ids) - told[f"{prefix}next_logprobs"]).max() < (1e-4 if config.model_type != "gemma2" else 1e-3)
    layers = layers_of(path, config)
    with tempfile.TemporaryDirectory() as made:
        made = Path(made)
        model.save_pretrained(made / "base")
        changed = adapted(model, name, layers)
        changed.save_pretrained(made / "adapter")
        with torch.no_grad():
            expected = changed(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
        assert np.abs(expected - before).max() > MOVED
        if program:
            for base in (made / "base", path):
                target = made / f"out of {base.name}"
                target.mkdir()
                far = distance(path, export(program, base, made / "adapter", target), expected, ids, config.vocab_size)
                print(f"{name:14} from {base.name:16} llama.cpp with the adapter differs by {far:.5f}", flush=True)
                if far > NEAR:
                    problems.append(f"{name} from {base.name}: {far:.5f} nats")
            return problems
        faults = [None, "no scale", "other layers"] + (["no permutation"] if architecture_of(config) == "llama" else [])
        for fault in faults:
            adapter = write_by_hand(changed, config, layers, made / f"{fault}.gguf", fault)
            far = distance(path, adapter, expected, ids, config.vocab_size)
            print(f"{name:14} {fault or 'right':14} llama.cpp with the adapter differs by {far:.5f}", flush=True)
            if (far > NEAR) != bool(fault):
                problems.append(f"{name}, {fault or 'right'}: {far:.5f} nats")
    return problems


def main():
    program = None if sys.argv[1] == "--by_hand" else Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or sorted(p.stem for p in FOLDER.glob("*.gguf") if "mix" not in p.stem and "f16" not in p.stem)
    problems = [problem for name in names for problem in check(name, program)]
    print(*problems, sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
