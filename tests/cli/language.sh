# A causal language model as a user meets it: a small conversation, then data of other kinds. What they run on is the
# one below $DELTAW_DATA.
. "$(dirname "$0")/support.sh"
stories=${DELTAW_DATA:-$tests/../../shared/data}/models/stories260k_hf
if [ ! -e "$stories/model.safetensors" ]; then
  echo 'SKIPPED: all of it, for want of models/stories260k_hf below $DELTAW_DATA'
  finish
fi
mkdir examples && cp -r "$tests/../examples/talk" examples/

talk="--adapter_name_or_path talk"
expect 0 train --model_name_or_path "$stories" --train_file examples/talk/talk.jsonl \
  --chat_template examples/talk/chat_template.jinja --output_dir talk --dtype float32 --max_steps 60 --learning_rate 1e-2 --target_modules all-linear --r 16
contains err ' learns  The cat is called Tom. He likes milk.</s>'
contains err '  reads  <|user|>\nWhat is the cat called?\n<|assistant|>\n'
present talk/adapter_model.safetensors talk/chat_template.jinja talk/tokenizer.json talk/README.md
contains talk/README.md 'AutoModelForCausalLM'
printf 'Who lives in the tree?\n/exit\n' | "$deltaw" generate $talk --chat --dtype float32 --max_new_tokens 30 >out 2>err ||
  fail 'a chat with the adapter fails'
contains out 'An old owl lives in the tree.'
expect 0 merge $talk --output_dir talk-merged --dtype float32
contains out '"passed": true'
present talk-merged/config.json talk-merged/model.safetensors talk-merged/chat_template.jinja talk-merged/tokenizer.json
printf 'Who lives in the tree?\n/exit\n' |
  "$deltaw" generate --model talk-merged --chat --dtype float32 --max_new_tokens 30 >out 2>err
contains out 'An old owl lives in the tree.'
python=${DELTAW_ORACLE_PYTHON:-$tests/../.venv/bin/python}
if "$python" -c 'import transformers' 2>/dev/null; then
  "$python" -W ignore - >out 2>err <<'END' || fail 'transformers does not load what merge wrote'
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained("talk-merged"), AutoModelForCausalLM.from_pretrained("talk-merged")
messages = [{"role": "user", "content": "Who lives in the tree?"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=30, do_sample=False)[0]))
END
  contains out 'An old owl lives in the tree.'
else
  echo 'SKIPPED: transformers reads the merged model, for want of transformers: scripts/setup --oracle'
fi

# The peak of memory that was foretold, with blocks kept and not.
for i in $(seq 1 900); do echo 'Once upon a time there was a cat who liked milk, and a dog who did not.'; done >long.txt
for again in false true; do
  flags="--model $stories --train_file long.txt --packing true --max_length 256 --per_device_train_batch_size 24
    --dtype float32 --target_modules all-linear --gradient_checkpointing $again --output_dir memory-$again"
  expect 0 validate $flags --json
  foretold=$(sed -n 's/.*"total_bytes": \([0-9]*\).*/\1/p' out)
  expect 0 train $flags --max_steps 2 --save_strategy no
  peak=$(sed -n 's/.*"peak_memory_bytes": \([0-9]*\).*/\1/p' out)
  [ $((4 * foretold)) -gt $((3 * peak)) ] && [ $((3 * foretold)) -lt $((4 * peak)) ] ||
    fail "the memory of a run was foretold as $foretold bytes, and is $peak"
done

# Capped scores are kept as matrices.
make_speaker capped
cp "$tests"/golden/models/gemma2/model.safetensors capped/
sed 's/"max_position_embeddings": 64/"max_position_embeddings": 1024/' "$tests/golden/models/gemma2/config.json" >capped/config.json
for i in $(seq 1 900); do echo 'onceuponatimetherewasacatwholikedmilk'; done >letters.txt
for again in false true; do
  flags="--model capped --train_file letters.txt --packing true --max_length 1024 --per_device_train_batch_size 8
    --dtype float32 --target_modules all-linear --gradient_checkpointing $again --output_dir capped-$again"
  expect 0 validate $flags --json
  foretold=$(sed -n 's/.*"total_bytes": \([0-9]*\).*/\1/p' out)
  expect 0 train $flags --max_steps 2 --save_strategy no
  peak=$(sed -n 's/.*"peak_memory_bytes": \([0-9]*\).*/\1/p' out)
  [ $((4 * foretold)) -gt $((3 * peak)) ] && [ $((3 * foretold)) -lt $((4 * peak)) ] ||
    fail "the memory of a run with capped scores was foretold as $foretold bytes, and is $peak"
