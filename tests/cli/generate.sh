# generate: prompts, rows and conversations. What needs a language model runs on the one below $DELTAW_DATA.
. "$(dirname "$0")/support.sh"
make_model bert_cls classifier

# What cannot be is told before anything is computed.
expect 2 generate --model_name_or_path classifier --prompt hello
empty out
contains err 'error[config.not-causal]'
contains err 'deltaw predict'
expect 2 generate --prompt hello
contains err 'model_name_or_path or adapter_name_or_path'
expect 2 generate --model_name_or_path classifier --prompt
contains err '--prompt has no value'
expect 2 generate --model_name_or_path classifier --prompt a --chat
contains err 'error[config.conflict]'
expect 2 generate --model_name_or_path classifier --prompt a --system b
contains err 'error[config.conflict]'
expect 2 generate --model_name_or_path classifier --prompt a --temperature=-1
contains err 'error[config.out-of-range]'
expect 2 generate --model_name_or_path classifier --prompt a --temprature 1
contains err 'temperature'
expect 2 generate --adapter_name_or_path nowhere --prompt a
contains err 'error[config.no-adapter]'
expect 2 generate --model_name_or_path classifier --input_file nowhere.txt
contains err 'error[config.not-found]'
printf '{"prompt": "a"}\n\n{"text": "a"}\n' >rows.jsonl
expect 1 generate --model_name_or_path classifier --input_file rows.jsonl
contains err 'error[data.no-prompt]'
contains err 'rows.jsonl, line 3'

# Texts that were cut are counted: at the length that was asked for, and where the model reads no further.
make_speaker speaker
sed -i 's/"eos_token_id": 2/"eos_token_id": null/' speaker/config.json
expect 0 generate --model_name_or_path speaker --dtype float32 --prompt ab --prompt abc --max_new_tokens 5
contains err '2 of 2 texts were cut at max_new_tokens 5'
lacks err warning
expect 0 generate --model_name_or_path speaker --dtype float32 --prompt ab --max_new_tokens 5
contains err '1 of 1 texts were cut at max_new_tokens 5'
printf 'abcdefghij\nab\n' >prompts.txt
expect 0 generate --model_name_or_path speaker --dtype float32 --input_file prompts.txt --max_new_tokens 25
contains err 'warning: 1 of 2 texts were cut before max_new_tokens 25: the model reads 32 tokens in all'
contains err '1 of 2 texts were cut at max_new_tokens 25'

stories=${DELTAW_DATA:-$tests/../../shared/data}/models/stories260k_hf
if [ ! -e "$stories/model.safetensors" ]; then
  echo 'SKIPPED: everything that generates, for want of models/stories260k_hf below $DELTAW_DATA'
  finish
fi
story=(--model "$stories" --dtype float32)
said=', there was a little girl named Lily. She loved to play outside in the park.'

# One prompt: the text as it comes, and nothing else on standard output.
expect 0 generate "${story[@]}" --prompt 'Once upon a time' --stop 'One day'
[ "$(cat out)" = "$said " ] || fail 'another text'
contains err 'a second'
printf 'Once upon a time\n' | "$deltaw" generate "${story[@]}" --stop 'One day' >piped 2>err
cmp -s out piped || fail 'standard input gives another text'
printf 'Once upon a time' | "$deltaw" generate "${story[@]}" --prompt - --stop=' One day' >piped 2>err
[ "$(cat piped)" = "$said" ] || fail 'a stop text with a space is not cut'

