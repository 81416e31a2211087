"""Writes the models of images of tests/golden/models: ViT, DeiT and DINOv2, with and without registers."""
from common import (MODELS, Widened, generator, inputs_of, load_base, logits_of, make_image_batch, model_loss, normal,
                    randomise, require_equal, require_moved, save_json, save_tensors, seed_of, stretching, task_loss,
                    widen)

import itertools
import shutil
import sys
from dataclasses import dataclass, field

import torch
import transformers
from transformers import DeiTConfig, Dinov2Config, Dinov2WithRegistersConfig, PreTrainedConfig, ViTConfig

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
CLASSES = {"vit": "ViT", "deit": "DeiT", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}


@dataclass
class Vision:
    name: str
    config: PreTrainedConfig
    shows: str
    off: list = field(default_factory=list)    # (what, changes of the config or a function on the model): moves logits
    head: str = "ForImageClassification"       # the end of the class that is saved
    size: tuple = None                         # (height, width) of the images, where it is not the model's
    least: dict = field(default_factory=dict)  # by what: tolerances that it moves, where not 100


def vit(**changes):
    return ViTConfig(**{**SHAPE, "intermediate_size": 24, "num_labels": 3, **changes})


def deit(**changes):
    return DeiTConfig(**{**SHAPE, "intermediate_size": 24, "num_labels": 3, **changes})


def dinov2(kind=Dinov2Config, **changes):
    return kind(**{**SHAPE, "mlp_ratio": 2, "num_labels": 3, **changes})


def registers(**changes):
    return dinov2(Dinov2WithRegistersConfig, **changes)


# ---- what a case changes in the loaded model to switch its feature off

def zeroed(part):
    def change(model):
        for key, value in model.named_parameters():
            if part in key:
                value.data.zero_()
    return change


def ones_in(part):
    def change(model):
        for key, value in model.named_parameters():
            if part in key:
                value.data.fill_(1)
    return change


def stretched(**changes):
    """Positions stretched otherwise than the model does it."""
    def change(model):
        embeddings = model.base_model.embeddings
        own = embeddings.interpolate_pos_encoding

        def call(*args):
            interpolate = torch.nn.functional.interpolate
            torch.nn.functional.interpolate = lambda *a, **k: interpolate(*a, **{**k, **changes})
            try:
                return own(*args)
            finally:
                torch.nn.functional.interpolate = interpolate
        embeddings.interpolate_pos_encoding = call
    return change


