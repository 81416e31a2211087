"""Megabytes a second of deltaw's tokenizers and of the Hugging Face library, on one core, in turns.

    python bench/tokenizers.py PROGRAM DATA [ROUNDS]

PROGRAM is the built tokenizer_bench; DATA holds tokenizers/{gpt2,llama2,qwen3} and wikitext2/wiki.test.raw.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

# This file has the name of the library, whose folder must come first.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).parent.resolve()]
os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")

import tokenizers  # noqa: E402
import transformers  # noqa: E402

KINDS = {
    "gpt2": (transformers.GPT2Tokenizer, {"tokenizer_class": "GPT2Tokenizer"}, ["tokenizer.json"]),
    "llama2": (transformers.LlamaTokenizer, {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>"}, ["tokenizer.model"]),
    "qwen3": (transformers.Qwen2Tokenizer, {"tokenizer_class": "Qwen2Tokenizer"}, ["vocab.json", "merges.txt"]),
}


def reference(tokenizer, lines):
    start = time.perf_counter()
    encodings = tokenizer.encode_batch(lines)
    seconds = time.perf_counter() - start
    return seconds, sum(len(e.ids) for e in encodings)


def main():
    program, data = sys.argv[1], pathlib.Path(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    text = data / "wikitext2" / "wiki.test.raw"
    lines = text.read_text(encoding="utf-8").split("\n")[:-1]
    size = sum(len(line.encode()) for line in lines) / 1e6
    print(f"tokenizers {tokenizers.__version__}, {size:.2f} MB, minimum of {rounds} rounds")
    for name, (make, config, files) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            for file in files:
                shutil.copyfile(data / "tokenizers" / name / file, pathlib.Path(folder) / file)
            (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
            theirs = make.from_pretrained(folder)._tokenizer
            pairs = []
            for _ in range(rounds):
                seconds, count = reference(theirs, lines)
                out = subprocess.run([program, folder, str(text), "1"], check=True, capture_output=True, text=True).stdout
                ours, ours_seconds = re.match(r"(\d+) tokens, ([\d.]+) s", out).groups()
                if int(ours) != count:
                    sys.exit(f"{name}: {ours} tokens, the library has {count}")
                pairs.append((float(ours_seconds), seconds))
        mine, other = (min(pair[i] for pair in pairs) for i in (0, 1))
        print(f"{name:8} deltaw {size / mine:6.2f} MB/s   library {size / other:6.2f} MB/s   ratio {other / mine:.2f}")


if __name__ == "__main__":
    main()
