# Files that were written to do harm, or by a faulty tool. Every verb ends in an error that says what is wrong, and no
# message hands on what steers a terminal.
. "$(dirname "$0")/support.sh"
prepare_runs
esc=$(printf '\033]0;x\007\033[31m')
latin=$(printf 'caf\351')
c1=$(printf '\302\23331m')

# What the last call wrote: UTF-8, no control characters but line feeds, and no bug of the program.
clean() { # WHAT
  for stream in out err; do
    ! LC_ALL=C grep -q "$(printf '[\001-\010\013-\037\177]')" "$stream" || fail "$1: $stream holds control characters"
    ! LC_ALL=C grep -q "$(printf '\302[\200-\237]')" "$stream" || fail "$1: $stream holds control characters of Latin-1"
    iconv -f UTF-8 -t UTF-8 "$stream" >/dev/null 2>&1 || fail "$1: $stream is no UTF-8"
    lacks "$stream" internal.
  done
}

# Runs it, whatever comes of it, short of a crash.
any() { # ARGS...
  "$deltaw" "$@" >out 2>err </dev/null
  local got=$?
  [ "$got" -le 3 ] || fail "deltaw $* exited with $got"
  clean "deltaw $*"
}

expect 0 train $common --output_dir run --max_steps 1 --save_strategy no
clean train

# ---- the settings that stand beside an adapter

cp run/run.json run.json
settings() { # KEY VALUE
  sed -E "s|^  \"$1\": .*|  \"$1\": $2,|" run.json | sed -zE 's/,(\n\})/\1/' >run/run.json
  grep -q "\"$1\": $(printf '%s' "$2" | sed 's/[][\\.*^$]/\\&/g')" run/run.json || fail "run.json has no key $1"
}
for value in null 3 '{"a": [1]}' '[[]]' '"x"'; do
  for key in model_name_or_path label_names max_length text_column; do
    settings "$key" "$value"
    any predict --adapter_name_or_path run --input_file dev.csv
  done
done
for text in '' '[' '[]' '3' '"x"' "$(printf '{"seed": "caf\351"}')"; do
  printf '%s' "$text" >run/run.json
  any predict --adapter_name_or_path run --input_file dev.csv
  any info run
done
cp run.json run/run.json

# ---- what a run left behind

for file in trainer_state.json all_results.json adapter_config.json; do
  cp run/$file kept.json
  for text in '' '[]' '3' '"x"' '{"log_history": 3, "global_step": [], "epoch": {}, "peft_type": 3, "r": {}}' \
    '{"log_history": [3, {"loss": "x"}], "best_metric": "\u001b[31m", "base_model_name_or_path": "\u009b"}'; do
    printf '%s' "$text" >run/$file
    any info run
  done
  cp kept.json run/$file
done

# ---- parts in parts

mkdir itself
printf '{"parts": [{}]}' >itself/adapter_config.json
expect 1 predict --model_name_or_path model --adapter_name_or_path itself --input_file dev.csv
contains err 'error[format.bad-adapter]'
printf '{"parts": [{"folder": ".", "weight": 1.0, "frozen": false}]}' >itself/adapter_config.json
expect 1 info itself
clean 'an adapter that holds itself'
deep() { # OPEN COUNT
  head -c "$2" /dev/zero | sed "s/\x0/$1/g"
}
cp -r model nested
{ printf '{"version": "1.0", "normalizer": '; deep '{"type": "Sequence", "normalizers": [' 100000; } >nested/tokenizer.json
expect 1 tokenize --model_name_or_path nested --input_file dev.csv
contains err 'nested more than'
deep '{"a": ' 100000 >nested/config.json
expect 1 info nested
contains err 'nested more than'
deep '- ' 100000 >deep.yaml
expect 2 validate deep.yaml
contains err 'nested'

# ---- a file of weights that is cut while it is in use

