"""Writes tests/golden/conv: a network of convolutions, and adapters that PEFT saved of it with outputs and gradients."""
from common import (GOLDEN, generator, normal, provenance, require_equal, require_moved, save_json, save_tensors)

import copy
import functools
import shutil
import warnings

import torch
from adapter_cases import Case
from make_adapters import fill, neutral, trained_by_key
from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftModel, get_peft_model
from peft.tuners.oft.layer import Conv2d as OftConv2d
from torch import nn
from torch.nn import functional as F

CONV = GOLDEN / "conv"
EVERY = ["stem", "mixer", "spread", "point", "proj"]
UNDILATED = ["stem", "mixer", "point", "proj"]  # PEFT's LoRA leaves the dilation of a convolution out
warnings.filterwarnings("ignore")


class Net(nn.Module):
    """Images [batch, 3, 8, 10] to logits [batch, 3]; one convolution of every kind."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.mixer = nn.Conv2d(6, 8, (3, 2), stride=(1, 2), padding=(1, 0), bias=False)
        self.spread = nn.Conv2d(8, 6, 3, padding=2, dilation=2)
        self.point = nn.Conv2d(6, 10, 1)
        self.proj = nn.Linear(10, 3)

    def forward(self, x):
        for layer in (self.stem, self.mixer, self.spread, self.point):
            x = torch.tanh(layer(x))
        return self.proj(x.mean((2, 3)))


def base():
    net, rng = Net(), generator("conv base")
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(normal(value.shape, 0.3, rng))
    return net.eval()


def cases():
    def lora(**options):
        return LoraConfig(**{"r": 3, "lora_alpha": 7, "target_modules": UNDILATED, **options})

    yield Case("lora", "", lora(rank_pattern={"point": 2}), "A has the layer's kernel, B a kernel of one")
    yield Case("rslora", "", lora(use_rslora=True, bias="all"), "alpha over the root of r, and every bias")
    yield Case("lora_bias", "", lora(lora_bias=True, target_modules=["stem", "point"]), "B has a bias")
    yield Case("dora", "", lora(use_dora=True), "norms of whole kernels; a magnitude of four dimensions")
    yield Case("loha", "", LoHaConfig(r=2, alpha=5, target_modules=EVERY), "matrices over the flattened kernel")
    yield Case("lokr", "", LoKrConfig(r=1, alpha=5, target_modules=EVERY), "low w2: its second factor has the kernel")
    yield Case("lokr_full", "", LoKrConfig(r=8, alpha=20, decompose_factor=2, target_modules=EVERY),
               "full w2, of four dimensions")
    yield Case("ia3", "", IA3Config(target_modules=EVERY, feedforward_modules=["mixer", "spread"]),
               "one number a channel, of the output or of the input")
    yield Case("oft", "", OFTConfig(oft_block_size=3, target_modules=["stem", "point", "proj"]),
               "blocks of the flattened kernel, as PEFT merges them")


def turned_kernel(layer, x):
    inner, R = layer.get_base_layer(), layer.oft_R["default"].get_weight()
    kernel = (inner.weight.flatten(1) @ R.T).view_as(inner.weight)
    return F.conv2d(x, kernel, inner.bias, inner.stride, inner.padding)


def straighten(model):
    """PEFT's OFT turns patches and lays them over each other again as an image, of which a convolution reads no turned
    patch. What it merges is the turned kernel: that is computed here."""
    for layer in model.modules():
        if isinstance(layer, OftConv2d) and layer.get_base_layer().kernel_size != (1, 1):
            layer.forward = functools.partial(turned_kernel, layer)
    return model


def outputs(model, x):
    with torch.no_grad():
        return model(x)


def check_parts(case, folder, x, logits):
    require_moved(f"{case.name}: the adapter", logits, outputs(base(), x))
    values = dict(base().named_parameters())
    model = straighten(PeftModel.from_pretrained(base(), folder).eval())
    for key, value in stored(model).items():
        kept, value.data = value.data, torch.zeros_like(value)
        off = neutral(key, value, values)
        value.data = kept
        if off is None:
            continue
        value.data = off.data.clone()
        require_moved(f"{case.name}: {key}", logits, outputs(model, x))
        value.data = kept


def stored(model):
    """Every tensor of the file, trained or not, as the model holds it."""
    for name, value in model.named_parameters():
        value.requires_grad_(any(part in name for part in ("lora_", "hada_", "lokr_", "ia3_", "oft_")) or
                             (name.endswith(".bias") and model.peft_config["default"].to_dict().get("bias") == "all"))
    return trained_by_key(model)


def write_case(case, x):
    folder = CONV / case.name
    model = get_peft_model(base(), case.config).eval()
    fill(model, case)
    before = outputs(straighten(copy.deepcopy(model)), x)
    if case.name == "oft":
        require_moved("OFT as PEFT computes it", before, outputs(model, x))  # else straighten() can go
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    model = straighten(PeftModel.from_pretrained(base(), folder).eval())
    logits = outputs(model, x)
    require_equal(f"{case.name} reloaded", before, logits, at_most=0.05)
    check_parts(case, folder, x, logits)

    model = model.double()
    trained = stored(model)
    wide = x.double().requires_grad_()
    logits64 = model(wide)
    require_equal(f"{case.name} float64", logits, logits64)
    weights = normal(logits64.shape, 1.0, generator(case.name + " weights")).double()
    grads = torch.autograd.grad((logits64 * weights).sum(), [wide, *trained.values()])
    tensors = {"logits": logits, "logits64": logits64, "weights": weights, "grad_x": grads[0]}
    tensors |= {f"grad.{key}": grad for key, grad in zip(trained, grads[1:])}
    merged = PeftModel.from_pretrained(base(), folder).eval().double().merge_and_unload()
    require_equal(f"{case.name} merged", logits64.float(), outputs(merged, x.double()).float())
    tensors |= {f"merged.{key}": value for key, value in merged.named_parameters()}
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "peft_type": str(case.config.peft_type.value),
                                     "shows": case.shows, "trained": sorted(trained),
                                     "provenance": provenance(__file__, case.name)})


def main():
    shutil.rmtree(CONV, ignore_errors=True)
    x = normal((4, 3, 8, 10), 1.0, generator("conv x"))
    save_tensors(CONV / "base" / "model.safetensors", dict(base().named_parameters()), __file__, "conv base")
    save_json(CONV / "base" / "config.json", {"model_type": "net"})
    save_tensors(CONV / "base" / "io.safetensors", {"x": x, "logits": outputs(base(), x)}, __file__, "conv base")
    for case in cases():
        write_case(case, x)
        print(f"  {case.name}")


if __name__ == "__main__":
    main()
