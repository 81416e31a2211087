"""Loads adapters of make_conv.py's network into PEFT and compares their logits with given ones.

    python check_peft_conv.py ADAPTER_DIR LOGITS.safetensors [the same of the next ...]

LOGITS holds `logits` of the images in tests/golden/conv/base. Prints one JSON object a line for each adapter and exits
with 1 when one cannot be loaded, a tensor is missing or unexpected, or a logit differs by more than
1e-4 max(1, |logits|).
"""
from common import tolerance

import json
import sys
from pathlib import Path

from make_conv import CONV, base, outputs, straighten
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file


def check(adapter_folder, logits_file):
    x = load_file(CONV / "base" / "io.safetensors")["x"]
    wanted = load_file(logits_file)["logits"]
    model = straighten(PeftModel.from_pretrained(base(), adapter_folder).eval())
    logits = outputs(model, x)
    names = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    names ^= set(load_file(adapter_folder / "adapter_model.safetensors"))
    problems = [f"missing or unexpected: {name}" for name in sorted(names)]
    difference, moves = ((logits - other).abs().max().item() for other in (wanted, outputs(base(), x)))
    if not difference <= tolerance(logits) < moves / 100:
        problems.append(f"logits differ by {difference:.3g}, the tolerance is {tolerance(logits):.3g}, the adapter "
                        f"moves them by {moves:.3g}")
    return {"peft_type": str(model.peft_config["default"].peft_type.value), "largest_difference": difference,
            "problems": problems}


def main():
    paths = [Path(path) for path in sys.argv[1:]]
    failed = False
    for adapter, logits in zip(paths[::2], paths[1::2], strict=True):
        try:
            report = check(adapter, logits)
        except Exception as problem:  # one that PEFT cannot load says nothing of the others
            report = {"problems": [f"{type(problem).__name__}: {problem}"]}
        failed |= bool(report["problems"])
        print(json.dumps({"adapter": str(adapter), **report}), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
