#!/usr/bin/env bash
# mnist.sh REPOSITORY DELTAW SCRATCH: a denoiser that has never seen a seven learns them from MNIST in 100 steps of LoRA: its
# error on 500 sevens of the test set falls. The denoiser is tests/golden/mnist, which `scripts/diffusion` trained as `base`.
# Needs $DELTAW_DATA/mnist.
set -euo pipefail
repository=$1 deltaw=$2 scratch=$3
mnist=${DELTAW_DATA:-}/mnist
for file in train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz; do
  [ -f "$mnist/$file" ] || {
    echo "SKIPPED: $mnist/$file is missing"
    exit 77
  }
done
rm -rf "$scratch"
mkdir -p "$scratch"

rows="--validation_file $mnist/t10k-images-idx3-ubyte.gz --only_labels 7 --max_eval_samples 500 --per_device_eval_batch_size 64"
model="--model_name_or_path $repository/tests/golden/mnist --dtype float32"
"$deltaw" eval $model $rows >"$scratch/before"
"$deltaw" train $model $rows --train_file "$mnist/train-images-idx3-ubyte.gz" --method lora --r 4 --lora_alpha 8 \
  --target_modules all-linear --learning_rate 3e-3 --lr_scheduler_type cosine --warmup_steps 20 --max_steps 100 \
  --per_device_train_batch_size 64 --seed 1 --output_dir "$scratch/seven" >"$scratch/after"
# A million times the error at time 500.
error() { sed -n -E 's/.*"eval_noise_mse_500": ?([0-9.]+).*/\1/p' "$1" | awk '{ printf "%.0f", 1e6 * $1 }'; }
before=$(error "$scratch/before") after=$(error "$scratch/after")
echo "the error on sevens at time 500 is $before millionths before and $after after"
# scripts/diffusion comes to 11500 in 300 steps.
[ "$before" -gt 15500 ] && [ "$before" -lt 15800 ] && [ "$after" -lt 13000 ] || {
  echo 'FAILED: 15648 before, and at most 13000 after'
  exit 1
}
