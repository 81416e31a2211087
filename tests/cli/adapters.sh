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
expect 0 export --adapter_name_or_path a --with_adapters b --rank 16 --adapter_weights 0.5,0.5 --output_dir sum
contains out '"passed": true'
contains sum/adapter_config.json '"peft_type": "LORA"'
expect 0 train $common --method lora --seed 7 --max_steps 4 --output_dir c
expect 0 export --adapter_name_or_path a --with_adapters c --combination_type linear --output_dir linear
contains out '"exact": false'
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

finish
