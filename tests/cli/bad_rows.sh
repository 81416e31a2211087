# Rows of language models that nothing can be learned from, and conversations of every make.
. "$(dirname "$0")/support.sh"

# A language model whose tokens are letters and marks: all that stands in these texts.
mkdir speaker
cp "$tests/golden/models/llama_tied/config.json" "$tests/golden/models/llama_tied/model.safetensors" speaker/
sed -i 's/"max_position_embeddings": 64/"max_position_embeddings": 512/' speaker/config.json
{ printf '{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, '
  printf '"pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "merges": [], "vocab": {'
  i=0
  for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z I R . : '?' '!' '{' '}' ',' '#' ' ' '\n' '\"'; do
    printf '%s"%s": %s' "${sep:-}" "$letter" $i && i=$((i + 1)) && sep=', '
  done
  printf '}}}\n'; } >speaker/tokenizer.json
printf '{"eos_token": "."}\n' >speaker/tokenizer_config.json
printf '{%% for m in messages %%}{%% if m.role == "critic" %%}{{ raise_exception("no critics here") }}{%% endif %%}' >plain.jinja
printf '{{ m.role + ":" + m.content + "!" }}{%% endfor %%}{%% if add_generation_prompt %%}assistant:{%% endif %%}' >>plain.jinja
base="--model_name_or_path speaker --dtype float32 --chat_template plain.jinja"
check="validate $base"
as="validate --model_name_or_path speaker --dtype float32 --chat_template"

good='{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
mute='{"messages": [{"role": "user", "content": "a"}]}'
critic='{"messages": [{"role": "critic", "content": "a"}, {"role": "assistant", "content": "b"}]}'
repeat() { # COUNT TEXT
  local i
  for i in $(seq 1 "$1"); do printf '%s\n' "$2"; done
}

# One of two rows; three of thirty; more.
printf '[{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}]' >two.json
expect 0 $check --train_file two.json
contains err 'warning: 1 row is left out: item 2: "completion" is empty'
contains out '1 rows to train on'
expect 0 $check --train_file two.json --json
contains out '"bad_rows": 1'
expect 0 train $base --train_file two.json --validation_file two.json --max_steps 1 --save_strategy no --output_dir two
contains err '1 row is left out: item 2: "completion" is empty'
contains err 'validation: 1 row is left out'
contains two/all_results.json '"bad_rows": 1'
contains two/all_results.json '"eval_bad_rows": 1'
contains two/run.json '"max_bad_rows": 0.1'
expect 0 eval --adapter_name_or_path two --validation_file two.json
contains err '1 row is left out: item 2'
contains out '"bad_rows": 1'
{ repeat 27 "$good"; printf '%s\n%s\n%s\n' "$mute" "$critic" '{"messages": null}'; } >talk.jsonl
expect 0 $check --train_file talk.jsonl
contains err '3 rows are left out: line 28: the assistant says nothing that is to be trained on; line 29: '
contains err 'no critics here; line 30: '
contains err '"messages" is null'
contains out '27 rows to train on'
expect 1 $check --train_file talk.jsonl --max_bad_rows 0
contains err 'talk.jsonl, line 28'
expect 1 $check --train_file talk.jsonl --max_bad_rows 0.05
contains err '3 of 30 rows'
contains err 'max_bad_rows 0.05 leaves out 2'
contains err 'no critics here'
expect 1 train $base --train_file talk.jsonl --max_bad_rows 0.05 --output_dir none
absent none
repeat 3 "$critic" >critics.jsonl
expect 1 $check --train_file critics.jsonl --max_bad_rows 1
contains err 'no critics here'
contains err 'critics.jsonl, line 1'
expect 1 $check --train_file two.json --validation_file critics.jsonl
contains err 'critics.jsonl'
expect 2 $check --train_file two.json --max_bad_rows 2
contains err max_bad_rows
printf '{"text": null}\n' >null.jsonl
expect 1 $check --train_file null.jsonl
contains err '"text" is null'
expect 2 validate --model_name_or_path speaker --train_file talk.jsonl
contains err 'config.no-chat-template'

