"""Writes tests/golden/diffusion_loras: LoRA files of image models in every style of names, with the UNet's outputs; a
pipeline's text encoder; and the names of Stable Diffusion 1.5's layers as kohya's scripts have them. Run by itself, with
requirements-unets.txt, after make_unets.py; names as arguments make some of them.

What diffusers reads is loaded by it before it is believed.
"""
from common import GOLDEN, generator, normal, provenance, require_equal, require_moved, save_json, save_tensors, seed_of

import json
import shutil
import struct
import sys
import warnings
from dataclasses import dataclass, field

import diffusers
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin as Mixin
from diffusers.loaders.lora_conversion_utils import _convert_unet_lora_key
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from make_unets import CASES, batch_of, load, outputs
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

FOLDER = GOLDEN / "diffusion_loras"
DIFFUSERS, KOHYA = "pytorch_lora_weights.safetensors", "style.safetensors"
warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
LINEAR = [*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "time_emb_proj", "time_embedding.linear_1"]
CONV = ["conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "conv_out"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]


@dataclass
class Case:
    name: str
    shows: str
    write: object              # a function on the models and a path
    base: str = "text"
    unet: dict = field(default_factory=dict)
    text: dict = None          # of the text encoder, where the file has one
    file: str = DIFFUSERS
    read_by_diffusers: bool = True


def text_encoder():
    torch.manual_seed(seed_of("text encoder"))
    return CLIPTextModel(CLIPTextConfig(hidden_size=6, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
                                        vocab_size=20, max_position_embeddings=8, projection_dim=6, bos_token_id=0,
                                        eos_token_id=1)).eval()


def adapted(model, config, name):
    """A model with a LoRA whose every tensor is drawn."""
    inject_adapter_in_model(LoraConfig(**config), model)
    rng = generator(name)
    with torch.no_grad():
        for key, value in sorted(model.named_parameters()):
            if "lora_magnitude" in key:
                value.mul_(normal(value.shape, 0.3, rng, mean=1.0))
            elif "lora_" in key:
                value.copy_(normal(value.shape, 0.4, rng))
    return model


def factors_of(model):
    """PEFT's tensors by module: {"mid_block...": {"lora_A": ..., "lora_B": ...}}, and each module's alpha."""
    found = {}
    for key, value in get_peft_model_state_dict(model).items():
        module, kind = key.split(".lora_", 1)
        found.setdefault(module, {})["lora_" + kind.split(".")[0]] = value
    config = next(iter(model.peft_config.values()))
    layers = dict(model.named_modules())
    name = next(iter(model.peft_config))
    alphas = {module: layers[module].scaling[name] * layers[module].r[name] for module in found}
    return found, alphas, config


def metadata_of(model):
    config = next(iter(model.peft_config.values())).to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}


def saved_by_diffusers(convert, metadata):
    """As train_dreambooth_lora.py saves, or with PEFT's keys as they are."""
    def write(unet, text, path):
        layers = {"unet_lora_layers": convert(get_peft_model_state_dict(unet))}
        if text is not None:
            layers["text_encoder_lora_layers"] = convert(get_peft_model_state_dict(text))
        if metadata:
            layers["unet_lora_adapter_metadata"] = metadata_of(unet)
            if text is not None:
                layers["text_encoder_lora_adapter_metadata"] = metadata_of(text)
        Mixin.save_lora_weights(path.parent, **layers)
    return write


def same(state):
    return state


def old(state):
    """diffusers' names before it used PEFT: lora.down and lora.up in every layer."""
    return {k.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."): v for k, v in state.items()}


def of_processors(prefix):
    """The names of the first versions: layers of the attention processors."""
    def write(unet, text, path):
        tensors = {}
        for module, factors in factors_of(unet)[0].items():
            attention, layer = module.rsplit(".to_", 1)
            for kind, end in (("lora_A", "down"), ("lora_B", "up")):
                tensors[f"{prefix}{attention}.processor.to_{layer.split('.')[0]}_lora.{end}.weight"] = factors[kind]
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    return write


def kohya(unet, text, path):
    """The names of sd-scripts' networks/lora.py and LyCORIS: every name is the module's with _ for the dots."""
    tensors = {}
    for prefix, model in (("lora_unet", unet), ("lora_te_text_model", text)):
        if model is None:
            continue
        factors, alphas, _ = factors_of(model)
        for module, own in factors.items():
            name = f"{prefix}.{module}".replace(".", "_")
            tensors[f"{name}.lora_down.weight"] = own["lora_A"]
            tensors[f"{name}.lora_up.weight"] = own["lora_B"]
            tensors[f"{name}.alpha"] = torch.tensor(float(alphas[module]))
            if "lora_magnitude_vector" in own:
                weight = dict(model.named_modules())[module].base_layer.weight
                tensors[f"{name}.dora_scale"] = own["lora_magnitude_vector"].reshape(-1, *[1] * (weight.dim() - 1))
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path,
              metadata={"ss_network_module": "networks.lora"})


def config(**options):
    return {"r": 2, "lora_alpha": 5, "target_modules": LINEAR + CONV, "init_lora_weights": False, **options}


PATTERNS = {"rank_pattern": {"to_q": 1, "conv1": 3}, "alpha_pattern": {"attn1.to_k": 3, "conv2": 7, "ff.net.2": 1}}
ONE = {"lora_alpha": 2}  # the rank