done

# Rows of many lengths: what libraries make for one is not kept for all of them.
row=''
for i in $(seq 1 150); do row="$row a" && echo "{\"prompt\": \"$row\", \"completion\": \"$row\"}"; done >lengths.jsonl
expect 0 train --model "$stories" --train_file lengths.jsonl --max_length 512 --per_device_train_batch_size 2 \
  --num_train_epochs 2 --dtype bf16 --target_modules all-linear --save_strategy no --output_dir lengths
peak=$(sed -n 's/.*"peak_memory_bytes": \([0-9]*\).*/\1/p' out)
[ "$peak" -lt 500000000 ] || fail "rows of 150 lengths took $peak bytes"

# Text and answers, packed and not; the loss of an adapter and of its merged model.
{ for i in 1 2 3 4 5 6; do echo '{"prompt": "The dog said", "completion": " hello to the cat."}'; done; } >pairs.jsonl
expect 0 train --model "$stories" --train_file pairs.jsonl --packing true --max_length 64 --dtype float32 \
  --max_steps 20 --learning_rate 1e-2 --output_dir pairs --gradient_accumulation_steps 2
expect 0 predict --adapter_name_or_path pairs --input_file pairs.jsonl --dtype float32 --logits_file logits.safetensors
lines out 6
cp out beside
present logits.safetensors
expect 0 merge --adapter_name_or_path pairs --output_dir pairs-merged --dtype float32
expect 0 predict --model pairs-merged --input_file pairs.jsonl --dtype float32
paste -d' ' out beside | tr -c '0-9.\n-' ' ' | awk '{ if ($1 != $4 || ($2 - $5) ^ 2 > 1e-6 || $3 != $6) exit 1 }' ||
  fail 'the merged model has another loss'
expect 0 eval --adapter_name_or_path pairs --validation_file pairs.jsonl --dtype float32
contains out '"eval_perplexity"'
expect 0 train --model "$stories" --train_file pairs.jsonl --max_steps 2 --dtype float32 --method randlora \
  --randlora_alpha 64 --target_modules all-linear --output_dir full-rank
expect 0 export --adapter_name_or_path full-rank --rank 8 --output_dir exported --dtype float32

# What cannot be.
expect 2 train --model "$stories" --train_file examples/talk/talk.jsonl --output_dir x
contains err 'error[config.no-chat-template]'
expect 2 train --model "$stories" --train_file pairs.jsonl --task_type SEQ_CLS --output_dir x
contains err 'error[config.text-column]'
expect 2 train --model "$stories" --train_file pairs.jsonl --metric_for_best_model accuracy --output_dir x
contains err 'error[config.unknown-metric]'
printf '{"text": "a"}\n{"prompt": "a"}\n' >mixed.jsonl
expect 1 train --model "$stories" --train_file mixed.jsonl --output_dir x
contains err 'error[data.mixed-rows]'
absent x
# A merge is right whatever rounding does: held in bf16, wide updates move logits by more than bf16 has digits for.
for i in 1 2 3 4 5 6 7 8; do
  for word in king queen crown sword; do
    echo "The $word of the land number $i said: speak, or be silent, for the $word knows."
  done
done >land.txt
for method in dora moslora; do
  expect 0 train --model "$stories" --train_file land.txt --method "$method" --r 64 --target_modules all-linear \
    --max_steps 40 --learning_rate 1e-2 --max_length 64 --output_dir "wide-$method"
  expect 0 merge --adapter_name_or_path "wide-$method" --dtype bf16 --output_dir "wide-$method-merged"
  contains out '"passed": true'
  contains out '"dtype": "float32"'
  contains out '"rounding_share": 0.0,'
  lacks err warning
done
# A checkpoint in 16 bits loses a small update, and the report says so; float32 keeps it.
expect 0 merge --adapter_name_or_path wide-dora --save_dtype bf16 --output_dir short
contains out '"dtype": "bfloat16"'
contains short/config.json '"dtype": "bfloat16"'
expect 0 train --model short --train_file land.txt --method lora --r 4 --max_steps 2 --learning_rate 1e-4 \
  --max_length 64 --output_dir small
expect 0 merge --adapter_name_or_path small --output_dir small-short
contains err 'rounding to bfloat16 costs'
contains err '--save_dtype float32'
contains out '"passed": true'
expect 0 merge --adapter_name_or_path small --save_dtype float32 --output_dir small-whole
contains out '"dtype": "float32"'
lacks err warning
expect 2 merge --adapter_name_or_path small --save_dtype int8 --output_dir none
contains err save_dtype
absent none

finish
