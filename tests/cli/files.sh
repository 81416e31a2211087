# What a user owns stays as it is, whatever folder the program is told to write into.
. "$(dirname "$0")/support.sh"
prepare_runs
short="$common --method lora --max_steps 2"
saving="$common --method lora --save_strategy steps"
record=deltaw_manifest.json

# Files and their contents under a folder, by name; what is deltaw's is left out by patterns.
state() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 -r md5sum; find . -type l -printf '%p %l\n' | sort); }
unchanged() { state "$1" | cmp -s - "$2" || fail "$1 changed: $(state "$1" | diff - "$2")"; }
foreign() { contains err 'error[config.output-foreign]'; for name in "$@"; do contains err "$name"; done; }
mine() { # FOLDER: files and folders of a user, under names that deltaw has no use for
  mkdir -p "$1/.git" "$1/deep/er"
  echo 'ref: main' >"$1/.git/HEAD"
  echo notes >"$1/notes.txt"
  echo deep >"$1/deep/er/file"
  ln -s notes.txt "$1/link"
}
still_mine() {
  [ "$(cat "$1/.git/HEAD" "$1/notes.txt" "$1/deep/er/file" "$1/link")" = "ref: main
notes
deep
notes" ] || fail "files of the user in $1"
}
expect 0 train $short --output_dir a

# Training: what is beside stays, what is in the way is named, and nothing is touched.
mine run
expect 0 train $short --output_dir run
still_mine run
cmp -s a/adapter_model.safetensors run/adapter_model.safetensors || fail 'the run differs'
expect 0 train $short --output_dir run --overwrite_output_dir
still_mine run
mkdir card
echo '# mine' >card/README.md
echo '{}' >card/tokenizer.json
state card >before
expect 2 train $short --output_dir card
foreign README.md tokenizer.json --adopt_output_dir
expect 2 train $short --output_dir card --overwrite_output_dir true
foreign README.md
unchanged card before
cp -r a edited
echo 'more' >>edited/README.md
state edited >before
expect 2 train $short --output_dir edited --overwrite_output_dir
foreign 'README.md (changed since'
unchanged edited before

# The base, an adapter, the configuration, data.
state model >before
expect 2 train $short --output_dir model
contains err 'error[config.output-is-input]'
expect 2 train $short --output_dir model/ --overwrite_output_dir --adopt_output_dir true
contains err 'the base'
cp -r model other
expect 2 train $short --output_dir other
foreign config.json model.safetensors
unchanged model before
unchanged other before
mkdir here
cp model/* here/
mkdir here/base
mv here/*.* here/base/
cp train.csv dev.csv here/
cat >here/run.json <<'JSON'
{"model_name_or_path": "base", "train_file": "train.csv", "text_column": "text", "dtype": "float32", "max_steps": 2,
 "target_modules": ["query"]}
JSON
state here >before
(cd here && "$deltaw" train run.json --output_dir . >../out 2>../err </dev/null)
[ $? = 2 ] || fail 'train run.json --output_dir .'
contains err 'config.output-is-input'
contains err 'run.json'
(cd here && "$deltaw" train run.json --output_dir . --overwrite_output_dir --adopt_output_dir true >../out 2>../err </dev/null)
[ $? = 2 ] || fail 'train run.json --output_dir . with all flags'
unchanged here before
mv here/run.json here/mine.json
(cd here && "$deltaw" train mine.json --output_dir . >../out 2>../err </dev/null) || fail 'a run beside its data'
present here/adapter_model.safetensors here/mine.json here/train.csv here/base/model.safetensors
cp -r a own
expect 2 train own/run.json --output_dir own --overwrite_output_dir
contains err 'the configuration'
cp -r own/adapter_model.safetensors kept
expect 2 train $common --adapter_name_or_path own --max_steps 2 --output_dir own
contains err 'error[config.output-exists]'
cmp -s kept own/adapter_model.safetensors || fail 'the adapter changed'
expect 0 train $common --method lora --beside '[{"method":"randlora"}]' --max_steps 2 --output_dir parts
expect 2 train $common --adapter_name_or_path parts/0-lora --max_steps 2 --output_dir parts --overwrite_output_dir
contains err 'an adapter'
present parts/0-lora/adapter_model.safetensors

# A wrong configuration touches nothing.
state a >before
expect 2 train $short --output_dir a --overwrite_output_dir --target_modules qury
expect 2 train ${short/_column text/_column txt} --output_dir a --overwrite_output_dir
contains err txt
printf "text,label\nthe film,rubbish\n" >wrong.csv
expect 1 train ${short/dev.csv/wrong.csv} --output_dir a --overwrite_output_dir
unchanged a before

# Parts of an earlier adapter go, those of a user stay.
mkdir parts/2-lora
echo mine >parts/2-lora/notes
expect 2 train $short --output_dir parts --overwrite_output_dir
foreign 2-lora
mv parts/2-lora parts/mine
expect 0 train $short --output_dir parts --overwrite_output_dir
absent parts/0-lora parts/1-randlora
present parts/mine/notes
expect 0 predict --adapter_name_or_path parts --input_file dev.csv

# Checkpoints: only its own go, and a changed one is the user's.
mkdir -p many/checkpoint-9
echo mine >many/checkpoint-9/notes
expect 0 train $saving --max_steps 8 --save_steps 2 --save_total_limit 1 --output_dir many
present many/checkpoint-9/notes many/checkpoint-8
absent many/checkpoint-2 many/checkpoint-4 many/checkpoint-6
expect 2 train $saving --max_steps 9 --save_steps 3 --output_dir many --overwrite_output_dir
foreign checkpoint-9/
present many/checkpoint-8 many/adapter_model.safetensors
expect 0 train $saving --max_steps 8 --save_steps 2 --output_dir some
echo mine >some/checkpoint-2/notes
rm -rf some/checkpoint-6 some/checkpoint-8 some/adapter_*
expect 0 train $saving --max_steps 8 --save_steps 2 --save_total_limit 2 --output_dir some --resume_from_checkpoint true
present some/checkpoint-2/notes some/checkpoint-6 some/checkpoint-8
absent some/checkpoint-4
mkdir taken
cp -r some/checkpoint-6 taken/
expect 2 train $saving --max_steps 4 --save_steps 2 --output_dir taken
foreign checkpoint-6/
expect 2 train $saving --max_steps 12 --save_steps 2 --output_dir taken --resume_from_checkpoint true
contains err 'error[config.resume]'
[ "$(ls taken)" = checkpoint-6 ] || fail 'a resume that was refused wrote something'
expect 0 train $saving --max_steps 8 --save_steps 2 --output_dir taken --resume_from_checkpoint true
present taken/checkpoint-6 taken/checkpoint-8
cmp -s some/adapter_model.safetensors taken/adapter_model.safetensors || fail 'the resumed run differs'

# What is put in the way while a run goes on costs neither the run nor the file.
"$deltaw" train $common --method lora --max_steps 1500 --output_dir late >out 2>err </dev/null &
pid=$!
for _ in $(seq 1 300); do
  [ -e late/log.jsonl ] && break
  sleep 0.1
done
echo mine >late/README.md
wait $pid || fail 'a run with a README.md in its way'
[ "$(cat late/README.md)" = mine ] || fail 'late/README.md'
contains err 'README.md'
contains err 'adapter written to late/adapter'
expect 0 predict --adapter_name_or_path late/adapter --input_file dev.csv

# One process at a time.
"$deltaw" train $common --method lora --max_steps 100000 --output_dir busy >busy.out 2>busy.err </dev/null &
pid=$!
for _ in $(seq 1 300); do
  [ -e busy/log.jsonl ] && break
  sleep 0.1
done
for words in "train $short --overwrite_output_dir" "train $short --resume_from_checkpoint auto" \
  "merge --adapter_name_or_path a --overwrite_output_dir"; do
  expect 2 $words --output_dir busy
  contains err 'error[config.output-busy]'
done
kill -KILL $pid
wait $pid 2>/dev/null
expect 0 train $short --output_dir busy --overwrite_output_dir
cmp -s a/adapter_model.safetensors busy/adapter_model.safetensors || fail 'a run after one that was killed differs'

# Pieces go into a pipe, a link stays a link, a folder is refused before the work.
mkfifo pipe
cat pipe >piped &
expect 0 predict --adapter_name_or_path a --input_file dev.csv --output_file pipe
wait $!
[ -p pipe ] || fail 'the pipe was replaced'
lines piped 8
echo old >real.jsonl
chmod 600 real.jsonl
ln -s real.jsonl link.jsonl
expect 0 predict --adapter_name_or_path a --input_file dev.csv --output_file link.jsonl
[ -L link.jsonl ] || fail 'the link was replaced'
cmp -s piped real.jsonl || fail 'the file behind the link is another one'
[ "$(stat -c %a real.jsonl)" = 600 ] || fail 'the mode of the file that was replaced'
mkdir folder.jsonl
expect 1 predict --adapter_name_or_path a --input_file dev.csv --output_file folder.jsonl
contains err 'error[io.unwritable]'
contains err 'not of a folder'

# What the file system refuses is no bug, and is not taken for nothing being there.
ln -s /nowhere/dev.csv gone.csv
for words in 'validate --train_file gone.csv' 'validate --train_file train.csv --validation_file gone.csv' \
  'predict --input_file gone.csv' 'predict --input_file dev.csv --adapter_name_or_path gone.csv'; do
  expect 1 $words --model_name_or_path model
  contains err 'error[io.not-found]'
  contains err '/nowhere/dev.csv'
done
expect 1 predict --input_file dev.csv --model_name_or_path gone.csv
contains err '/nowhere/dev.csv'
ln -s loop loop
expect 1 info loop
contains err 'error[io.unreadable]'
contains err 'loop'
expect 1 train $short --output_dir loop --resume_from_checkpoint auto
contains err 'error[io.unreadable]'

# Merging and exporting.
for verb in merge export; do
  mine $verb
  expect 2 $verb --adapter_name_or_path a --output_dir $verb
  contains err 'error[config.output-exists]'
  expect 0 $verb --adapter_name_or_path a --output_dir $verb --overwrite_output_dir
  expect 0 $verb --adapter_name_or_path a --output_dir $verb --overwrite_output_dir
  contains out '"passed": true'
  still_mine $verb
  present $verb/vocab.txt $verb/$record
  cp -r model $verb-model
  mkdir $verb-model/sub
  echo mine >$verb-model/sub/file
  state $verb-model >before
  expect 2 $verb --adapter_name_or_path a --output_dir $verb-model --overwrite_output_dir
  foreign config.json model.safetensors vocab.txt --adopt_output_dir
  unchanged $verb-model before
  state a >before
  expect 2 $verb --adapter_name_or_path a --output_dir a --overwrite_output_dir
  contains err 'error[config.output-is-input]'
  unchanged a before
  state model >before
  expect 2 $verb --adapter_name_or_path a --output_dir model --overwrite_output_dir --adopt_output_dir true
  contains err 'error[config.output-is-input]'
  unchanged model before
  expect 0 $verb --adapter_name_or_path a --output_dir $verb-model --overwrite_output_dir --adopt_output_dir true
  present $verb-model/sub/file
done

# No output is written over what is read.
echo 'good film' >prompts.txt
state . | grep -vE ' \./(out|err|before|all)$' >all
cp a/run.json settings.json
while read -r words; do
  expect 2 $words
  contains err 'config.output-is-input'
done <<'LINES'
predict --adapter_name_or_path a --input_file dev.csv --output_file dev.csv
predict --adapter_name_or_path a --input_file dev.csv --output_file ./here/../dev.csv
predict --adapter_name_or_path a --input_file dev.csv --logits_file a/adapter_model.safetensors
predict --adapter_name_or_path a --input_file dev.csv --logits_file model/model.safetensors
predict --adapter_name_or_path a --input_file dev.csv --output_file a/run.json
predict settings.json --adapter_name_or_path a --input_file dev.csv --output_file settings.json
predict --adapter_name_or_path a --output_file train.csv --input_file dev.csv
predict --adapter_name_or_path a --test_file dev.csv --output_file dev.csv
generate --model_name_or_path model --input_file prompts.txt --output_file prompts.txt
tokenize --model_name_or_path model --input_file dev.csv --output_file dev.csv
tokenize --model_name_or_path model --input_file dev.csv --output_file model/vocab.txt
validate settings.json --rows_file train.csv
validate settings.json --rows_file settings.json
LINES
expect 2 predict --adapter_name_or_path a --input_file dev.csv --output_file new --logits_file ./new
rm settings.json
state . | grep -vE ' \./(out|err|before|all)$' >now
grep -v ' ./now$' now | cmp -s - all || fail "an input was written: $(diff now all)"
ln dev.csv hard.csv
expect 2 predict --adapter_name_or_path a --input_file dev.csv --output_file hard.csv
expect 0 predict --adapter_name_or_path a --input_file dev.csv --output_file a/answers.jsonl
expect 0 predict --adapter_name_or_path a --input_file dev.csv --output_file a/answers.jsonl

# A manifest is believed in little: names outside, links, other contents, no JSON, too large.
echo mine >victim
claim() { # NAME CONTENTS: a manifest that says that NAME is deltaw's
  printf '{"deltaw_manifest": 1, "files": {"%s": %s}}' "$1" "$2" >hostile/$record
}
entry='[{"kind":"file","bytes":5,"xxh3_128":"00000000000000000000000000000000"}]'
for name in ../victim "$PWD/victim" . .. a/b deltaw_manifest.json 'a\u0000b' ''; do
  rm -rf hostile
  mkdir hostile
  echo mine >hostile/README.md
  claim "$name" "$entry"
  state hostile >before
  expect 2 train $short --output_dir hostile --overwrite_output_dir
  foreign $record
  expect 2 merge --adapter_name_or_path a --output_dir hostile --overwrite_output_dir
  foreign $record
  unchanged hostile before
done
for text in 'no json' '[]' '{"deltaw_manifest": 2, "files": {}}' "$(printf '[%.0s' $(seq 100000))"; do
  printf '%s' "$text" >hostile/$record
  expect 2 train $short --output_dir hostile --overwrite_output_dir
  foreign $record
done
head -c 20000000 /dev/zero | tr '\0' ' ' >hostile/$record
expect 2 train $short --output_dir hostile --overwrite_output_dir
foreign $record
claim README.md "$entry"
expect 2 train $short --output_dir hostile --overwrite_output_dir
foreign 'README.md (changed since'
rm hostile/README.md
ln -s ../victim hostile/README.md
expect 2 train $short --output_dir hostile --overwrite_output_dir
foreign README.md
rm hostile/README.md hostile/$record
ln -s ../victim hostile/$record
expect 2 train $short --output_dir hostile
foreign $record
contains victim mine

# A folder from before there were manifests is adopted when the user says so, and goes on or is replaced.
expect 0 train $saving --max_steps 4 --save_steps 2 --output_dir old
find old -name $record -delete
mine old
rm -rf old/checkpoint-4 old/adapter_* old/*_results.json
state old >before
expect 2 train $saving --max_steps 4 --save_steps 2 --output_dir old --resume_from_checkpoint true
foreign run.json log.jsonl --adopt_output_dir
unchanged old before
cp -r old old2
expect 0 train $saving --max_steps 4 --save_steps 2 --output_dir old --resume_from_checkpoint true --adopt_output_dir true
still_mine old
expect 2 train $saving --max_steps 4 --save_steps 2 --output_dir old2 --adopt_output_dir true
contains err 'error[config.output-exists]'
unchanged old2 before
expect 0 train $saving --max_steps 4 --save_steps 2 --output_dir old2 --adopt_output_dir true --overwrite_output_dir
still_mine old2
cmp -s old/adapter_model.safetensors old2/adapter_model.safetensors || fail 'the adopted run differs'

# The word of an adapter's folder does not lead out of it.
echo secret >secret.txt
for path in "$PWD/secret.txt" ../secret.txt /nowhere/template.jinja; do
  rm -rf sly taken_out
  cp -r a sly
  sed -i "s|^{|{\"chat_template\": \"$path\",|" sly/run.json
  for verb in merge export; do
    expect 0 $verb --adapter_name_or_path sly --output_dir taken_out --overwrite_output_dir
    absent taken_out/chat_template.jinja
  done
  expect 0 predict --adapter_name_or_path sly --input_file dev.csv
  expect 0 eval --adapter_name_or_path sly
done
for name in chat_template.jinja tokenizer_config.json; do
  rm -rf sly taken_out
  cp -r a sly
  ln -s ../secret.txt sly/$name
  expect 1 merge --adapter_name_or_path sly --output_dir taken_out
  contains err "$name"
  absent taken_out
done
mkdir -p hub/snapshots/rev hub/blobs
cp -r a/. hub/snapshots/rev/
mv hub/snapshots/rev/vocab.txt hub/blobs/0123
ln -s ../../blobs/0123 hub/snapshots/rev/vocab.txt
expect 0 merge --adapter_name_or_path hub/snapshots/rev --output_dir taken_out
cmp -s taken_out/vocab.txt model/vocab.txt || fail 'a link of the cache'
[ -L taken_out/vocab.txt ] && fail 'a link was written'

finish
