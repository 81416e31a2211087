#!/usr/bin/env bash
# vit.sh DELTAW SCRATCH: a ViT that was trained on ImageNet names 200 photos, with transformers' own counts (its processor on
# Pillow): 166 right, 192 among the five likeliest. Needs two folders below $DELTAW_DATA.
set -euo pipefail
deltaw=$1 scratch=$2
model=${DELTAW_DATA:-}/models/vit_tiny_hf photos=${DELTAW_DATA:-}/imagenet_200
for file in "$model/model.safetensors" "$photos/labels.csv"; do
  [ -f "$file" ] || {
    echo "SKIPPED: $file is missing"
    exit 77
  }
done
rm -rf "$scratch"
mkdir -p "$scratch"

"$deltaw" eval --model_name_or_path "$model" --dtype float32 --validation_file "$photos/labels.csv" \
  --metrics_file "$scratch/metrics.json" >"$scratch/out"
count() { sed -n -E 's/.*"'"$1"'": ?([0-9.]+).*/\1/p' "$scratch/metrics.json" | awk '{ printf "%.0f", 200 * $1 }'; }
right=$(count accuracy) five=$(count top5_accuracy)
echo "$right of 200 right, $five among the five likeliest"
[ "$right" = 166 ] && [ "$five" = 192 ] || {
  echo 'FAILED: transformers has 166 and 192'
  exit 1
}