def cases():
    yield Case("peft_names", "names of PEFT and metadata, as diffusers saves what it is given",
               saved_by_diffusers(same, True), unet=config(**PATTERNS))
    yield Case("mixed_names", "attention's old names beside new ones, a text encoder, metadata: diffusers' own scripts",
               saved_by_diffusers(convert_state_dict_to_diffusers, True), unet=config(use_rslora=True),
               text=config(target_modules=TEXT), read_by_diffusers=False)
    yield Case("old_names", "lora.down and lora.up, no alpha", saved_by_diffusers(old, False), unet=config(**ONE))
    yield Case("processors", "the names of attention processors", of_processors("unet."),
               unet=config(target_modules=ATTENTION, **ONE))
    yield Case("bare_processors", "the same without the prefix unet, in pixels' attention", of_processors(""),
               base="pixels", unet=config(target_modules=ATTENTION, **ONE), read_by_diffusers=False)
    yield Case("magnitudes", "DoRA of linear layers and convolutions", saved_by_diffusers(same, True),
               unet=config(use_dora=True, target_modules=["to_q", "conv1", "proj_in", "ff.net.2"]))
    yield Case("linear_projections", "projections that are linear layers", saved_by_diffusers(same, False),
               base="text_linear", unet=config(target_modules=["attn2.to_v", "proj_in", "to_out.0"], **ONE))
    yield Case("kohya", "one alpha beside a text encoder", kohya, unet=config(), text=config(target_modules=TEXT),
               file=KOHYA)
    yield Case("kohya_ranks", "ranks and alphas of each layer: LoCon", kohya, unet=config(**PATTERNS), file=KOHYA,
               read_by_diffusers=False)
    yield Case("kohya_magnitudes", "dora_scale of LyCORIS, which diffusers leaves out", kohya, file=KOHYA,
               unet=config(use_dora=True, target_modules=["to_q", "conv1", "proj_in", "ff.net.2"]),
               read_by_diffusers=False)


def read_by_diffusers(case, path):
    unet = load(case.base)
    state, alphas, metadata = Mixin.lora_state_dict(path.parent, weight_name=path.name, return_lora_metadata=True)
    Mixin.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    return unet.eval()


def settle(path):
    """safetensors writes several keys of metadata in any order; here they stand in theirs."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    if "__metadata__" in header:
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])


def write_case(case):
    folder = FOLDER / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    batch = batch_of(CASES[case.base], case.name + " batch")
    unet = adapted(load(case.base), case.unet, case.name)
    text = adapted(text_encoder(), case.text, case.name + " text") if case.text else None
    output = outputs(unet.eval(), batch)
    require_moved(f"{case.name}: the adapter", output, outputs(load(case.base), batch))
    path = folder / case.file
    case.write(unet, text, path)
    settle(path)
    if case.read_by_diffusers:
        require_equal(f"{case.name} in diffusers", output, outputs(read_by_diffusers(case, path), batch))
    del batch["target"]
    save_tensors(folder / "io.safetensors", {**batch, "output": output}, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "base": case.base, "shows": case.shows, "file": case.file,
                                     "layers": sorted(factors_of(unet)[0]),
                                     "text_layers": sorted(factors_of(text)[0]) if text else [],
                                     "provenance": {**provenance(__file__, case.name),
                                                    "diffusers": diffusers.__version__}})
    print(f"  {case.name}: {path.stat().st_size} bytes", flush=True)


# What kohya's scripts put a LoRA on, sd-scripts' networks/lora.py: all linear layers and convolutions below these.
KOHYA_PARENTS = ("Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D")
SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8,
        "block_out_channels": (320, 640, 1280, 1280)}


def write_sd15():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15)
    state = unet.state_dict()
    assert len(state) == 686 and sum(v.numel() for v in state.values()) == 859520964
    layers = {name: module for name, module in unet.named_modules()
              if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))}
    by_kohya = {}
    for name, parent in unet.named_modules():
        if type(parent).__name__ not in KOHYA_PARENTS:
            continue
        for child_name, child in parent.named_modules():
            if isinstance(child, (torch.nn.Linear, torch.nn.Conv2d)):
                by_kohya[f"{name}.{child_name}"] = f"lora_unet.{name}.{child_name}".replace(".", "_")
    names = set(by_kohya.values())
    assert len(names) == len(by_kohya), "two layers have one name"
    for module, name in by_kohya.items():  # diffusers makes the same of it
        back = _convert_unet_lora_key(name + ".lora_down.weight")
        back = next(iter(convert_unet_state_dict_to_peft({back: 0}))).removesuffix(".lora_A.weight")
        assert back == module, (module, back)
    save_json(FOLDER / "sd15.json", {"layers": list(layers), "kohya": by_kohya,
                                     "outside_kohya": sorted(set(layers) - set(by_kohya)),
                                     "provenance": {**provenance(__file__, "sd15"),
                                                    "diffusers": diffusers.__version__}})
    print(f"  sd15: {len(layers)} layers, {len(by_kohya)} of them kohya's")


def write_text_encoder():
    folder = FOLDER / "text_encoder"
    shutil.rmtree(folder, ignore_errors=True)
    text_encoder().save_pretrained(folder)
    settle(folder / "model.safetensors")
    print(f"  text_encoder: {sorted(load_file(folder / 'model.safetensors'))[:3]}")


def main():
    only = sys.argv[1:]
    for case in cases():
        if not only or case.name in only:
            write_case(case)
    if not only or "sd15" in only:
        write_sd15()
    if not only or "text_encoder" in only:
        write_text_encoder()


if __name__ == "__main__":
    main()