def turned_positions(model):
    """The picture of positions with rows and columns exchanged."""
    embeddings = model.base_model.embeddings
    own = embeddings.interpolate_pos_encoding

    def call(states, height, width):
        found = own(states, width, height)
        before = found.shape[1] - (height // 4) * (width // 4)
        picture = found[:, before:].unflatten(1, (width // 4, height // 4)).transpose(1, 2).flatten(1, 2)
        return torch.cat((found[:, :before], picture), 1)
    embeddings.interpolate_pos_encoding = call


def registers_behind(model):
    """Registers behind the patches, where the classifier takes the last ones for patches."""
    count = model.config.num_register_tokens
    embeddings, own = model.base_model.embeddings, model.base_model.embeddings.forward

    def call(*args, **kwargs):
        x = own(*args, **kwargs)
        return torch.cat((x[:, :1], x[:, 1 + count:], x[:, 1:1 + count]), 1)
    embeddings.forward = call


# ---- cases

def vits():
    yield Vision("vit_cls", vit(), "the first token's class",
                 [("first token", zeroed("cls_token")), ("positions", zeroed("position_embeddings"))])
    yield Vision("vit_reg", vit(num_labels=1, qkv_bias=False, layer_norm_eps=0.05),
                 "one label; queries, keys and values without biases",
                 [("layer_norm_eps", {"layer_norm_eps": 1e-12})])
    yield Vision("vit_several", vit(problem_type="multi_label_classification", hidden_act="gelu_new"),
                 "several labels a row, gelu_new", [("activation", {"hidden_act": "gelu"})], least={"activation": 1})
    yield Vision("vit_oblong", vit(image_size=[12, 24], patch_size=[4, 6], hidden_act="relu"),
                 "images and patches with sides of their own, relu", [("activation", {"hidden_act": "gelu"})])
    yield Vision("vit_stretched", vit(), "images of another size and shape: positions are stretched",
                 [("antialias", stretched(antialias=True)), ("rows and columns", turned_positions)], size=(24, 12))
    yield Vision("vit_uneven", vit(image_size=18), "images that are no whole number of patches, as SigLIP's of 384 in 14")
    yield Vision("vit_bare", vit(), "a ViTModel with its pooler and no classifier", head="Model")


def deits():
    yield Vision("deit_cls", deit(), "a second token, whose class nobody reads",
                 [("second token", zeroed("distillation_token")), ("positions", zeroed("position_embeddings"))])
    yield Vision("deit_stretched", deit(), "two tokens before the positions that are stretched",
                 [("antialias", stretched(antialias=True)), ("rows and columns", turned_positions)], size=(12, 20))
    yield Vision("deit_teacher", deit(), "a pair of classifiers, and none of the first token alone",
                 head="ForImageClassificationWithTeacher")


def dinov2s():
    yield Vision("dinov2_cls", dinov2(mlp_ratio=4), "scaled sublayers; the mean of the patches beside the first token",
                 [("layer_scale1", ones_in("layer_scale1")), ("layer_scale2", ones_in("layer_scale2"))])
    yield Vision("dinov2_gated", dinov2(use_swiglu_ffn=True, qkv_bias=False, use_mask_token=False),
                 "a gate of 24: two thirds of 32, to the next multiple of 8")
    yield Vision("dinov2_stretched", dinov2(image_size=28), "images smaller than those of training",
                 [("antialias", stretched(antialias=True)), ("rows and columns", turned_positions)], size=(16, 12))
    yield Vision("dinov2_uneven", dinov2(image_size=15), "the same of another size", size=(23, 18))
    yield Vision("dinov2_drop_path", dinov2(drop_path_rate=0.25), "rows that go without sublayers in training")
    yield Vision("dinov2_bare", dinov2(), "a Dinov2Model, as it is published", head="Model")


def with_registers():
    off = [("no antialias", stretched(antialias=False)), ("rows and columns", turned_positions)]
    yield Vision("dinov2_registers", registers(), "four registers between the first token and the patches",
                 [("registers", zeroed("register_tokens")), ("order", registers_behind)])
    yield Vision("dinov2_registers_larger", registers(), "images larger than those of training, antialiased", off,
                 size=(24, 20), least={"no antialias": 30})
    yield Vision("dinov2_registers_smaller", registers(image_size=28, use_swiglu_ffn=True, num_register_tokens=2),
                 "images smaller than those of training, antialiased", off, size=(16, 12))
    yield Vision("dinov2_registers_none", registers(num_register_tokens=0), "no register at all")


GROUPS = [vits, deits, dinov2s, with_registers]


# ---- files

def processor_of(case):
    """What transformers writes for the kind of processor that the family is published with."""
    own = case.config.image_size
    height, width = case.size or (own if isinstance(own, (list, tuple)) else (own, own))
    kind = {"vit": "ViTImageProcessor", "deit": "DeiTImageProcessor"}.get(case.config.model_type, "BitImageProcessor")
    return {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": kind, "image_std": [0.5, 0.5, 0.5], "resample": 2,
            "rescale_factor": 1 / 255, "size": {"height": height, "width": width}}


def save(case):
    folder = MODELS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed_of(case.name))
    model = getattr(transformers, CLASSES[case.config.model_type] + case.head)(case.config).float()
    randomise(model, case.name).save_pretrained(folder)
    save_json(folder / "preprocessor_config.json", processor_of(case))


def changed(case, change):
    if isinstance(change, dict):
        return load_base(case.name, **change)
    model = load_base(case.name)
    change(model)
    return model


def check_features(case, batch, logits):
    for what, change in case.off:
        require_moved(f"{case.name}: {what}", logits, logits_of(changed(case, change), batch),
                      at_least=case.least.get(what, 100))


class Kept(torch.nn.Module):
    """A sublayer's share of the residual sum in training: gone, or scaled for those that are."""

    def __init__(self, rate, kept):
        super().__init__()
        self.factors = [keep / (1 - rate) for keep in kept]

    def forward(self, x):
        self.factors.append(factor := self.factors.pop(0))
        return x * factor


def without_sublayers(case, batch):
    """Logits of each row for every choice of sublayers to go without: [choices, rows, labels]."""
    found = []
    for choice in itertools.product((0, 1), repeat=2 * case.config.num_hidden_layers):
        model = load_base(case.name)
        for i, layer in enumerate(model.base_model.encoder.layer):
            layer.drop_path = Kept(case.config.drop_path_rate, choice[2 * i:2 * i + 2])
        with Widened():
            found.append(logits_of(widen(model), batch))
    return torch.stack(found)


def write_case(case):
    save(case)
    model = load_base(case.name)
    batch = make_image_batch(model.config, case.name + " batch", 4, case.size)
    logits = logits_of(model, batch)
    check_features(case, batch, logits)
    tensors = {**batch, "logits": logits}
    double = load_base(case.name)
    with Widened():
        widen(double)
        tensors["logits64"] = logits_of(double, batch)
        with torch.no_grad():
            loss = model_loss(double, batch)
    require_equal(f"{case.name} float64", logits, tensors["logits64"])
    assert loss.dtype == torch.float64 and torch.allclose(loss, task_loss(tensors["logits64"], batch))
    if getattr(case.config, "drop_path_rate", 0):
        tensors["dropped.logits64"] = without_sublayers(case, batch)
    save_tensors(MODELS / case.name / "io.safetensors", {**tensors, "loss64": loss.reshape(1)}, __file__, case.name)


def write_headless(case):
    """A checkpoint without a classifier; io.safetensors brings one, under the names it has in the model."""
    save(case)
    kind = getattr(transformers, CLASSES[case.config.model_type] + "ForImageClassification")
    model, report = kind.from_pretrained(MODELS / case.name, dtype=torch.float32, attn_implementation="eager",
                                         output_loading_info=True)
    stretching(model).eval()
    assert report["missing_keys"] == {"classifier.weight", "classifier.bias"}
    rng = generator(case.name + " head")
    head = dict(model.classifier.named_parameters(prefix="classifier"))
    with torch.no_grad():
        for value in head.values():
            value.copy_(normal(value.shape, 0.4, rng))
    batch = make_image_batch(model.config, case.name + " batch", 4, case.size)
    tensors = {**batch, **{k: v.clone() for k, v in head.items()}, "logits": logits_of(model, batch)}
    with Widened():
        tensors["logits64"] = logits_of(widen(model), batch)
    require_equal(f"{case.name} float64", tensors["logits"], tensors["logits64"])
    save_tensors(MODELS / case.name / "io.safetensors", tensors, __file__, case.name)


def main():
    only = sys.argv[1:]
    for group in GROUPS:
        for case in group():
            if not only or case.name in only:
                (write_case if case.head == "ForImageClassification" else write_headless)(case)
                print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