# Several: JSON lines in their order.
expect 0 generate "${story[@]}" --prompt 'Once upon a time' --prompt 'The dog' --max_new_tokens 5
lines out 2
contains out '{"row":1,"prompt":"Once upon a time","text":", '
contains out '{"row":2,"prompt":"The dog","text":" was'
contains out '"finish_reason":"length"}'
printf 'The dog\nOnce upon a time\n' >prompts.txt
expect 0 generate "${story[@]}" --input_file prompts.txt --max_tokens 5 --output_file said.jsonl
empty out
lines said.jsonl 2
head -n 1 said.jsonl >first
printf 'id,prompt\na1,The dog\n' >prompts.csv
expect 0 generate "${story[@]}" --input_file prompts.csv --max_tokens 5
contains out '{"row":1,"id":"a1","prompt":"The dog","text":" was'
contains first '{"row":1,"prompt":"The dog","text":" was'
sampled() { "$deltaw" generate "${story[@]}" --prompt 'The dog' --temp 1 --top_p 0.9 --max_tokens 20 "$@" 2>err; }
[ "$(sampled)" = "$(sampled)" ] || fail 'one seed, two texts'
[ "$(sampled)" != "$(sampled --seed 7)" ] || fail 'two seeds, one text'
long=$(yes 'Once upon a time' | head -n 200 | tr '\n' ' ')
expect 1 generate "${story[@]}" --prompt "$long"
contains err 'error[data.long-prompt]'

