"""Loads adapter folders into PEFT and compares their logits with given ones.

    python check_peft_loads.py MODEL_DIR ADAPTER_DIR LOGITS.safetensors INPUT.safetensors [the same of the next ...]

LOGITS holds `logits`; INPUT holds `input_ids`, `attention_mask` and, for BERT, `token_type_ids`, or `pixel_values`. Prints one JSON object
a line for each adapter and exits with 1 when one cannot be loaded, a tensor is missing or unexpected, or a logit differs
by more than 1e-4 max(1, |logits|).
"""
from common import head_of, is_causal, logits_of, of_text, tolerance

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")


def label_count(tensors):
    """Rows of the classifier in the adapter, which may differ from those of the base."""
    for prefix in ("base_model.model.", "base_model."):  # the latter where prompts are trained
        for key in (f"{prefix}classifier.weight", f"{prefix}classifier.out_proj.weight"):
            if key in tensors:
                return {"num_labels": tensors[key].shape[0]}
    return {}


def resize(base, tensors):
    """As many rows as the file's copy of the embeddings has; whether that is more than the base had."""
    rows = [v.shape[0] for k, v in tensors.items() if k.endswith(".weight") and "lora_" not in k
            and ("embed_tokens." in k or ".wte." in k)]
    if not rows or rows[0] == base.get_input_embeddings().weight.shape[0]:
        return False
    torch.manual_seed(0)
    base.resize_token_embeddings(rows[0])
    return True


def name_problems(model, found, resized):
    """What PEFT would write for this adapter against what the file holds.

    RandLoRA's bases may be stored once; the base's weights of adapted embeddings may be left out.
    """
    wanted = set(get_peft_model_state_dict(model, save_embedding_layers=resized))
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied:  # PEFT's copies of the embedding's
        wanted = {k for k in wanted if ".lm_head.token_adapter." not in k}
    wanted = {k for k in wanted if ".modules_to_save." not in k and ".original_module." not in k}
    ends = [model.get_base_model().get_input_embeddings(), model.get_base_model().get_output_embeddings()]
    ends = {f"{name}.base_layer.weight" for name, module in model.named_modules() if module in ends}
    problems = []
    bases = {k for k in wanted if k.endswith((".randlora_A", ".randlora_B"))}
    for part in ("randlora_A", "randlora_B"):
        copies = {k for k in bases if k.endswith(part)}
        if copies and not copies & found:
            problems.append(f"missing: every copy of {part}")
    problems += [f"missing: {k}" for k in sorted(wanted - bases - found)]
    problems += [f"unexpected: {k}" for k in sorted(found - wanted)
                 if ".modules_to_save." not in k and ".original_module." not in k and k not in ends
                 and not (tied and ".lm_head.token_adapter." in k)
                 and not (resized and k.endswith(".token_adapter.base_layer.weight"))]
    return problems


def check(model_folder, adapter_folder, logits_file, input_file):
    tensors = load_file(adapter_folder / "adapter_model.safetensors")
    config = AutoConfig.from_pretrained(model_folder)
    inputs = {k: v for k, v in load_file(input_file).items() if k in INPUTS}
    head = "CausalLM" if is_causal(config) else head_of(config)
    if "pixel_values" in inputs:
        head = "ImageClassification"
    kind = getattr(transformers, "AutoModelFor" + head)
    options = label_count(tensors) if head.endswith("Classification") else {}
    base = kind.from_pretrained(model_folder, dtype=torch.float32, **options)
    wanted = of_text(load_file(logits_file)["logits"].float(), inputs)
    resized = resize(base, tensors)
    plain = logits_of(base.eval(), inputs)
    model = PeftModel.from_pretrained(base, adapter_folder).eval()
    logits = logits_of(model, inputs)
    problems = name_problems(model, set(tensors), resized)
    report = {"peft_type": str(model.peft_config["default"].peft_type.value), "tensors": len(tensors)}
    if logits.shape != wanted.shape:
        problems.append(f"logits have the shape {list(wanted.shape)}, PEFT's have {list(logits.shape)}")
    else:
        difference = (logits - wanted).abs().max().item()
        report |= {"largest_difference": difference, "tolerance": tolerance(logits),
                   "adapter_moves": (logits - plain).abs().max().item()}
        if not difference <= tolerance(logits):
            problems.append(f"logits differ by {difference:.3g}, more than {tolerance(logits):.3g}")
    return {**report, "problems": problems}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="four for each adapter")
    paths = parser.parse_args().paths
    if len(paths) % 4:
        parser.error("give MODEL_DIR ADAPTER_DIR LOGITS INPUT for each adapter")
    warnings.filterwarnings("ignore")
    failed = False
    for i in range(0, len(paths), 4):
        try:
            report = check(*paths[i:i + 4])
        except Exception as problem:  # one that PEFT cannot load says nothing of the others
            report = {"problems": [f"{type(problem).__name__}: {problem}"]}
        failed |= bool(report["problems"])
        print(json.dumps({"adapter": str(paths[i + 1]), **report}), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