# A line for each row, whether it says something or not.
expect 0 predict $base --input_file two.json
lines out 2
printf '%s\n%s\n' "$good" "$mute" >asked.jsonl
expect 0 predict $base --input_file asked.jsonl
lines out 2
expect 1 predict $base --input_file critics.jsonl
empty out
contains err 'critics.jsonl, line 1'

# Keys that are null are absent.
printf '{%% for m in messages %%}{{ m.role + ":" }}{%% if m.tool_calls is defined and (m.tool_calls | length) > 0 %%}' >calls.jinja
printf '{{ "calls" + m.tool_calls[0].function.name }}{%% endif %%}{{ m.content }}!{%% endfor %%}' >>calls.jinja
printf '{%% if add_generation_prompt %%}assistant:{%% endif %%}' >>calls.jinja
printf '{"tools": null, "system": null, "messages": [{"role": "user", "content": "a", "tool_calls": null}, %s]}\n' \
  '{"role": "assistant", "content": "b", "tool_calls": null, "name": null}' >nulls.jsonl
expect 0 $as calls.jinja --train_file nulls.jsonl
contains out '  reads  user:a!assistant:'
contains out ' learns  b!'
printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": %s}]}\n' \
  '[{"type": "function", "function": {"name": "w", "arguments": {}}}]' >content.jsonl
expect 0 $as calls.jinja --train_file content.jsonl
contains out ' learns  callsw!'

# Answers that are written otherwise later on, and a prompt that opens a thought.
turns='{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one"}, {"role": "user",
  "content": "b"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "c"}, {"role": "assistant",
  "content": "three"}]}'
printf '%s\n' $turns | tr -d '\n' >turns.jsonl
printf '{%% for m in messages %%}{{ m.role + ":" }}{%% if m.role == "assistant" and loop.last %%}thought,{%% endif %%}' >rewrites.jinja
printf '{{ m.content + "!" }}{%% endfor %%}{%% if add_generation_prompt %%}assistant:{%% endif %%}' >>rewrites.jinja
sed 's/}assistant:{/}assistant:thought,{/' plain.jinja >opens.jinja
expect 0 $as rewrites.jinja --train_file turns.jsonl
for answer in one two thought,three; do contains out " learns  $answer!"; done
lacks err 'not trained on'
expect 0 $as opens.jinja --train_file turns.jsonl
for answer in one two three; do contains out " learns  $answer!"; done
sed 's/m.content + "!"/(m.content[:1] if m.role == "assistant" and not loop.last else m.content) + "!"/' plain.jinja >cuts.jinja
expect 0 $as cuts.jinja --train_file turns.jsonl
contains err '2 answers are not trained on, because they do not stand word for word'

# Sharegpt's function calls, and turns that are only read.
call='{"from": "function_call", "value": "{\"name\": \"w\", \"arguments\": {}}"}'
printf '{"conversations": [{"from": "human", "value": "w?"}, %s, {"from": "observation", "value": "o"}, %s], "tools": %s}\n' \
  "$call" '{"from": "chatgpt", "value": "it is o"}' '"[{\"name\": \"w\"}]"' >calls.jsonl
expect 0 $as calls.jinja --train_file calls.jsonl
contains out ' learns  callsw!'
contains out '  reads  tool:o!assistant:'
expect 0 $check --train_file calls.jsonl
contains out ' learns  {"name": "w", "arguments": {}}!'
printf '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "train": false}, %s]}\n' \
  '{"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}' >off.jsonl
expect 0 $check --train_file off.jsonl
contains out '  reads  user:a!assistant:b!user:c!assistant:'
contains out ' learns  d!'

# Alpaca's system and history.
printf '{"instruction": "c", "output": "d", "system": "be brief", "history": [["a", "b"]]}\n' >alpaca.jsonl
expect 0 $check --train_file alpaca.jsonl
contains out '  reads  be brief\n\n### Instruction:\na\n\n### Response:\n'
contains out ' learns  b.'
contains out ' learns  d.'

# Null keys of what is asked.
cp plain.jinja speaker/chat_template.jinja
printf '{"prompt": "a", "messages": null}\n{"messages": [{"role": "user", "content": "a", "tool_calls": null}]}\n' >ask.jsonl
expect 0 generate --model_name_or_path speaker --dtype float32 --input_file ask.jsonl --max_new_tokens 2
lines out 2

finish
