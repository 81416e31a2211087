#!/usr/bin/env bash
# shakespeare.sh DELTAW SCRATCH: a teller of children's stories learns to write like Shakespeare, with bounds on what is
# learnt (4.9 before; 2.88 was seen after these 60 steps). Needs two folders below $DELTAW_DATA.
set -euo pipefail
deltaw=$1 scratch=$2
model=${DELTAW_DATA:-}/models/stories260k_hf text=${DELTAW_DATA:-}/tinyshakespeare/input.txt
for file in "$model/model.safetensors" "$text"; do
  [ -f "$file" ] || {
    echo "SKIPPED: $file is missing"
    exit 77
  }
done
rm -rf "$scratch"
mkdir -p "$scratch"

"$deltaw" train --method lora --r 8 --lora_alpha 16 --target_modules all-linear --model_name_or_path "$model" \
  --train_file "$text" --validation_split 0.1 --max_eval_samples 40 --max_length 256 --max_steps 60 \
  --per_device_train_batch_size 8 --learning_rate 1e-2 --eval_on_start true --output_dir "$scratch/run" >"$scratch/out"
loss() { sed -n -E 's/.*"eval_loss": ?([0-9.]+).*/\1/p' "$1" | head -n 1; }
before=$(loss "$scratch/run/log.jsonl") after=$(loss "$scratch/run/all_results.json")
printf 'loss of a token: %s before, %s after\n' "$before" "$after"
awk "BEGIN { exit !($before > 4.5 && $after < 3.1) }" || {
  echo 'FAILED: it should fall from above 4.5 to below 3.1'
  exit 1
}
"$deltaw" generate --adapter_name_or_path "$scratch/run" --prompt $'ROMEO:\n' --max_new_tokens 400 \
  --temperature 0.7 --seed 3 >"$scratch/said"
cat "$scratch/said"
# A name and a colon on a line: someone speaks.
grep -q -E '^[A-Z][A-Za-z ]*:$' "$scratch/said" || {
  echo 'FAILED: what it writes does not look like a play'
  exit 1
}
