# Segments and padding tokens: what config.json and the tokenizer say of them, in every verb.
. "$(dirname "$0")/support.sh"
make_model bert_base model
make_rows train.csv 32
cases=$tests/golden/segments
printf 'one,two,label\na man,a fish,x\nthe bank,the firm that was sold,y\n' >pairs.csv
pairs="--text_column one --text_pair_column two --dtype float32"
logits() { sed 's/.*"logits"://' out; }

# Pairs train and predict with every kind, and a segment that is given is read.
for case in "$cases"/*/; do
  name=$(basename "$case")
  train="--model_name_or_path $case $pairs --train_file pairs.csv --label_column label --ignore_mismatched_sizes true"
  expect 0 validate $train
  contains out 'ready to train'
  expect 0 train $train --max_steps 2 --output_dir "$name"
  expect 0 eval --adapter_name_or_path "$name" --validation_file pairs.csv
  expect 0 predict --model_name_or_path "$case" $pairs --input_file pairs.csv
  lines out 2
  logits >"$name.logits"
done
expect 0 predict --model_name_or_path "$cases/bert" --dtype float32 --input_file pairs.csv --text_column one
logits | cmp -s - bert.logits && fail 'the second text changes nothing'
cp -r "$cases/bert" silent
sed -i 's/{/{"model_input_names": ["input_ids", "attention_mask"],/' silent/tokenizer_config.json
expect 0 predict --model_name_or_path silent $pairs --input_file pairs.csv
logits | cmp -s - bert.logits && fail 'segments are given that model_input_names leaves out'

# A segment without an embedding is refused by every verb, before anything is trained.
cp -r "$cases/bert" few
sed -i 's/"type_id": 1/"type_id": 2/' few/tokenizer.json
labels="--label_column label --ignore_mismatched_sizes true"
for verb in "validate $labels --train_file" "train --output_dir none $labels --train_file" "predict --input_file" \
  "eval --label_column label --label_names x,y --validation_file"; do
  expect 1 $verb pairs.csv --model_name_or_path few $pairs
  contains err 'error[data.token-type]'
  contains err 'the segment 2, and the model has embeddings for 2'
done
absent none

# Padding tokens that are no tokens.
for id in -1 61 100000; do
  cp -r model padded
  sed -i "s/\"pad_token_id\": [^,]*/\"pad_token_id\": $id/" padded/config.json
  expect 0 train --model_name_or_path padded --train_file train.csv --text_column text --dtype float32 --max_steps 2 \
    --output_dir padded/out
  cmp -s padded/out/adapter_model.safetensors first || [ ! -e first ] || fail "another adapter with pad_token_id $id"
  cp padded/out/adapter_model.safetensors first
  rm -r padded
done
make_speaker speaker
printf '{"text": "abcabc"}\n{"text": "bca"}\n' >texts.jsonl
for id in null -1 61 100000; do
  sed -i "s/\"pad_token_id\": [^,]*/\"pad_token_id\": $id/" speaker/config.json
  expect 0 train --model_name_or_path speaker --train_file texts.jsonl --max_steps 2 --dtype float32 \
    --per_device_train_batch_size 2 --output_dir "said$id"
  cmp "said$id/adapter_model.safetensors" saidnull/adapter_model.safetensors || fail "another adapter with pad_token_id $id"
  expect 0 predict --adapter_name_or_path "said$id" --input_file texts.jsonl
  expect 0 generate --adapter_name_or_path "said$id" --prompt ab --prompt abcabc --max_new_tokens 3
done
cp -r "$cases/bert_generic_class" padless
sed -i 's/"pad_token_id": [^,]*/"pad_token_id": 61/' padless/config.json
sed -i '/"pad_token"/d' padless/tokenizer_config.json
sed -i 's/\[PAD\]/[NIL]/' padless/tokenizer.json
expect 2 validate --model_name_or_path padless $pairs --train_file pairs.csv --label_column label
contains err 'error[config.no-pad-token]'
contains err 'the padding token is 61 by config.json, and the model has 61 tokens (0 to 60)'

finish
