# Several adapters at once, and tensors that layers share, as a user meets them.
. "$(dirname "$0")/support.sh"
prepare_runs
saving="--max_steps 4 --save_strategy steps --save_steps 2"
logits() { sed 's/.*"logits"://' out | tr -c '0-9.e+\n-' ' '; }
# Whether two files of numbers agree to four places.
near() { paste "$1" "$2" | awk '{ for (i = 1; i <= NF / 2; i++) if (($i - $(i + NF / 2)) ^ 2 > 1e-8) exit 1 }'; }

expect 0 train $common --method lora --max_steps 4 --output_dir a
expect 0 train $common --method randlora --randlora_alpha 64 --max_steps 4 --output_dir b

# Two finished ones: asked, weighted, merged, exported as one.
expect 0 predict --adapter_name_or_path a --input_file dev.csv
logits >alone
expect 0 predict --adapter_name_or_path a --with_adapters b --adapter_weights 1,0 --input_file dev.csv
logits >weighted
near weighted alone || fail 'an adapter of weight zero changed the answers'
expect 0 predict --adapter_name_or_path a --with_adapters b --input_file dev.csv
logits >both
near both alone && fail 'the second adapter did nothing'
expect 0 merge --adapter_name_or_path a --with_adapters b --output_dir merged
contains out '"passed": true'
expect 0 export --adapter_name_or_path a --with_adapters b --rank 4 --adapter_weights 0.5,0.5 --output_dir sum
contains out '"passed": true'
contains out '"kind": "cut"'
contains out '"worst_layer": "bert.'
contains out '"kept_share": '
contains sum/adapter_config.json '"peft_type": "LORA"'
expect 0 export --adapter_name_or_path a --output_dir same
contains out '"kind": "exact"'
lacks out kept_share
expect 0 train $common --method lora --seed 7 --max_steps 4 --output_dir c
expect 0 export --adapter_name_or_path a --with_adapters c --combination_type linear --output_dir linear
contains out '"exact": false'
contains out '"kind": "linear"'
contains out '"rank": 8'
expect 0 export --adapter_name_or_path a --with_adapters c --combination_type svd --output_dir svd
contains out '"rank": 8'
expect 2 export --adapter_name_or_path a --with_adapters b --combination_type linear --output_dir none
contains err 'randlora'
expect 2 export --adapter_name_or_path a --with_adapters c --combination_type ties --output_dir none
contains err 'linear'
absent none
expect 2 predict --adapter_name_or_path a --with_adapters b --adapter_weights 1 --input_file dev.csv
contains err '1 weights for 2 adapters'
expect 2 predict --adapter_name_or_path a --with_adapters b --adapter_weights 1,x --input_file dev.csv
contains err "'x' is no number"

# Trained side by side, one of them finished before and frozen; resumed byte for byte.
beside='[{"method":"randlora","randlora_alpha":64},{"adapter_name_or_path":"a"}]'
expect 0 train $common --method lora --beside "$beside" $saving --output_dir whole
for part in 0-lora 1-randlora 2-lora; do [ -s "whole/$part/adapter_model.safetensors" ] || fail "no $part"; done
cp -r whole again
rm -rf again/checkpoint-4 again/?-* again/all_results.json
expect 0 train $common --method lora --beside "$beside" $saving --output_dir again \
  --resume_from_checkpoint again/checkpoint-2
for part in 0-lora 1-randlora 2-lora; do
  cmp whole/$part/adapter_model.safetensors again/$part/adapter_model.safetensors || fail "the resumed $part differs"
done
expect 0 info whole
contains out 'randlora'
expect 0 predict --adapter_name_or_path whole --input_file dev.csv
lines out 8
expect 0 merge --adapter_name_or_path whole --output_dir merged --overwrite_output_dir
contains out '"passed": true'
expect 0 train $common --method lora --beside '[{"method":"prefix_tuning"}]' --max_steps 2 --output_dir prefix
expect 0 predict --adapter_name_or_path prefix --input_file dev.csv

# One of them with a rank budget, resumed byte for byte.
beside='[{"method":"adalora","init_r":6,"target_r":2,"tfinal":1}]'
expect 0 train $common --method lora --beside "$beside" $saving --output_dir pruned
contains pruned/1-adalora/adapter_config.json '"rank_pattern": {'
contains pruned/1-adalora/adapter_config.json 'false'
cp -r pruned again2
rm -rf again2/checkpoint-4 again2/?-* again2/all_results.json
expect 0 train $common --method lora --beside "$beside" $saving --output_dir again2 \
  --resume_from_checkpoint again2/checkpoint-2
for part in 0-lora 1-adalora; do
  cmp pruned/$part/adapter_model.safetensors again2/$part/adapter_model.safetensors || fail "the resumed $part differs"