make_model gpt2 speaker
mkfifo words
printf '{%% for m in messages %%}{{ m.content }}{%% endfor %%}' >speaker/chat_template.jinja
"$deltaw" generate --model_name_or_path speaker --chat true --dtype float32 --log_level error <words >out 2>err &
program=$!
exec 9>words
for i in $(seq 100); do
  grep -q safetensors "/proc/$program/maps" 2>/dev/null && break
  sleep 0.1
done
sleep 1
: >speaker/model.safetensors
(trap '' PIPE; echo good >&9) 2>/dev/null  # it may have noticed before
exec 9>&-
wait $program
got=$?
[ "$got" = 1 ] || fail "a cut file: exit code $got"
contains err 'io.file-cut'
contains err 'model.safetensors'
make_model gpt2 speaker

# ---- names, headers, values and texts that steer a terminal or are no UTF-8

for nasty in "$esc" "$latin" "$c1"; do
  rm -rf nasty
  mkdir nasty
  place="nasty/a${nasty}b"
  cp -r model "$place"
  cp -r run "$place/run"
  printf 'text,label\ngood,a%s\nbad,b%s\n' "$nasty" "$nasty" >"$place.csv"
  printf 'te%sxt,label\ngood,a\nbad,b\n' "$nasty" >"$place-header.csv"
  printf '{"text": "x%s", "label": "a%s"}\n{"text": 3, "label": []}\n' "$nasty" "$nasty" >"$place.jsonl"
  printf 'good %s film\n' "$nasty" >"$place.txt"
  printf 'seed: 1\nle%sarning_rate: x%s\n' "$nasty" "$nasty" >"$place.yaml"
  printf '{"messages": [{"role": "u%s", "content": "x"}]}\n' "$nasty" >"$place-talk.jsonl"
  printf '{{ x | f%s }}' "$nasty" >"$place.jinja"
  for verb in info validate; do any $verb "$place"; done
  any info "$place/model.safetensors"
  any info "$place/run"
  any predict --adapter_name_or_path "$place/run" --input_file "$place.txt"
  any predict --model_name_or_path "$place" --adapter_name_or_path run --input_file "$place-header.csv"
  any tokenize --model_name_or_path "$place" --input_file "$place.txt"
  any eval --adapter_name_or_path run --validation_file "$place.csv"
  for file in "$place.csv" "$place-header.csv" "$place.jsonl" "$place-talk.jsonl" "$place-missing"; do
    any validate --model_name_or_path model --train_file "$file"
    any validate --model_name_or_path speaker --train_file "$file"
  done
  any validate "$place.yaml"
  any validate --model_name_or_path speaker --train_file "$place-talk.jsonl" --chat_template "$place.jinja"
  any train $common --train_file "$place.csv" --output_dir "$place-out" --max_steps 1 --save_strategy no
  any train $common --output_dir out --method "x$nasty"
  any train $common --output_dir out --target_modules "x$nasty"
  any merge --adapter_name_or_path "$place/run" --output_dir "$place-merged"
  any export --adapter_name_or_path "$place/run" --output_dir "$place-exported"
  any methods "x$nasty"
  any "x$nasty"
  any info "--x$nasty"
done

# The same inside JSON, where it is written as text.
bad='a\u001b[31m\u009bb'
cp -r model steered
for key in model_type hidden_act problem_type architectures; do
  sed -E "s|^  \"$key\": .*|  \"$key\": \"$bad\",|" model/config.json >steered/config.json
  any info steered
  any predict --model_name_or_path steered --input_file dev.csv --text_column text
done
sed -E "s|^\{|{\"id2label\": {\"0\": \"$bad\", \"1\": \"b\"},|" model/config.json >steered/config.json
any validate --model_name_or_path steered --train_file train.csv
cp model/config.json steered/
header=$(printf '{"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"labels":"[\\"%s\\"]"}}' "$bad" "$bad")
{ printf "\\$(printf %o ${#header})\0\0\0\0\0\0\0%s\0\0\0\0" "$header"; } >steered/model.safetensors
any info steered/model.safetensors
any predict --model_name_or_path steered --input_file dev.csv --text_column text
cp steered/model.safetensors run/adapter_model.safetensors
any predict --adapter_name_or_path run --input_file dev.csv
any info run

finish
