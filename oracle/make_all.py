"""Writes every fixture below tests/golden again and checks their sizes."""
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "golden"
SCRIPTS = ["make_models.py", "make_encoders.py", "make_vision.py", "make_clip.py", "make_contrastive.py",
           "make_multiple_choice.py", "make_decoders.py", "make_starts.py",
           "make_prompts.py", "make_segments.py",
           "make_token_cls.py",
           "make_fill_mask.py",
           "make_adapters.py", "make_conv.py", "make_adalora_trace.py", "make_combined.py", "make_foreign.py",
           "make_bare.py", "make_dialects.py", "make_dense.py", "make_dropout.py",
           "make_sampling.py", "make_choices.py", "make_quantised.py", "make_gguf.py", "make_gguf_tokenizers.py",
           "make_chat.py", "make_torch_files.py",
           "make_named_tokens.py", "make_sentencepiece.py", "make_targets.py"]
KIB = 1024
LARGEST_FILE, LARGEST_SET = 200 * KIB, 20 * 1024 * KIB


def main():
    # PEFT writes sets as lists: a fixed hash seed keeps their order.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for script in SCRIPTS:
        print(script, flush=True)
        subprocess.run([sys.executable, "-W", "ignore", HERE / script], check=True, env=environment)
    total = 0
    for path in (p for p in GOLDEN.rglob("*") if p.is_file()):
        path.chmod(0o644)
        size = path.stat().st_size
        assert size <= LARGEST_FILE, f"{path} has {size} bytes"
        total += size
    assert total <= LARGEST_SET, f"the fixtures have {total} bytes"
    print(f"{total / KIB:.0f} KiB in all")


if __name__ == "__main__":
    main()
