# An adapter and the base that it was trained on: base_hash in run.json, and what is said of other weights.
. "$(dirname "$0")/support.sh"
prepare_runs
make_speaker speaker
# The same weights in other files, and other weights of the same shapes.
cp -r model copy
cp -r model other
alter() { # FOLDER: the last number of its weights
  local size
  size=$(stat -c %s "$1/model.safetensors")
  printf '\000\000\200\077' | dd of="$1/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
}
alter other
same() { lacks err 'base_hash'; }
warned() { # FILE: once
  contains err "that base_hash in $1 was taken of"
  [ "$(grep -c 'base_hash' err)" = 1 ] || fail 'it is said more than once'
}

rows="--train_file train.csv --validation_file dev.csv --text_column text --dtype float32
  --per_device_train_batch_size 8 --learning_rate 1e-2"
short="$rows --max_steps 2 --save_strategy no"
expect 0 train $short --model_name_or_path model --output_dir a
[ "$(grep -cE '"base_hash": "sampled1:[0-9a-f]{32}"' a/run.json)" = 1 ] || fail 'run.json has no hash of the base'
expect 0 train $short --model_name_or_path copy --output_dir b
[ "$(grep base_hash a/run.json)" = "$(grep base_hash b/run.json)" ] || fail 'a copy has another hash'
same
expect 0 train $short --model_name_or_path other --output_dir c
[ "$(grep base_hash a/run.json)" != "$(grep base_hash c/run.json)" ] || fail 'other weights have the same hash'
expect 0 train --help
lacks out base_hash

# Every verb that brings both together.
for verb in 'eval --validation_file dev.csv' 'predict --input_file dev.csv' 'merge --output_dir merged' \
  'export --output_dir exported' "validate $short" "train $short --output_dir on"; do
  for base in model copy other; do
    rm -rf merged exported on
    expect 0 $verb --adapter_name_or_path a --model_name_or_path $base
    [ $base = other ] && warned a/run.json || same
  done
done
expect 0 validate $short --adapter_name_or_path a --model_name_or_path other --json
contains out 'that base_hash in a/run.json was taken of'
[ "$(grep -c 'was taken of' out)" = 1 ] || fail 'it is said more than once'

# Several: each is looked at.
expect 0 predict --adapter_name_or_path a --with_adapters c --input_file dev.csv
warned c/run.json
expect 0 predict --adapter_name_or_path a --with_adapters b --model_name_or_path other --input_file dev.csv
warned 'a/run.json and b/run.json'
expect 0 validate $short --model_name_or_path model --beside '[{"adapter_name_or_path":"c"}]'
warned c/run.json

# A run again, and one that goes on from a checkpoint.
sed -i 's/"model_name_or_path": "model"/"model_name_or_path": "other"/' a/run.json
expect 0 train a/run.json --output_dir again
warned a/run.json
[ "$(grep base_hash again/run.json)" = "$(grep base_hash c/run.json)" ] || fail 'the hash is not that of the base in use'
long="--max_steps 4 --save_strategy steps --save_steps 2 --output_dir long"
expect 0 train $rows $long --model_name_or_path model
rm -rf long/checkpoint-4 long/all_results.json
expect 0 train $rows $long --model_name_or_path model --resume_from_checkpoint true
same
rm -rf long/checkpoint-4 long/all_results.json
expect 0 train $rows $long --model_name_or_path other --resume_from_checkpoint true
warned long/checkpoint-2/run.json

# Who says nothing of the base, or something that is no hash, is believed.
for hash in '"x"' '7' '"sampled9:00000000000000000000000000000000"' null; do
  sed "s/\"base_hash\": [^,]*/\"base_hash\": $hash/" c/run.json >b/run.json
  expect 0 predict --adapter_name_or_path b --model_name_or_path model --input_file dev.csv
  same
done
rm b/run.json
expect 0 predict --adapter_name_or_path b --model_name_or_path other --input_file dev.csv
same

# A language model.
printf '{"text": "abcabc"}\n{"text": "bca"}\n' >texts.jsonl
expect 0 train --model_name_or_path speaker --train_file texts.jsonl --max_steps 1 --dtype float32 --output_dir d
cp -r speaker loud
alter loud
for base in speaker loud; do
  expect 0 generate --adapter_name_or_path d --model_name_or_path $base --prompt ab --max_new_tokens 2
  [ $base = loud ] && warned d/run.json || same
done

finish
