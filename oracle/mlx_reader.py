"""Adapters in MLX's layout, put into a transformers model.

    python oracle/mlx_reader.py MODEL_DIR ADAPTER_DIR LOGITS.safetensors INPUT.safetensors

`LOGITS` holds `logits`, `INPUT` the inputs (one file may serve as both). Prints how far the logits are and, where mlx_lm
is installed, how far MLX's own are; exit status 1 beyond the tolerance, or where MLX refuses the folder.
"""
from common import inputs_of, logits_of, tolerance

import json
import re
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

MATRICES = (nn.Linear, nn.Embedding, Conv1D)


def mlx_name(module, model_type):
    return re.sub(r"^transformer\.", "model.", module) if model_type == "gpt2" else module


def blocks_of(model):
    return next(m for n, m in model.named_modules() if re.fullmatch(r"(model\.layers|transformer\.h)", n))


def layers_of(model, config):
    """Names of the modules that get an adapter: in the last blocks those whose name in the block is a key, and those of
    the whole model whose full name is one. No keys: every matrix in the blocks."""
    kind = model.config.model_type
    matrices = {mlx_name(n, kind): m for n, m in model.named_modules() if isinstance(m, MATRICES)}
    inside = {name: re.fullmatch(r"model\.(?:layers|h)\.(\d+)\.(.+)", name) for name in matrices}
    keys = config["lora_parameters"].get("keys")
    if keys is None:
        keys = {found[2] for found in inside.values() if found}
    count = len(blocks_of(model))
    first = max(count - config["num_layers"], 0) if config["num_layers"] > 0 else 0
    return {name: m for name, m in matrices.items()
            if name in keys or (inside[name] and inside[name][2] in keys and int(inside[name][1]) >= first)}


def apply(model, folder):
    """The weights of `model` with the adapter in them, and of a tied head too, which MLX takes from the embedding."""
    config = json.loads((Path(folder) / "adapter_config.json").read_text())
    tensors = load_file(Path(folder) / "adapters.safetensors")
    kind = config.get("fine_tune_type", "lora")
    if kind == "full":
        names = {mlx_name(n, model.config.model_type): p for n, p in model.named_parameters()}
        unknown = set(tensors) - set(names)
        assert not unknown, unknown
        with torch.no_grad():
            for name, value in tensors.items():
                names[name].copy_(value)
        return model
    rank, scale = config["lora_parameters"]["rank"], config["lora_parameters"]["scale"]
    layers = layers_of(model, config)
    allowed = {f"{name}.{leaf}" for name in layers for leaf in ("lora_a", "lora_b", *(["m"] if kind == "dora" else []))}
    assert set(tensors) <= allowed, sorted(set(tensors) - allowed)
    with torch.no_grad():
        for name, module in layers.items():
            put(module, {leaf: tensors.get(f"{name}.{leaf}") for leaf in ("lora_a", "lora_b", "m")}, rank, scale, kind)
    return model


def put(module, found, rank, scale, kind):
    weight = module.weight
    turned = isinstance(module, Conv1D)
    wide = weight.T if turned else weight  # [out, in]; an embedding [rows, width]
    a, b, m = found["lora_a"], found["lora_b"], found["m"]
    before = wide.float().norm(dim=1)
    changed = wide.clone()
    if a is not None and b is not None:  # without b there is no change; a alone says nothing
        assert a.shape[1] == b.shape[0] == rank, (a.shape, b.shape)
        product = scale * (a.double() @ b.double())
        changed = (wide.double() + (product if isinstance(module, nn.Embedding) else product.T))
    if kind == "dora":
        changed = (before if m is None else m)[:, None].double() / changed.double().norm(dim=1, keepdim=True) * changed
    weight.copy_((changed.T if turned else changed).to(weight.dtype))


def by_mlx(base, folder, ids):
    """MLX's logits of one row. A config.json of transformers 5 gets the older keys, which MLX reads alone."""
    import mlx.core as mx
    import numpy as np
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model
    mx.set_default_device(mx.cpu)
    with tempfile.TemporaryDirectory() as made:
        given = json.loads((Path(base) / "config.json").read_text())
        rope = dict(given.pop("rope_parameters", None) or {})
        if rope:
            given["rope_theta"] = rope.pop("rope_theta")
            given["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
        if given["model_type"] == "gpt2":
            given.setdefault("n_ctx", given["n_positions"])
        (Path(made) / "config.json").write_text(json.dumps(given))
        (Path(made) / "model.safetensors").symlink_to((Path(base) / "model.safetensors").resolve())
        model, _ = load_model(Path(made), lazy=False)
        if folder:
            model = load_adapters(model, str(folder))
        model.eval()
        return torch.from_numpy(np.array(model(mx.array(np.array(ids))).astype(mx.float32)))


def main():
    base, folder, logits, inputs = sys.argv[1:5]
    batch, expected = load_file(inputs), load_file(logits)["logits"]
    batch = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    far = {"transformers": (logits_of(apply(model, folder), inputs_of(batch)) - expected).abs().max().item()}
    try:
        mine = by_mlx(base, folder, batch["input_ids"])
        far["mlx"] = (mine.masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, 0) - expected).abs().max().item()
    except ImportError:
        pass
    print(json.dumps({**far, "tolerance": tolerance(expected)}))
    sys.exit(any(not value <= tolerance(expected) for value in far.values()))


if __name__ == "__main__":
    main()
