"""Checks the GGUF files that `deltaw convert FOLDER --to gguf` writes against llama.cpp's converter and llama.cpp itself.

    python oracle/check_gguf_writer.py DELTAW [FOLDER ...]

Needs oracle/requirements-gguf.txt. Every checkpoint of make_gguf_models.py, as transformers saves it, and every FOLDER goes
both ways: keys and tensors must be equal, save what EXPECTED names; llama.cpp's log-probabilities of our file must be
those of transformers.
"""
from make_gguf_models import CONTEXT, CONVERT, NEAR, TOKENS, cases, convert, log_probabilities_of, save_checkpoint, without_window

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import generator
from llamacpp import log_probabilities

# Written always here, and by the converter where a file of the tokenizer says it.
MORE = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.add_space_prefix", "gemma2.attention.sliding_window_pattern", "tokenizer.ggml.padding_token_id"}
LESS = {"tokenizer.ggml.add_sep_token", "general.license", "general.languages", "general.tags"}
# The converter takes the name from a hash of known vocabularies, and make_gguf_models.py gives it one.
NAMES = {"general.name", "tokenizer.ggml.pre"}


def contents(path):
    reader = gguf.GGUFReader(path)
    values = {k: (f.contents(), f.types) for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    return values, {t.name: (t.tensor_type, tuple(t.shape), np.array(t.data)) for t in reader.tensors}


def compare(name, ours, theirs):
    """Prints what differs; the number of differences that are not expected."""
    (values, tensors), (other_values, other_tensors) = contents(ours), contents(theirs)
    wrong = 0

    def tell(text, is_wrong=True):
        nonlocal wrong
        wrong += is_wrong
        print(f"  {'WRONG ' if is_wrong else ''}{text}", flush=True)

    for key in sorted(set(values) | set(other_values)):
        if key not in values:
            tell(f"{key} is missing: {str(other_values[key][0])[:80]}", key not in LESS)
        elif key not in other_values:
            tell(f"{key} is ours alone: {str(values[key][0])[:80]}", key not in MORE)
        elif values[key] != other_values[key]:
            own, other = values[key][0], other_values[key][0]
            if isinstance(own, list) and isinstance(other, list) and len(own) == len(other):
                at = [(i, a, b) for i, (a, b) in enumerate(zip(own, other)) if a != b]
                unscored = key.endswith("scores") and set(other) == {-1000.0}  # all that the converter finds in a tokenizer.json
                tell(f"{key} differs in {len(at)} of {len(own)}, such as {at[:4]}",
                     not unscored and (not key.endswith(("scores", "token_type")) or len(at) > 3))
            else:
                tell(f"{key} is {str(own)[:80]}, theirs {str(other)[:80]}", key not in NAMES)
    for key in sorted(set(tensors) | set(other_tensors)):
        if key not in tensors or key not in other_tensors:
            tell(f"{key} is {'missing' if key not in tensors else 'ours alone'}")
            continue
        (kind, shape, data), (other_kind, other_shape, other_data) = tensors[key], other_tensors[key]
        if kind != other_kind or shape != other_shape:
            tell(f"{key} is {kind.name} {shape}, theirs {other_kind.name} {other_shape}")
        elif not np.array_equal(data, other_data):
            near = kind == gguf.GGMLQuantizationType.F32 and np.allclose(data, other_data, rtol=3e-7, atol=0)
            tell(f"{key} differs{' by a last bit' if near else ''}", not near)
    print(f"{name}: {len(values)} keys, {len(tensors)} tensors, {wrong} wrong", flush=True)
    return wrong


def ours(deltaw, folder, made, kind="auto"):
    done = subprocess.run([deltaw, "convert", str(folder), "--to", "gguf", "--save_dtype", kind, "--output_dir", str(made),
                           "--overwrite_output_dir"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(made) / "model.gguf", done.stderr


def theirs(folder, path, kind):
    arguments = [str(folder), "--outfile", str(path), "--outtype", kind]
    program = CONVERT.format(pre="", arguments=arguments).replace("conversion.base.TextModel", "unused =", 1)
    program = "\n".join(line for line in program.splitlines() if "unused" not in line)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def check_case(deltaw, case):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / case.name
        folder.mkdir()
        model, _ = save_checkpoint(case, folder)
        convert(case, folder, Path(made) / "theirs.gguf")
        kind = {"f32": "auto", "f16": "float16"}[case.types]
        path, said = ours(deltaw, folder, Path(made) / "ours", kind)
        if said:
            print(f"  {said.strip()}")
        wrong = compare(case.name, path, Path(made) / "theirs.gguf")
        ids = [1, *torch.randint(6, case.config.vocab_size, (TOKENS - 1,), generator=generator(case.name + " ids")).tolist()]
        expected = log_probabilities_of(without_window(case, model) or model, ids).numpy()
        error = np.abs(log_probabilities(path, ids, case.config.vocab_size, CONTEXT) - expected).max()
        print(f"  llama.cpp differs by {error:.5f}", flush=True)
        return wrong + (error > NEAR and case.types == "f32")


def check_folder(deltaw, folder):
    """Real checkpoints, by the texts of their own tokenizers."""
    wrong = 0
    with tempfile.TemporaryDirectory() as made:
        for kind, other in [("float32", "f32"), ("float16", "f16"), ("bf16", "bf16"), ("q8_0", "q8_0")]:
            path, _ = ours(deltaw, folder, Path(made) / "ours", kind)
            theirs(folder, Path(made) / "theirs.gguf", other)
            wrong += compare(f"{Path(folder).name} {kind}", path, Path(made) / "theirs.gguf")
        path, _ = ours(deltaw, folder, Path(made) / "ours", "float32")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("Once upon a time there was a little girl who")["input_ids"]
        expected = log_probabilities_of(model, ids).numpy()
        found = log_probabilities(path, ids, min(expected.shape[1], 2000), first=len(ids) - 3)
        error = np.nanmax(np.abs(found[:, :2000] - expected[:, :2000])[np.isfinite(found[:, :2000])])
        print(f"  llama.cpp differs by {error:.5f}", flush=True)
    return wrong + (error > NEAR)


def main():
    logging.disable()
    deltaw, folders = sys.argv[1], [name for name in sys.argv[2:] if "/" in name]
    wanted = [name for name in sys.argv[2:] if "/" not in name]
    wrong = 0
    for case in cases():
        if not case.mix and (case.name in wanted if wanted else not folders):
            wrong += check_case(deltaw, case)
    wrong += sum(check_folder(deltaw, folder) for folder in folders)
    sys.exit(f"{wrong} wrong" if wrong else 0)


if __name__ == "__main__":
    main()