# Conversations need a template.
expect 2 generate "${story[@]}" --chat
contains err 'error[config.no-chat-template]'
mkdir talker
cp "$stories"/* talker/
cat >talker/chat_template.jinja <<'END'
{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}
{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}
END
turns() { "$deltaw" generate --model talker --dtype float32 --chat --max_new_tokens 12 --stop $'\n' 2>err; }
printf 'Hello\nAnd then?\n' | turns >out || fail 'a chat fails'
lines out 2
turn=$(yes 'Once upon a time' | head -n 50 | tr '\n' ' ') # 200 tokens of 512
printf '%s\n' "$turn" "$turn" "$turn" | turns >out && fail 'a conversation longer than the model reads'
contains err 'error[data.long-prompt]'
printf '%s\n' "$turn" "$turn" /reset "$turn" | turns >out || fail '/reset forgets nothing'
lines out 3
printf '\nHello\n/exit\nHello\n' | turns >out
lines out 1
{
  echo '{"messages": [{"role": "user", "content": "Hi"}]}'
  echo '{"messages": [{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}]}'
  echo '{"id": "last", "prompt": "Hi"}'
} >talk.jsonl
expect 0 generate --model talker --input_file talk.jsonl --system 'Be kind.' --max_new_tokens 4
lines out 3
contains out '{"row":1,"prompt":"system: Be kind.\nuser: Hi\nassistant:","text":'
contains out '{"row":2,"prompt":"system: Own.\nuser: Hi\nassistant:","text":'
contains out '{"row":3,"id":"last","prompt":"Hi","text":'

# A template beside the model, for a conversation and for a file of them; no prompt goes through it.
printf '{{ messages[0]["content"] }}, it said. Once' >quoting.jinja
expect 0 generate "${story[@]}" --input_file talk.jsonl --chat_template quoting.jinja --max_new_tokens 4
contains out '{"row":1,"prompt":"Hi, it said. Once","text":'
contains out '{"row":3,"id":"last","prompt":"Hi","text":'
printf 'Hello\n' | "$deltaw" generate "${story[@]}" --chat --chat_template quoting.jinja --max_new_tokens 4 >out 2>err ||
  fail 'no chat with a template beside the model'
lines out 1
echo 'chat_template: quoting.jinja' >template.yaml
expect 0 generate template.yaml "${story[@]}" --input_file talk.jsonl --max_new_tokens 4
contains out 'it said. Once'
expect 2 generate "${story[@]}" --prompt Hi --chat_template quoting.jinja
contains err 'fix:   give --chat, or an input_file with "messages"'
expect 2 generate "${story[@]}" --input_file talk.jsonl --chat_template quoting.jinja --output_file quoting.jinja
contains err 'error[config.output-is-input]'

# How far it is, on a terminal alone.
for i in $(seq 1 40); do echo 'Once upon a time'; done >prompts.txt
mkdir -p gsm8k
for i in $(seq 1 40); do echo '{"question": "What is 1 + 1?", "answer": "It is 2.\n#### 2"}'; done >gsm8k/test.jsonl
counted() { # ARGS...
  script -qec "'$deltaw' $* --per_device_eval_batch_size 1" /dev/null </dev/null | tr '\r' '\n' >out
}
if command -v script >/dev/null; then
  export TERM=xterm
  counted generate --model "$stories" --input_file prompts.txt --max_new_tokens 60 --output_file said.jsonl
  grep -qE '[0-9]+ of 40 texts  0:[0-9]+ left' out || fail 'generate shows no progress'
  lines said.jsonl 40
  counted eval --model "$stories" --task_name gsm8k --dataset_dir . --max_new_tokens 60
  grep -qE '[0-9]+ of 40 rows  0:[0-9]+ left' out || fail 'eval shows no progress while it generates'
  counted predict --model "$stories" --input_file prompts.txt --output_file said.jsonl
  grep -qE '[0-9]+ of 40 rows  0:[0-9]+ left' out || fail 'predict shows no progress'
fi
expect 0 generate --model "$stories" --input_file prompts.txt --max_new_tokens 4
lacks err ' left'

# New tokens: the model gets rows for them, which train and stay with the adapter and the merged model.
for _ in 1 2 3 4; do echo '{"text": "<|user|> Once <tab> upon a time there was a dog."}'; done >marked.jsonl
marked=(--train_file marked.jsonl --max_steps 2 --learning_rate 1e-2 --add_tokens '<tab>' --add_special_tokens '<|user|>')
expect 0 train "${story[@]}" "${marked[@]}" --output_dir marked
contains marked/adapter_config.json '"trainable_token_indices"'
contains marked/tokenizer.json '"<|user|>"'
contains marked/README.md 'resize_token_embeddings'
expect 0 train marked/run.json --output_dir marked_again
cmp marked/adapter_model.safetensors marked_again/adapter_model.safetensors || fail 'run.json does not repeat its run'
expect 0 train "${story[@]}" "${marked[@]}" --gradient_checkpointing true --output_dir marked_thrifty
cmp marked/adapter_model.safetensors marked_thrifty/adapter_model.safetensors || fail 'checkpointing changes numbers'
beside=(--prompt '<|user|> Once <tab>' --max_new_tokens 8 --dtype float32)
expect 0 generate --adapter_name_or_path marked "${beside[@]}"
cp out from_adapter
expect 0 merge --adapter_name_or_path marked --dtype float32 --output_dir marked_merged
contains marked_merged/config.json '"vocab_size": 514'
contains marked_merged/tokenizer.json '"<tab>"'
expect 0 generate --model marked_merged "${beside[@]}"
cmp out from_adapter || fail 'the merged model says something else'
expect 0 eval --adapter_name_or_path marked --validation_file marked.jsonl
contains out 'perplexity'

# Training goes on with the same tokens, and with no others.
go=(--adapter_name_or_path marked --train_file marked.jsonl --dtype float32 --max_steps 2)
expect 0 train "${go[@]}" --learning_rate 0 --output_dir marked_still
cmp marked/adapter_model.safetensors marked_still/adapter_model.safetensors || fail 'a rate of zero moved the adapter'
expect 0 generate --adapter_name_or_path marked_still "${beside[@]}"
cmp out from_adapter || fail 'the adapter that went on says something else'
contains marked_still/README.md 'resize_token_embeddings'
expect 0 train "${go[@]}" --learning_rate 1e-2 --add_tokens '<tab>' --output_dir marked_more
cmp -s marked/adapter_model.safetensors marked_more/adapter_model.safetensors && fail 'nothing was trained'
expect 0 merge --adapter_name_or_path marked_more --dtype float32 --output_dir marked_more_merged
expect 2 train "${go[@]}" --add_tokens '<other>' --output_dir refused
contains err '<other>'
absent refused

finish
