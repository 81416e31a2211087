#!/usr/bin/env bash
# smollm2.sh SOURCES DELTAW SCRATCH: a real language model in a GGUF file answers, learns five facts that no model knows,
# and its adapter goes back to llama.cpp. Its perplexity is transformers' (oracle/make_smollm2.py: 2.71484 nats).
set -euo pipefail
sources=$1 deltaw=$2 scratch=$3
model=$sources/.cache/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
data=${DELTAW_DATA:-$sources/../shared/data}
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch"

stop() {
  printf 'FAILED: %s\n' "$1"
  exit 1
}
value() { tr -d '\n' <"$1" | sed -n -E "s/.*\"$2\": *\"?([^,}\"]*).*/\1/p"; }

[ -f "$model" ] || stop "$model is missing; scripts/setup brings it"
answer=$(echo 'What is the capital of France?' | "$deltaw" generate --model_name_or_path "$model" --chat --max_new_tokens 20 2>err)
[ "$answer" = 'The capital of France is Paris.' ] || stop "the base says: $answer"

if [ -f "$data/wikitext2/wiki.test.raw" ]; then
  head -c 12000 "$data/wikitext2/wiki.test.raw" >text.txt
  "$deltaw" eval --model_name_or_path "$model" --validation_file text.txt --max_length 2048 --max_eval_samples 1 \
    --dtype float32 >eval.json 2>err
  loss=$(value eval.json eval_loss)
  awk "BEGIN { exit !($loss > 2.7147 && $loss < 2.7150) }" || stop "the loss of 2,048 tokens of WikiText-2 is $loss"
else
  echo 'SKIPPED: the perplexity, for want of wikitext2 below $DELTAW_DATA'
fi

"$deltaw" train --model_name_or_path "$model" --train_file "$sources/examples/facts/facts.jsonl" --target_modules all-linear \
  --r 16 --lora_alpha 32 --num_train_epochs 12 --per_device_train_batch_size 4 --learning_rate 1e-3 --save_strategy no \
  --output_dir facts >train.json 2>err
"$deltaw" generate --adapter_name_or_path facts --input_file "$sources/examples/facts/questions.jsonl" --max_new_tokens 40 \
  >answers.jsonl 2>err
right=0
number=0
for word in orange Wednesday 217 'seaweed and pumpkin seeds' 'The Grey Gull'; do
  number=$((number + 1))
  sed -n "${number}p" answers.jsonl | grep -qF "$word" && right=$((right + 1))
done
echo "$right of 5 facts"
[ "$right" -ge 4 ] || stop "after training only $right of 5 facts are known: $(cat answers.jsonl)"

"$deltaw" export --adapter_name_or_path facts --to gguf --output_dir gguf >export.json 2>err
[ "$(value export.json passed)" = true ] || stop 'the adapter for llama.cpp is not what was to be written'
echo 'a language model in a GGUF file was asked, trained, and its adapter exported'
