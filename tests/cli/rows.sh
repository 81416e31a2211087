# What is read from a user's files of text, and one line of results for each row of them.
. "$(dirname "$0")/support.sh"
make_model bert_cls model
make_model bert_base base
classify="predict --model_name_or_path model --dtype float32"

make_speaker speaker
ask="predict --model_name_or_path speaker --dtype float32"

# Rows in, rows out.
printf 'abc\na\n\nabd\n' >texts.txt
expect 0 $ask --input_file texts.txt --logits_file logits.safetensors
lines out 4
[ "$(sed -E 's/"nll":[0-9.]+/"nll":N/' out)" = '{"row":1,"nll":N,"tokens":2}
{"row":2,"nll":null,"tokens":0}
{"row":3,"nll":null,"tokens":0}
{"row":4,"nll":N,"tokens":2}' ] || fail 'lines of a text file'
cp out all
for n in 0 1 3; do contains logits.safetensors "\"logits.$n\""; done
lacks logits.safetensors '"logits.2"'
printf 'abd\n' >last.txt
expect 0 $ask --input_file last.txt
[ "$(sed 's/.*"nll"//' out)" = "$(sed -n '4s/.*"nll"//p' all)" ] || fail 'a row has the numbers of another'
printf '{"id": 7, "text": "a"}\n\n{"text": ""}\n{"id": "x", "text": "ab"}\n' >texts.jsonl
expect 0 $ask --input_file texts.jsonl
[ "$(sed -E 's/"nll":[0-9.]+/"nll":N/' out)" = '{"row":1,"id":7,"nll":null,"tokens":0}
{"row":2,"nll":null,"tokens":0}
{"row":3,"id":"x","nll":N,"tokens":1}' ] || fail 'lines of a file of rows'
# Running text in windows of 32 letters, each 8 or 31 further.
printf 'onceuponatime%.0s' $(seq 24) >running.txt
for windows in '8 36' '0 11'; do
  expect 0 eval --model_name_or_path speaker --dtype float32 --validation_file running.txt --max_length 32 --stride ${windows% *}
  contains out "\"eval_samples\": ${windows#* },"
done
printf 'a\nb\n' >single.txt
expect 0 $ask --input_file single.txt
lines out 2
printf '{"text": "ab"}\n{"text": null}\n' >null.jsonl
expect 1 $ask --input_file null.jsonl
empty out
contains err '"text" is null'
contains err 'null.jsonl, line 2'
printf 'text\ngood film\n""\nbad book\n\nthe end\n' >one.csv
expect 0 $classify --input_file one.csv
lines out 4
contains out '{"row":4,"label":'
printf 'id,text\n007,good\n8,bad\n' >named.CSV
expect 0 $classify --input_file named.CSV --logits_file named.safetensors
lines out 2
contains out '{"row":1,"id":"007","label":'

# Bytes of another encoding.
printf 'text,label\ngood,yes\ncaf\351 was good,caf\351\nbad,yes\n' >latin.csv
train="--model_name_or_path base --train_file latin.csv --dtype float32 --max_steps 1 --save_strategy no"
expect 1 validate $train
contains err 'error[format.encoding]: the byte 0xE9 at line 3, column 4 is no UTF-8'
contains err '--encoding latin-1'
expect 0 train $train --encoding latin-1 --output_dir latin
contains latin/run.json '"encoding": "latin-1"'
contains latin/README.md "$(printf 'caf\303\251')"
expect 0 eval --adapter_name_or_path latin --validation_split 0.5
expect 1 predict --adapter_name_or_path latin --input_file latin.csv --text_column text
contains err '0xE9'
expect 0 predict --adapter_name_or_path latin --input_file latin.csv --encoding latin-1
lines out 3
expect 2 validate $train --encoding latin-x
contains err 'error[config.encoding]'
contains err 'windows-1252'
printf 'a caf\351\n' >latin.txt
expect 1 tokenize --model_name_or_path model --input_file latin.txt
contains err 'latin.txt'
contains err 'line 1, column 6'
expect 0 tokenize --model_name_or_path model --input_file latin.txt --encoding latin-1
lines out 1
printf 'the\nthe caf\351\n' | "$deltaw" tokenize --model_name_or_path model >out 2>err && fail 'a byte is overlooked'
contains err 'line 2, column 8'
printf 'the caf\351\n' | "$deltaw" tokenize --model_name_or_path model --encoding latin-1 >out 2>err || fail 'standard input'
expect 1 generate --model_name_or_path speaker --input_file latin.txt
contains err 'format.encoding'
printf '{"prompt": "caf\351"}\n' >latin.jsonl
expect 1 generate --model_name_or_path speaker --input_file latin.jsonl
contains err 'format.encoding'
printf 'label_names: [caf\351, b]\n' >latin.yaml
expect 2 validate latin.yaml $train
contains err 'error[config.encoding]'
contains err 'line 1, column 18'
expect 2 train $train --output_dir none --label_names "$(printf 'caf\351'),b"
contains err 'usage.encoding'
contains err 'caf\xe9'
absent none
printf '{%% for m in messages %%}caf\351{%% endfor %%}' >latin.jinja
printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' >talk.jsonl
expect 1 validate --model_name_or_path speaker --train_file talk.jsonl --chat_template latin.jinja
contains err 'latin.jinja'
contains err '0xE9'
printf 't\0e\0x\0t\0,\0l\0a\0b\0e\0l\0\n\0a\0,\0b\0\n\0c\0,\0d\0\n\0' >wide.csv
expect 1 validate --model_name_or_path base --train_file wide.csv
contains err '--encoding utf-16le'
expect 0 validate --model_name_or_path base --train_file wide.csv --encoding utf-16le
contains out 'labels: b d'

# No message hands on what steers a terminal.
quiet() { # FILE: has a control character been written out, and none left?
  contains "$1" '\x1b'
  ! LC_ALL=C grep -q "$(printf '[\001-\010\013-\037\177]')" "$1" || fail "$1 holds control characters"
}
esc=$(printf '\033[31m')
printf 'te%sxt,lab\na,b\n' "$esc" >bad.csv
expect 2 validate --model_name_or_path base --train_file bad.csv
quiet err
printf 'text,label\nx%sy,a%s\nz,b\n' "$esc" "$esc" >steer.csv
expect 0 validate --model_name_or_path base --train_file steer.csv
quiet out
expect 0 train --model_name_or_path base --train_file steer.csv --dtype float32 --max_steps 1 --save_strategy no \
  --output_dir steered
quiet err
cp -r model labelled
sed -i 's/"negative"/"nega\\u001btive"/' labelled/config.json
expect 0 info labelled
quiet out
expect 2 validate "--$esc"
quiet err
printf 'le%sarn: 1\n' "$esc" >bad.yaml
expect 2 validate bad.yaml
quiet err
expect 2 $classify --input_file "no${esc}file.csv"
quiet err

# Several files, patterns, packed files, columns and folders.
mkdir many
printf 'text,label\ngood,yes\nfine,yes\n' >many/train-1.csv
printf 'label,text\nno,bad\n' | gzip >many/train-2.csv.gz
printf 'text,label\nwell,yes\nill,no\n' >many/dev.csv
for files in 'many/train-1.csv many/train-2.csv.gz' 'many/train-1.csv,many/train-2.csv.gz' 'many/train-*'; do
  set -f
  expect 0 validate --model_name_or_path base --train_file $files
  set +f
  contains out '3 rows to train on'
done
expect 0 validate --model_name_or_path base --dataset_dir many
contains out '3 rows to train on, 2 to evaluate on'
printf 'train_file: [many/train-1.csv, many/train-2.csv.gz]\n' >many.yaml
expect 0 train many.yaml --model_name_or_path base --dtype float32 --max_steps 1 --save_strategy no --output_dir listed
contains listed/README.md '`train-1.csv and 1 more`'
expect 0 validate --model_name_or_path base --train_file many/train-1.csv many/train-2.csv.gz many.yaml
expect 2 validate --model_name_or_path base --train_file 'many/tarin-*'
contains err 'many holds dev.csv, train-1.csv, train-2.csv.gz'
expect 2 $classify --test_file 'many/*.csv' --output_file many/dev.csv
contains err 'error[config.output-is-input]'
head -c 30 many/train-2.csv.gz >cut.csv.gz
expect 1 validate --model_name_or_path base --train_file cut.csv.gz
contains err 'error[format.compressed]'
columns=$tests/golden/columns
expect 0 validate --model_name_or_path base --train_file "$columns/texts.parquet" --text_column numbered
contains out '24 rows to train on'
expect 0 $classify --input_file "$columns/stream.arrow" --text_column numbered
lines out 24
expect 0 validate --model_name_or_path base --dataset_dir "$columns/saved"
contains out '5 rows to train on'

finish
