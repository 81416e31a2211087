#!/usr/bin/env bash
# fortunes.sh SOURCES DELTAW SCRATCH: the demo's task, with bounds on what is learnt (0.67 and 0.72 were seen).
set -euo pipefail
sources=$1 deltaw=$2 scratch=$3
model=$sources/.cache/minilm
rm -rf "$scratch"
mkdir -p "$scratch"

stop() {
  printf 'FAILED: %s\n' "$1"
  exit 1
}
value() { tr -d '\n' <"$1" | sed -n -E "s/.*\"$2\": *\"?([^,}\"]*).*/\1/p"; }
at_least() { # FIGURE BOUND MEANING
  printf '%s: %s (at least %s)\n' "$3" "$1" "$2"
  awk "BEGIN { exit !($1 >= $2) }" || stop "$3 is $1, below $2"
}

[ -f "$model/model.safetensors" ] || stop "$model is missing; scripts/setup brings it"
"$sources/scripts/fortunes" "$scratch"
rows=$(($(wc -l <"$scratch/held_out.tsv") - 1))
# Always answering with the largest topic scores 0.226.
largest=$(tail -n +2 "$scratch/held_out.tsv" | cut -f 2 | sort | uniq -c | sort -n | awk -v rows="$rows" 'END { print $1 / rows }')
awk "BEGIN { exit !($largest < 0.25) }" || stop "the largest topic has a share of $largest"

learns() { # METHOD BOUND FLAGS...
  local method=$1 bound=$2 output=$scratch/$1
  shift 2
  "$deltaw" train --method "$method" "$@" --model_name_or_path "$model" --output_dir "$output" \
    --train_file "$scratch/train.tsv" --validation_file "$scratch/held_out.tsv" --text_column text --label_column label \
    --target_modules query,value --learning_rate 2e-3 --max_length 48 --num_train_epochs 2 --per_device_train_batch_size 32 \
    --per_device_eval_batch_size 64 --warmup_ratio 0.06 --eval_strategy epoch >"$scratch/$method.json"
  local accuracy
  accuracy=$(value "$output/all_results.json" eval_accuracy)
  at_least "$accuracy" "$bound" "accuracy of $method"

  # The merge is checked by the program (exit 3 where it is off) and here by what the merged model answers.
  "$deltaw" merge --adapter_name_or_path "$output" --output_dir "$scratch/$method-merged" \
    >"$scratch/$method.merge.json" || stop "the merge of $method"
  "$deltaw" predict --model_name_or_path "$scratch/$method-merged" --input_file "$scratch/held_out.tsv" \
    --text_column text --max_length 48 --output_file "$scratch/$method.jsonl"
  [ "$(wc -l <"$scratch/$method.jsonl")" = "$rows" ] || stop 'predict did not answer every row'
  local merged
  merged=$(sed -n -E 's/.*"label": *"([^"]*)".*/\1/p' "$scratch/$method.jsonl" |
    paste - <(tail -n +2 "$scratch/held_out.tsv" | cut -f 2) | awk '$1 == $2 { ++right } END { print right / NR }')
  awk "BEGIN { d = $merged - $accuracy; exit !(d * d < 0.005 * 0.005) }" ||
    stop "$method: the merged model scores $merged, the adapter $accuracy"
}

learns lora 0.6 --r 8 --lora_alpha 16
learns randlora 0.63 --r 32 --randlora_alpha 64
