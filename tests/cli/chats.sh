# Chats that end, and the tokens that make them: what runs on the language model below $DELTAW_DATA.
. "$(dirname "$0")/support.sh"
stories=${DELTAW_DATA:-$tests/../../shared/data}/models/stories260k_hf
if [ ! -e "$stories/model.safetensors" ]; then
  echo 'SKIPPED: all of it, for want of models/stories260k_hf below $DELTAW_DATA'
  finish
fi

# A base without a template learns ChatML with marks of its own: no file of the base names the end of a turn.
cat >chatml.jinja <<'END'
{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
END
cat >talk.jsonl <<'END'
{"messages": [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "hello Tom"}]}
{"messages": [{"role": "user", "content": "what"}, {"role": "assistant", "content": "a cat"}]}
END
echo '{"messages": [{"role": "user", "content": "hi there"}]}' >asked.jsonl
chatml=(--model "$stories" --dtype float32 --train_file talk.jsonl --chat_template chatml.jinja --target_modules all-linear
  --add_special_tokens '<|im_start|>,<|im_end|>' --learning_rate 1e-2)
expect 0 train "${chatml[@]}" --max_steps 150 --save_strategy steps --save_steps 100 --output_dir out_chat
for folder in out_chat out_chat/checkpoint-100; do
  contains $folder/generation_config.json '"eos_token_id"'
  contains $folder/generation_config.json '513'
done
expect 0 merge --adapter_name_or_path out_chat --dtype float32 --output_dir merged
contains merged/generation_config.json '513'
answers() { # WHO...
  expect 0 generate "$@" --dtype float32 --input_file asked.jsonl --max_new_tokens 40
  contains out '"text":"hello Tom"'
  contains out '"finish_reason":"stop"'
  expect 0 generate "$@" --dtype float32 --input_file asked.jsonl --max_new_tokens 40 --stop '<|im_end|>'
  contains out '"text":"hello Tom"'
  contains out '"finish_reason":"stop"'
  printf 'hi there\nwhat\n' | "$deltaw" generate "$@" --dtype float32 --chat --max_new_tokens 40 >out 2>err
  printf 'hello Tom\n' | cmp -s - <(head -n 1 out) || fail "a chat with $* says something else"
  lines out 2
}
answers --adapter_name_or_path out_chat
answers --model merged
# A stop text sees special tokens by itself, where the end of the turn is not known.
cp -r merged forgetful
rm forgetful/generation_config.json
expect 0 generate --model forgetful --dtype float32 --input_file asked.jsonl --max_new_tokens 40
contains out '"finish_reason":"length"'
expect 0 generate --model forgetful --dtype float32 --input_file asked.jsonl --max_new_tokens 40 --stop '<|im_end|>'
contains out '"text":"hello Tom"'
contains out '"finish_reason":"stop"'
# Other folders made of the adapter know it too: an export, and an adapter that training went on from it, on other rows.
expect 0 export --adapter_name_or_path out_chat --output_dir exported
contains exported/generation_config.json '513'
echo 'Once upon a time there was a cat.' >plain.txt
expect 0 train --adapter_name_or_path out_chat --train_file plain.txt --dtype float32 --max_steps 1 --output_dir out_more
contains out_more/generation_config.json '513'
# A run in its place that teaches no such end leaves none behind.
expect 0 train --model "$stories" --dtype float32 --train_file plain.txt --max_steps 1 --output_dir out_chat \
  --overwrite_output_dir true
absent out_chat/generation_config.json

python=${DELTAW_ORACLE_PYTHON:-$tests/../.venv/bin/python}
if "$python" -c 'import transformers' 2>/dev/null; then
  "$python" -W ignore - >out 2>err <<'END' || fail 'transformers does not load what merge wrote'
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained("merged"), AutoModelForCausalLM.from_pretrained("merged")
messages = [{"role": "user", "content": "hi there"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=40, do_sample=False)[0][ids["input_ids"].shape[1]:]))
END
  contains out 'hello Tom<|im_end|>'
  lines out 1
else
  echo 'SKIPPED: transformers stops where the merged model does, for want of transformers: scripts/setup --oracle'
fi

# A template that ends answers with the end of the text teaches nothing new.
cat >plain.jinja <<'END'
{% for m in messages %}{{ m.role + ': ' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}
END
expect 0 train --model "$stories" --dtype float32 --train_file talk.jsonl --chat_template plain.jinja --max_steps 1 \
  --output_dir out_plain
absent out_plain/generation_config.json

# One begin token, whether rows and prompts spell it or not.
printf '{"text": "<s>Once upon a time.</s>"}\n{"text": "<s>Tom ran.</s>"}\n' >spelled.jsonl
expect 0 validate --model "$stories" --dtype float32 --train_file spelled.jsonl --output_dir x --rows_file rows.jsonl
contains out ' tokens  <s> '
lacks out '<s> <s>'
lacks rows.jsonl '[1,1,'
contains rows.jsonl '"token_labels":[-100,403'
expect 0 generate --model "$stories" --dtype float32 --prompt '<s>Once upon a time' --prompt 'Once upon a time' --max_new_tokens 8
[ "$(sed 's/.*"text"/"text"/' out | uniq | wc -l)" = 1 ] || fail 'a prompt that spells its begin token says something else'
for file in spelled plain; do
  printf '{"text": "%sOnce upon a time."}\n' "$([ $file = spelled ] && echo '<s>')" >$file.jsonl
  expect 0 predict --model "$stories" --dtype float32 --input_file $file.jsonl
  cp out $file.nll
  expect 0 eval --model "$stories" --dtype float32 --validation_file $file.jsonl
  grep -o '"eval_loss": [0-9.]*' out >$file.loss
done
cmp spelled.nll plain.nll || fail 'predict reads two begin tokens'
cmp spelled.loss plain.loss || fail 'eval reads two begin tokens'

# Tokens that only tokenizer_config.json names.
mkdir named
cp "$stories/tokenizer.json" "$stories/config.json" named/
echo '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|im_start|>"}' >named/tokenizer_config.json
echo 'Once <|im_start|> a' >text.txt
expect 0 tokenize --tokenizer named --input_file text.txt
contains out '[1,403,410,512,410,261]'
echo '{"<|im_start|>": 600}' >named/added_tokens.json
expect 1 tokenize --tokenizer named --input_file text.txt
contains err 'error[format.vocabulary]'
contains err 'the token "<|im_start|>" has the id 600 there, but its place in the vocabulary is 512'
contains err 'added_tokens.json'
finish