done
expect 2 train $common --method lora --beside '[{"method":"adalora","tinit":9}]' --max_steps 4 --output_dir refused
contains err 'tinit'
absent refused

expect 2 train $common --method dora --beside '[{"method":"ia3","target_modules":["query"]}]' --output_dir refused
contains err 'dora and ia3'
expect 2 train $common --method lora --beside '[{"method":"lroa"}]' --output_dir refused
contains err "'lora'"
expect 2 train $common --method lora --beside '{"method":"lora"}' --output_dir refused
contains err 'key "beside"'
absent refused

# One mixer for all layers: fewer parameters, and a file that others read.
expect 0 train $common --method moslora --share '{"lora_AB":".*"}' --max_steps 2 --output_dir shared
contains shared/adapter_config.json '"share"'
expect 0 eval --adapter_name_or_path shared
expect 2 train $common --method moslora --share '{"lora_AC":".*"}' --output_dir refused
contains err 'lora_AB'

# Two that replace one bias by two values; heads are the first one's, which is said.
expect 0 train $common --method lora --bias all --max_steps 4 --output_dir biased
expect 0 train $common --method loha --bias all --max_steps 4 --output_dir biased_too
expect 2 predict --adapter_name_or_path biased --with_adapters biased_too --input_file dev.csv
contains err 'error[config.conflict]'
contains err 'lora and loha'
contains err '.bias'
expect 0 predict --adapter_name_or_path biased --with_adapters a --input_file dev.csv
contains err 'left out: classifier.weight, classifier.bias'

# Folders and files that are no adapter.
expect 2 eval --adapter_name_or_path a/adapter_model.safetensors
contains err 'name its folder: a'
expect 2 eval --adapter_name_or_path a --with_adapters a/adapter_config.json
contains err 'name its folder: a'
expect 2 info a/absent
expect 2 eval --adapter_name_or_path model
contains err 'model_name_or_path'
mkdir -p stopped
cp -r whole/checkpoint-2 whole/checkpoint-4 stopped
expect 2 predict --adapter_name_or_path stopped --input_file dev.csv
contains err 'stopped/checkpoint-4'
expect 2 train $common --beside '[{"adapter_name_or_path":"stopped"}]' --output_dir refused
contains err 'stopped/checkpoint-4'
mkdir -p mlx
printf '{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}' >mlx/adapter_config.json
cp a/adapter_model.safetensors mlx/adapters.safetensors
for verb in info "eval --adapter_name_or_path" "merge --output_dir none --adapter_name_or_path" \
  "train --train_file train.csv --adapter_name_or_path"; do
  expect 1 $verb mlx
  contains err 'scale'
done
cp -r a nobody
rm nobody/run.json
sed -i 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": null/' nobody/adapter_config.json
for verb in eval predict merge export generate "train --train_file train.csv"; do
  expect 2 $verb --adapter_name_or_path nobody --output_dir none
  case $verb in eval | predict | generate) expect 2 $verb --adapter_name_or_path nobody ;; esac
  contains err 'the adapter names no base model'
  contains err '--model_name_or_path'
done
expect 0 eval --adapter_name_or_path nobody --model_name_or_path model --validation_file dev.csv --text_column text
printf '{"parts": [{}]}' >nobody/adapter_config.json
for verb in info "eval --model_name_or_path model --adapter_name_or_path" \
  "merge --model_name_or_path model --output_dir none --adapter_name_or_path" \
  "train --model_name_or_path model --train_file train.csv --adapter_name_or_path"; do
  expect 1 $verb nobody
  contains err 'error[format.bad-adapter]'
done
absent none refused

# Values that are not finite: of the adapter, and of the base.
cp -r a broken
size=$(stat -c %s broken/adapter_model.safetensors)
printf '\000\000\300\177' | dd of=broken/adapter_model.safetensors bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
for verb in "predict --input_file dev.csv" eval "merge --output_dir none" "export --output_dir none" \
  "train --train_file train.csv --output_dir none"; do
  expect 1 $verb --adapter_name_or_path broken
  contains err 'error[numeric.non-finite]'
  contains err "values of 'base_model.model."
  empty out
done
absent none
cp -r model broken_model
size=$(stat -c %s model/model.safetensors)
head -c $((size / 2)) model/model.safetensors >broken_model/model.safetensors
for i in $(seq 1 $(((size - size / 2) / 4))); do printf '\000\000\300\177'; done >>broken_model/model.safetensors
truncate -s "$size" broken_model/model.safetensors
for verb in "predict --input_file dev.csv" eval; do
  expect 1 $verb --adapter_name_or_path a --model_name_or_path broken_model
  contains err 'error[numeric.non-finite]'
  contains err 'row 1 of the data'
  empty out
done

finish
