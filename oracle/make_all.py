"""Writes every fixture below tests/golden again and checks their sizes."""
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "golden"
PARTS = {"models": "make_models.py", "starts": "make_starts.py", "adapters": "make_adapters.py",
         "adalora_trace": "make_adalora_trace.py", "dense": "make_dense.py", "dropout": "make_dropout.py",
         "sampling": "make_sampling.py", "evaluation": "make_choices.py"}
KIB = 1024
LARGEST_FILE, LARGEST_SET = 200 * KIB, 6 * 1024 * KIB


def main():
    # PEFT writes sets as lists: a fixed hash seed keeps their order.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    total = 0
    for folder, script in PARTS.items():
        print(script, flush=True)
        subprocess.run([sys.executable, "-W", "ignore", HERE / script], check=True, env=environment)
        for path in (p for p in (GOLDEN / folder).rglob("*") if p.is_file()):
            path.chmod(0o644)
            size = path.stat().st_size
            assert size <= LARGEST_FILE, f"{path} has {size} bytes"
            total += size
    assert total <= LARGEST_SET, f"the fixtures have {total} bytes"
    print(f"{total / KIB:.0f} KiB in all")


if __name__ == "__main__":
    main()
