"""Writes tests/golden/dialects: models of images whose modules transformers 5 has under other names in memory than their
files, and adapters that PEFT saved of them, in both kinds of names, with logits.

PEFT names modules as they are in memory: "new" is what it saves over transformers 5, "old" what it saved over
transformers 4, whose names in memory were those of the files. transformers 5 is at hand here, so the old files are the
new ones renamed, and their configurations are written out below.
"""
from common import (GOLDEN, generator, normal, provenance, randomise, require_equal, require_moved, save_json,
                    save_tensors, seed_of)

import json
import re
import shutil
import warnings
from dataclasses import dataclass, field

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageClassification, Dinov2Config, ViTConfig

DIALECTS = GOLDEN / "dialects"
START = "base_model.model."
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
         "num_labels": 3}
MODELS = {"vit": ViTConfig(intermediate_size=24, **SHAPE), "dinov2": Dinov2Config(mlp_ratio=2, **SHAPE),
          "gated": Dinov2Config(mlp_ratio=2, use_swiglu_ffn=True, **SHAPE)}
ATTENTION = [(r"attention\.q_proj", "attention.attention.query"), (r"attention\.k_proj", "attention.attention.key"),
             (r"attention\.v_proj", "attention.attention.value"), (r"attention\.o_proj", "attention.output.dense")]
OLD_NAMES = {"vit": [(r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."), (r"mlp\.fc1", "intermediate.dense"),
                     (r"mlp\.fc2", "output.dense"), *ATTENTION],
             "dinov2": [*ATTENTION, (r"mlp\.down_proj", "mlp.weights_out")]}
warnings.filterwarnings("ignore")


@dataclass
class Dialect:
    name: str
    base: str
    new: PeftConfig
    old: dict = field(default_factory=dict)  # keys of the old adapter_config.json; none: there is no such adapter
    bare: bool = False                       # PEFT wraps the model without a head


def lora(**options):
    return LoraConfig(**{"r": 2, "lora_alpha": 4, "modules_to_save": ["classifier"], **options})


CASES = [
    Dialect("ranks", "vit", lora(target_modules=["q_proj", "v_proj"], rank_pattern={"layers.0.attention.q_proj": 3},
                                 alpha_pattern={"v_proj": 8, r"layers\.1.*q_proj": 6}),
            {"target_modules": ["query", "value"], "rank_pattern": {"encoder.layer.0.attention.attention.query": 3},
             "alpha_pattern": {"value": 8, r"layer\.1.*query": 6}}),
    Dialect("expression", "vit", lora(target_modules=r".*layers\.\d+\.(attention\.(q|o)_proj|mlp\.fc2)", use_dora=True),
            {"target_modules": r".*layer\.\d+\.(attention\.attention\.query|attention\.output\.dense|output\.dense)"}),
    Dialect("all_linear", "vit", lora(target_modules="all-linear", exclude_modules=["fc1", "layers.0.attention.k_proj"]),
            {"exclude_modules": ["intermediate.dense", "layer.0.attention.attention.key"]}),
    Dialect("numbered", "vit", lora(target_modules=["q_proj", "fc1"], layers_to_transform=[1], layers_pattern="layers"),
            {"target_modules": ["query", "intermediate.dense"], "layers_pattern": ["layer"]}),
    Dialect("saved", "vit", lora(target_modules=["k_proj"], modules_to_save=["classifier", "fc1", "layernorm_before"],
                                 bias="lora_only"),
            {"target_modules": ["key"], "modules_to_save": ["classifier", "intermediate.dense", "layernorm_before"]}),
    Dialect("ia3", "vit", IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"],
                                    modules_to_save=["classifier"]),
            {"target_modules": r".*(key|value|\d\.output\.dense)", "feedforward_modules": r".*\d\.output\.dense"}),
    Dialect("bare", "vit", lora(target_modules=["q_proj", "o_proj"], modules_to_save=None),
            {"target_modules": ["query", "attention.output.dense"]}, bare=True),
    Dialect("dino", "dinov2", lora(target_modules=["q_proj", "o_proj", "fc2"], use_dora=True),
            {"target_modules": ["query", "attention.output.dense", "fc2"]}),
    Dialect("dino_feed", "dinov2", lora(target_modules="all-linear", exclude_modules=r".*attention\..*_proj"),
            {"exclude_modules": r".*attention\..*"}),
    Dialect("gated", "gated", lora(target_modules=["v_proj", "down_proj"]), {"target_modules": ["value", "weights_out"]}),
    Dialect("gate", "gated", lora(target_modules=["gate_proj", "up_proj"])),
]


