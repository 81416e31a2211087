"""Writes tests/golden/mlx: adapters as MLX saves them, with the logits that MLX and transformers agree on.

    python oracle/make_mlx.py

Needs oracle/requirements-gguf.txt: mlx_lm itself sets the layers up and writes the folders.
"""
from common import (GOLDEN, MODELS, generator, load_base, logits_of, make_batch, normal, provenance, require_moved, save_json,
                    save_tensors, tolerance)
from mlx_reader import apply, by_mlx

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model, save_config

FOLDER = GOLDEN / "mlx"
ROWS = [10, 7, 4]
CASES = {  # name: base, what adapter_config.json says, what it shows
    "lora": ("llama_tied", {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {
        "rank": 3, "scale": 5.0, "dropout": 0.1, "keys": ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]}}),
    "dora": ("llama_biases", {"fine_tune_type": "dora", "num_layers": -1, "lora_parameters": {
        "rank": 2, "scale": 2.0, "dropout": 0.0}}),
    "last_layer": ("llama_heads", {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {
        "rank": 2, "scale": 3.0, "dropout": 0.0,
        "keys": ["self_attn.o_proj", "mlp.gate_proj", "lm_head", "model.layers.0.self_attn.k_proj", "mlp.no_such"]}}),
}


def write(name, base, config):
    """Every tensor drawn anew, so that none is where it starts."""
    target = FOLDER / name
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        given = json.loads((MODELS / base / "config.json").read_text())
        rope = given.pop("rope_parameters", None) or {"rope_theta": given.get("rope_theta")}
        (Path(made) / "config.json").write_text(json.dumps({**given, "rope_theta": rope["rope_theta"]}))
        (Path(made) / "model.safetensors").symlink_to(MODELS / base / "model.safetensors")
        model, _ = load_model(Path(made), lazy=False)
    model.freeze()
    parameters = {**config["lora_parameters"]}
    linear_to_lora_layers(model, config["num_layers"], parameters, use_dora=config["fine_tune_type"] == "dora")
    rng = generator(f"mlx {name}")
    adapter = {}
    for key, value in sorted(tree_flatten(model.trainable_parameters())):
        drawn = normal(tuple(value.shape), 0.3, rng).numpy()
        adapter[key] = mx.array(np.abs(drawn) + 0.5 if key.endswith(".m") else drawn)
    mx.save_safetensors(str(target / "adapters.safetensors"), adapter)
    save_config({"adapter_path": "adapters", "fine_tune_type": "lora", "iters": 1000, "lr_schedule": None, **config},
                target / "adapter_config.json")
    shown = load_base(base)
    batch = make_batch(shown.config, f"mlx {name} batch", ROWS)
    before = logits_of(shown, batch)
    logits = logits_of(apply(shown, target), batch)
    require_moved(f"mlx {name}", before, logits)
    theirs = by_mlx(MODELS / base, target, batch["input_ids"]).masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, 0)
    far = (theirs - logits).abs().max().item()
    assert far <= tolerance(logits), (name, far)
    del batch["token_labels"]
    save_tensors(target / "io.safetensors", {**batch, "logits": logits}, __file__, f"mlx {name}")
    save_json(target / "case.json", {"base": base, **provenance(__file__, f"mlx {name}"), "mlx": version("mlx"),
                                     "mlx_lm": version("mlx-lm"), "names": sorted(adapter)})
    print(f"{name}: {len(adapter)} tensors, MLX's logits differ by {far:.2e}")


def main():
    mx.set_default_device(mx.cpu)
    for name, (base, config) in CASES.items():
        write(name, base, config)


if __name__ == "__main__":
    main()
