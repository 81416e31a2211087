"""Writes tests/golden/unets: tiny UNets as diffusers saves them, with outputs, and adapters that PEFT saved of them with
outputs, gradients and ten AdamW steps. Names as arguments make some of them. Run by itself, with requirements-unets.txt."""
from common import (GOLDEN, OPTIMIZER, generator, normal, provenance, require_equal, require_moved, save_json,
                    save_tensors, seed_of, training_record)

import copy
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from make_adapters import fill, trained_by_key
from peft import LoHaConfig, LoraConfig, OFTConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

UNETS = GOLDEN / "unets"
warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()


@dataclass
class UNet:
    name: str
    config: dict
    shows: str
    off: list = field(default_factory=list)    # (what, changes of the config or a function on the model): moves outputs
    size: tuple = (8, 8)                       # rows and columns of the pictures
    kind: type = UNet2DModel


@dataclass
class Case:
    name: str
    base: str
    config: object
    shows: str
    spread: dict = field(default_factory=dict)
    from_start: bool = False
    foreign_bases: bool = False


def zeroed(part):
    def change(model):
        for key, value in model.named_parameters():
            if part in key:
                value.data.zero_()
    return change


def pixels():
    small = {"block_out_channels": [4, 8], "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 8}
    two = {**small, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
           "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
    yield UNet("pixels", {**two, "in_channels": 2, "out_channels": 3, "center_input_sample": True, "norm_eps": 0.05,
                          "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0,
                          "attention_head_dim": None},
               "one head, an asymmetric padding, sines before cosines: DDPM's own network",
               [("center_input_sample", {"center_input_sample": False}), ("flip_sin_to_cos", {"flip_sin_to_cos": True}),
                ("freq_shift", {"freq_shift": 0}), ("downsample_padding", {"downsample_padding": 1}),
                ("norm_eps", {"norm_eps": 1e-5}), ("attention_head_dim", {"attention_head_dim": 4}),
                ("attention", zeroed("to_out"))])
    yield UNet("classes", {**two, "num_class_embeds": 5, "attention_head_dim": 2, "layers_per_block": 2,
                           "mid_block_scale_factor": 1.5, "time_embedding_dim": 10, "sample_size": [8, 12]},
               "classes, heads, two layers a stage, a middle that is scaled, oblong pictures",
               [("classes", zeroed("class_embedding")), ("attention_head_dim", {"attention_head_dim": 4}),
                ("mid_block_scale_factor", {"mid_block_scale_factor": 1}), ("flip_sin_to_cos", {"flip_sin_to_cos": False})],
               size=(8, 12))
    yield UNet("scale_shift", {**small, "block_out_channels": [4, 4, 8], "resnet_time_scale_shift": "scale_shift",
                               "down_block_types": ["AttnDownBlock2D", "ResnetDownsampleBlock2D", "DownBlock2D"],
                               "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D", "UpBlock2D"],
                               "downsample_type": "resnet", "upsample_type": "resnet", "attn_norm_num_groups": 4,
                               "attention_head_dim": 4, "num_class_embeds": 3},
               "a time that scales and shifts, ResNet blocks that halve and double: the networks of Dhariwal and Nichol",
               [("the time", zeroed("time_emb_proj"))])
    small["block_out_channels"] = two["block_out_channels"] = [4, 4]
    yield UNet("without_attention", {**small, "down_block_types": ["DownBlock2D"] * 2,
                                     "up_block_types": ["UpBlock2D"] * 2, "add_attention": False},
               "a middle without attention")
    yield UNet("without_middle", {**small, "down_block_types": ["DownBlock2D"] * 2,
                                  "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None}, "no middle")
    yield UNet("without_norm", {**two, "resnet_time_scale_shift": "scale_shift", "attention_head_dim": 4},
               "attention in the middle without a norm")


def texts():
    small = {"block_out_channels": [4, 8], "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 8,
             "in_channels": 4, "out_channels": 4, "cross_attention_dim": 6,
             "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
             "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
    yield UNet("text", {**small, "attention_head_dim": 2}, "Stable Diffusion 1: two heads, projections by convolutions",
               [("heads", {"attention_head_dim": 4}), ("the text", zeroed("attn2.to_v")), ("the gate", zeroed("net.0.proj"))],
               kind=UNet2DConditionModel)
    yield UNet("text_linear", {**small, "attention_head_dim": [1, 4], "use_linear_projection": True,
                               "upcast_attention": True, "transformer_layers_per_block": 2},
               "Stable Diffusion 2: heads of each stage, linear projections; sides that cannot be halved",
               [("heads", {"attention_head_dim": [4, 1]})], size=(7, 9), kind=UNet2DConditionModel)


ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]


def lora(**options):
    return LoraConfig(**{"r": 2, "lora_alpha": 5, "target_modules": ATTENTION, **options})


def adapters():
    yield Case("lora_attention", "pixels", lora(), "the layers that diffusers' scripts choose")
    yield Case("lora_convolutions", "pixels",
               lora(target_modules=["conv1", "conv_shortcut", "conv", "conv_in", "conv_out", "time_emb_proj", "linear_1"]),
               "kernels of 3 and of 1, strides, asymmetric padding, and the time's layers")
    yield Case("lora_norms", "classes", lora(target_modules=["to_q", "class_embedding"],
                                             modules_to_save=["conv_norm_out", "group_norm", "norm2"]),
               "norms that train whole, and classes")
    yield Case("lora_bias", "without_norm", lora(bias="all", r=1, target_modules=["time_emb_proj", "to_v"]), "every bias trains")
    yield Case("loha", "scale_shift", LoHaConfig(r=1, alpha=3, target_modules=["mid_block.resnets.0.conv2", "to_q"]), "LoHa")
    yield Case("oft", "pixels", OFTConfig(oft_block_size=4, target_modules=["to_q", "to_v", "time_emb_proj"]), "OFT")
    yield Case("dora_text", "text", lora(use_dora=True, target_modules=["to_q", "attn2.to_k", "ff.net.0.proj", "ff.net.2",
                                                                       "proj_in", "proj_out"]), "DoRA")
    yield Case("lora_text", "text_linear", lora(target_modules=["attn2.to_v", "to_out.0", "proj_in"]),
               "layers that read a text")


def fan_in(value):
    return value[0].numel() if value.dim() > 1 else 1


def randomise(model, name):
    rng = generator(name)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.copy_(normal(value.shape, 0.3, rng))
            elif "norm" in key:
                value.copy_(normal(value.shape, 0.3, rng, mean=1.0))
            else:
                std = 1.0 if "class_embedding" in key else 1.4 * fan_in(value) ** -0.5
                value.copy_(normal(value.shape, std, rng))
    return model.eval()


def load(name):
    case = CASES[name]
    return case.kind.from_pretrained(UNETS / name, torch_dtype=torch.float32).eval()


def batch_of(case, name, rows=3):
    rng = generator(name)
    config = case.config
    channels = config.get("in_channels", 3)
    batch = {"sample": normal((rows, channels, *case.size), 1.0, rng),
             "timesteps": torch.tensor([3, 250, 999][:rows]),
             "target": normal((rows, config.get("out_channels", 3), *case.size), 1.0, rng)}
    if "num_class_embeds" in config:
        batch["class_labels"] = torch.randint(0, config["num_class_embeds"], (rows,), generator=rng)
    if case.kind is UNet2DConditionModel:
        batch["encoder_hidden_states"] = normal((rows, 5, config["cross_attention_dim"]), 1.0, rng)
    return batch


def output_of(model, batch):
    dtype = next(model.parameters()).dtype
    more = {}
    if "class_labels" in batch:
        more["class_labels"] = batch["class_labels"]
    if "encoder_hidden_states" in batch:
        more["encoder_hidden_states"] = batch["encoder_hidden_states"].to(dtype)
    return model(batch["sample"].to(dtype), batch["timesteps"], **more).sample


def outputs(model, batch):
    with torch.no_grad():
        return output_of(model, batch)


def changed(case, change):
    if isinstance(change, dict):
        model = case.kind(**{**case.config, **change}).eval()
        model.load_state_dict(load(case.name).state_dict())
        return model
    model = load(case.name)
    change(model)
    return model


def require_old_names(case, batch, expected):
    """diffusers reads the names of its first versions as ours are read."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copy(UNETS / case.name / "config.json", folder)
        file = "diffusion_pytorch_model.safetensors"
        old = load_file(UNETS / case.name / file)
        for new, name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            old = {key.replace(f".{new}.", f".{name}."): value for key, value in old.items()}
        save_file(old, folder / file, metadata={"format": "pt"})
        require_equal("old names", expected, outputs(case.kind.from_pretrained(folder).eval(), batch), at_most=0)


def write_unet(case):
    folder = UNETS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed_of(case.name))
    randomise(case.kind(**case.config).float(), case.name).save_pretrained(folder)
    batch = batch_of(case, case.name + " batch")
    model = load(case.name)
    expected = outputs(model, batch)
    for what, change in case.off:
        require_moved(f"{case.name}: {what}", expected, outputs(changed(case, change), batch))
    if case.name == "pixels":
        require_old_names(case, batch, expected)
    double = load(case.name).double()
    tensors = {**batch, "output": expected, "output64": outputs(double, batch)}
    require_equal(f"{case.name} float64", expected, tensors["output64"])
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)


def loss_of(model, batch):
    return torch.nn.functional.mse_loss(output_of(model, batch), batch["target"].double())


def write_adapter(case):
    folder, base = UNETS / case.name, CASES[case.base]
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed_of(case.name))
    batches = [batch_of(base, f"{case.name} batch {i}") for i in range(2)]
    model = get_peft_model(load(case.base), copy.deepcopy(case.config)).eval()
    fill(model, case)
    before = outputs(model, batches[0])
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    model = PeftModel.from_pretrained(load(case.base), folder, is_trainable=True).eval()
    output = outputs(model, batches[0])
    require_equal(f"{case.name} reloaded", before, output, at_most=0.05)
    require_moved(f"{case.name}: the adapter", output, outputs(load(case.base), batches[0]))
    model = model.double()
    tensors = {**batches[0], **{f"batch1.{k}": v for k, v in batches[1].items()}, "output": output,
               "output64": outputs(model, batches[0])}
    require_equal(f"{case.name} float64", output, tensors["output64"])
    trained = trained_by_key(model)
    tensors |= training_record(trained, lambda batch: loss_of(model, batch), batches)
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "base": case.base, "shows": case.shows, "optimizer": OPTIMIZER,
                                     "trained": sorted(trained),
                                     "provenance": {**provenance(__file__, case.name),
                                                    "diffusers": diffusers.__version__}})


CASES = {case.name: case for group in (pixels, texts) for case in group()}


def main():
    only = sys.argv[1:]
    for case in CASES.values():
        if not only or case.name in only:
            write_unet(case)
            print(f"  {case.name}", flush=True)
    for case in adapters():
        if not only or case.name in only:
            write_adapter(case)
            print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
