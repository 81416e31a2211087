# Every method and short name, as a user meets it: trained, asked, merged, exported.
. "$(dirname "$0")/support.sh"
prepare_runs

expect 0 methods --json
ids=$(sed -n -E 's/^    "id": "([a-z0-9_]+)",?$/\1/p' out)
[ "$(printf '%s\n' $ids | wc -l)" -ge 25 ] || fail "the table lists only: $ids"

for id in $ids; do
  expect 0 methods "$id"
  case $id in
    corda | lora_ga | lora_xs | olora | pissa) options='--r 4' ;; # thin beside the model's width of 16
    *) options= ;;
  esac
  expect 0 train $common --method "$id" $options --max_steps 2 --output_dir "$id"
  expect 0 predict --adapter_name_or_path "$id" --input_file dev.csv
  cp out "$id.lines"
  lines "$id.lines" 8
  case $id in
    houlsby | pfeiffer | prompt_tuning | prefix_tuning)
      expect 2 merge --adapter_name_or_path "$id" --output_dir "$id-merged"
      contains err 'error[config.not-mergeable]'
      absent "$id-merged"
      ;;
    *)
      expect 0 merge --adapter_name_or_path "$id" --output_dir "$id-merged"
      contains out '"passed": true'
      ;;
  esac
  case $id in
    houlsby | pfeiffer | prompt_tuning | prefix_tuning | bitfit | full | head | ia3)
      expect 2 export --adapter_name_or_path "$id" --output_dir "$id-lora"
      contains err 'error[config.no-export]'
      absent "$id-lora"
      continue
      ;;
    dora | loha | lokr | oft | randlora | vera) rank='--rank 16' ;; # the model's width: nothing is cut
    *) rank= ;;
  esac
  expect 0 export --adapter_name_or_path "$id" $rank --output_dir "$id-lora"
  contains out '"passed": true'
  contains "$id-lora/adapter_config.json" '"peft_type": "LORA"'
  expect 0 predict --model_name_or_path model --adapter_name_or_path "$id-lora" --input_file dev.csv --text_column text
  sed 's/,"logits.*//' out >labels
  sed 's/,"logits.*//' "$id.lines" | cmp - labels || fail "the exported $id answers otherwise"
done

# A number of a short name is its default; what it means may not be taken back.
expect 0 train $common --method loraplus --loraplus_lr_ratio 4 --max_steps 1 --output_dir ratio
expect 2 train $common --method rslora --use_rslora false --max_steps 1 --output_dir refused
contains err 'error[config.conflict]'
expect 2 train $common --method houlsby --target_modules query --output_dir refused
contains err 'error[config.no-sublayer]'
expect 2 train $common --method pisa --output_dir refused
contains err 'pissa'
absent refused

# Rank budgets beyond AdaLoRA's end smaller, and go on from a checkpoint as if nothing had been.
budget="--tinit 4 --tfinal 4"
saving="--max_steps 40 --save_strategy steps --save_steps 20"
for run in 'sora --r 4 --sparse_lambda_2 0.03' "sora --r 4 --target_r 1 $budget" "moslora --r 4 --target_r 2 $budget" \
  "randlora --r 4 --randlora_alpha 8 --target_r 1 $budget" "lora2 --r 4 --k 4 --target_r 1 --lora_alpha 32 $budget"; do
  rm -rf whole again
  expect 0 train $common --method $run $saving --output_dir whole
  contains whole/adapter_config.json 'false'
  cp -r whole again
  rm -rf again/checkpoint-40 again/adapter_* again/all_results.json
  expect 0 train $common --method $run $saving --output_dir again \
    --resume_from_checkpoint again/checkpoint-20
  cmp whole/adapter_model.safetensors again/adapter_model.safetensors || fail "the resumed run of $run differs"
  expect 0 eval --adapter_name_or_path whole
  expect 0 merge --adapter_name_or_path whole --output_dir merged --overwrite_output_dir
done

# What a start from data saw stands in the checkpoint; the rest must be as it was.
saving="--max_steps 4 --save_strategy steps --save_steps 2"
for run in eva 'lora_ga --r 4' 'corda --r 4 --corda_config {"corda_method":"kpm"}'; do
  rm -rf whole again
  expect 0 train $common --method $run $saving --output_dir whole
  cp -r whole again
  rm -rf again/checkpoint-4 again/adapter_* again/all_results.json
  expect 2 train $common --method $run --lora_alpha 3 $saving --output_dir again \
    --resume_from_checkpoint again/checkpoint-2
  contains err 'error[config.resume]'
  expect 0 train $common --method $run $saving --output_dir again \
    --resume_from_checkpoint again/checkpoint-2
  cmp whole/adapter_model.safetensors again/adapter_model.safetensors || fail "the resumed run of $run differs"
  cmp whole/adapter_config.json again/adapter_config.json || fail "the resumed run of $run has other options"
done

# all-linear passes over the layers that train whole with the head.
make_model distilbert_cls distil
expect 0 validate ${common/ model / distil } --ignore_mismatched_sizes true --target_modules all-linear
contains out 'pre_classifier     0 of 1'
contains out 'ffn.lin1           2 of 2'

finish
