"""Lets diffusers read the LoRA files that the program writes of PEFT's adapters, and compares the UNet's outputs with
PEFT's; and those of a pipeline's UNet and text encoder with diffusers' own.

    python oracle/check_diffusion_loras.py DELTAW [NAME ...]

Needs requirements-unets.txt. Prints one JSON object a line for each file and exits with 1 when one cannot be written or
loaded, when a factor in it is not used, or when an output differs by more than 1e-4 max(1, |outputs|).
"""
from common import GOLDEN, tolerance

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import diffusers
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin as Mixin
from make_adapters import fill
from make_unets import CASES, UNETS, Case, batch_of, load, outputs
from peft import LoHaConfig, LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

LAYERS = ["to_q", "attn2.to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "conv1", "conv_shortcut", "conv_out",
          "time_emb_proj", "time_embedding.linear_1"]
FILES = {"diffusers": "pytorch_lora_weights.safetensors", "kohya": "lora.safetensors"}


def lora(**options):
    return LoraConfig(**{"r": 2, "lora_alpha": 5, "target_modules": LAYERS, **options})


def adapters():
    ranks = {"rank_pattern": {"to_q": 1, "conv1": 3}, "alpha_pattern": {"to_q": 3, "conv_out": 7}}
    yield Case("lora", "text", lora(), "one rank")
    yield Case("lora_ranks", "text", lora(**ranks), "ranks and alphas of each layer")
    yield Case("lora_linear", "text_linear", lora(use_rslora=True), "linear projections, rsLoRA")
    yield Case("dora", "text", lora(use_dora=True, target_modules=["to_q", "conv1", "proj_in", "ff.net.2"]), "DoRA")
    yield Case("loha", "text", LoHaConfig(r=1, alpha=3, target_modules=["to_q", "to_v"]), "cut to a rank that keeps it all")


def write_peft(case, folder):
    """An adapter of PEFT and the outputs with it."""
    torch.manual_seed(1)
    model = get_peft_model(load(case.base), case.config).eval()
    fill(model, case)
    model.save_pretrained(folder)
    return outputs(model, batch_of(CASES[case.base], case.name))


def read_by_diffusers(base, file):
    unet = load(base)
    state, alphas, metadata = Mixin.lora_state_dict(file.parent, weight_name=file.name, return_lora_metadata=True)
    Mixin.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    return unet.eval()


def check(case, wanted, file):
    batch = batch_of(CASES[case.base], case.name)
    unet = read_by_diffusers(case.base, file)
    output, plain = outputs(unet, batch), outputs(load(case.base), batch)
    used = sum(isinstance(module, BaseTunerLayer) for module in unet.modules())
    held = sum(key.endswith((".lora_A.weight", ".lora_down.weight")) for key in load_file(file))
    difference = (output - wanted).abs().max().item()
    problems = [] if used == held else [f"{used} layers are adapted, and the file has {held}"]
    if not difference <= tolerance(output):
        problems.append(f"outputs differ by {difference:.3g}, more than {tolerance(output):.3g}")
    return {"layers": used, "largest_difference": difference, "tolerance": tolerance(output),
            "adapter_moves": (output - plain).abs().max().item(), "problems": problems}


def write_by_deltaw(deltaw, verb, case, source, target, to):
    given = [source] if verb == "convert" else ["--adapter_name_or_path", source, "--dtype", "float32"]
    if isinstance(case.config, LoHaConfig):
        given += ["--rank", "4"]
    done = subprocess.run([deltaw, verb, *given, "--model_name_or_path", UNETS / case.base, "--to", to, "--output_dir",
                           target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target / FILES[to]


def ways(case):
    """Verbs and formats. diffusers leaves out dora_scale, and takes one alpha for all in kohya's files, which a conversion
    does not change."""
    for to in FILES:
        if to == "kohya" and case.name == "dora":
            continue
        yield "export", to
        if not isinstance(case.config, LoHaConfig) and not (to == "kohya" and case.name == "lora_ranks"):
            yield "convert", to


def outputs_of_pipeline(name, folder=None, file=None):
    """What UNet and text encoder make of one prompt, and how many layers of either are adapted."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(GOLDEN / "pipelines" / name, torch_dtype=torch.float32)
    if folder:
        pipeline.load_lora_weights(folder, weight_name=file)
    ids = pipeline.tokenizer("a photo of sks dog", padding="max_length", return_tensors="pt").input_ids
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = pipeline.unet.eval()(latents, torch.tensor([500]), pipeline.text_encoder.eval()(ids)[0]).sample
    return said, [sum(isinstance(module, BaseTunerLayer) for module in part.modules())
                  for part in (pipeline.unet, pipeline.text_encoder)]


def check_both(deltaw, folder, verb, to):
    """An adapter of both parts that diffusers wrote, written again by the program."""
    source, base = GOLDEN / "pipelines" / "first_texts", GOLDEN / "pipelines" / "first"
    given = [source] if verb == "convert" else ["--adapter_name_or_path", source, "--dtype", "float32"]
    done = subprocess.run([deltaw, verb, *given, "--model_name_or_path", base, "--to", to, "--output_dir", folder],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain, _ = outputs_of_pipeline("first")
    wanted, layers = outputs_of_pipeline("first", source, FILES["diffusers"])
    said, own = outputs_of_pipeline("first", folder, FILES[to])
    difference = (said - wanted).abs().max().item()
    problems = [] if own == layers and min(own) > 0 else [f"{own} layers are adapted, and were {layers}"]
    if not difference <= tolerance(wanted):
        problems.append(f"outputs differ by {difference:.3g}, more than {tolerance(wanted):.3g}")
    return {"layers": own, "largest_difference": difference, "tolerance": tolerance(wanted),
            "adapter_moves": (wanted - plain).abs().max().item(), "problems": problems}


def print_report(name, verb, to, run):
    try:
        report = run()
    except Exception as problem:  # what one cannot load says nothing of the others
        report = {"problems": [f"{type(problem).__name__}: {problem}"]}
    print(json.dumps({"adapter": name, "verb": verb, "to": to, **report}), flush=True)
    return bool(report["problems"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deltaw", type=Path)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    failed = False
    for case in adapters():
        if given.names and case.name not in given.names:
            continue
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            wanted = write_peft(case, folder / "peft")
            for verb, to in ways(case):
                failed |= print_report(case.name, verb, to, lambda: check(case, wanted, write_by_deltaw(
                    given.deltaw, verb, case, folder / "peft", folder / f"{verb}_{to}", to)))
    if not given.names or "both" in given.names:
        for verb in ("export", "convert"):
            for to in FILES:
                with tempfile.TemporaryDirectory() as made:
                    failed |= print_report("both", verb, to, lambda: check_both(given.deltaw, Path(made) / "out", verb, to))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