def old_name(base, name):
    for pattern, other in OLD_NAMES["vit" if base == "vit" else "dinov2"]:
        name = re.sub(pattern, other, name)
    return name


def load(base, kind=AutoModelForImageClassification):
    model = kind.from_pretrained(DIALECTS / "models" / base, dtype=torch.float32, attn_implementation="eager").eval()
    model.name_or_path = model.config._name_or_path = base
    return model


def logits_of(model, pixels):
    with torch.no_grad():
        return model(pixel_values=pixels).logits


def fill(model, name):
    rng = generator(name)
    state = get_peft_model_state_dict(model)
    with torch.no_grad():
        for key in sorted(state):
            value = state[key]
            if "magnitude" in key or "ia3" in key:
                value.mul_(normal(value.shape, 0.4, rng, mean=1.0))
            elif "lora_" in key:
                value.copy_(normal(value.shape, 0.4, rng))
            else:
                value.add_(normal(value.shape, 0.3, rng))


def with_prefix(folder, prefix):
    """The adapter of a bare model as one of the model with a head."""
    target = folder.with_name("headed")
    shutil.copytree(folder, target)
    path = target / "adapter_model.safetensors"
    save_file({START + prefix + "." + k.removeprefix(START): v for k, v in load_file(path).items()}, path,
              metadata={"format": "pt"})
    return target


def write_old(case, new, old):
    old.mkdir()
    tensors = load_file(new / "adapter_model.safetensors")
    save_file({START + old_name(case.base, k.removeprefix(START)): v for k, v in tensors.items()},
              old / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((new / "adapter_config.json").read_text())
    if isinstance(config["target_modules"], list):  # those of all-linear are whole names
        config["target_modules"] = sorted(old_name(case.base, name) for name in config["target_modules"])
    save_json(old / "adapter_config.json", {**config, **case.old})


def write_case(case):
    folder = DIALECTS / case.name
    pixels = normal((2, 3, 16, 16), 1.0, generator(case.name + " pixels"))
    headed = load(case.base)
    prefix = headed.base_model_prefix
    torch.manual_seed(seed_of(case.name))
    model = get_peft_model(load(case.base, AutoModel) if case.bare else load(case.base), case.new).eval()
    fill(model, case.name)
    model.save_pretrained(folder / "new")
    (folder / "new" / "README.md").unlink()
    plain = logits_of(headed, pixels)
    read = with_prefix(folder / "new", prefix) if case.bare else folder / "new"
    logits = logits_of(PeftModel.from_pretrained(headed, read).eval(), pixels)
    require_moved(f"{case.name}: the adapter", logits, plain)
    if case.bare:
        shutil.rmtree(read)
    else:
        require_equal(f"{case.name} reloaded", logits_of(model, pixels), logits, at_most=0.05)
    if case.old:
        write_old(case, folder / "new", folder / "old")
    save_tensors(folder / "io.safetensors", {"pixel_values": pixels, "logits": logits}, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "base": case.base, "bare": case.bare, "prefix": prefix,
                                     "provenance": provenance(__file__, case.name)})


def main():
    shutil.rmtree(DIALECTS, ignore_errors=True)
    for name, config in MODELS.items():
        torch.manual_seed(seed_of(name))
        randomise(AutoModelForImageClassification.from_config(config), "dialects " + name).save_pretrained(
            DIALECTS / "models" / name)
    for case in CASES:
        write_case(case)
        print(f"  {case.name}")


if __name__ == "__main__":
    main()
