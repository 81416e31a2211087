# LoRA files of image models as adapters, written, converted, and what is refused.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !((a - b) ^ 2 < 1e-10) }' || fail "$3: $1 and $2"; }

mkdir -p small/scheduler
cat >small/config.json <<'END'
{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 1,
 "block_out_channels": [8, 8], "norm_num_groups": 4, "attention_head_dim": 4,
 "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
END
cat >small/scheduler/scheduler_config.json <<'END'
{"_class_name": "DDPMScheduler", "num_train_timesteps": 100, "beta_end": 0.2}
END
images="$tests/golden/colours"
expect 0 init small --output_dir unet --seed 3
base='--model_name_or_path unet --dtype float32'
rows="--validation_file $images --only_labels red"
expect 0 train $base --train_file $images --only_labels red,green --method lora --r 2 --lora_alpha 3 --max_steps 4 \
  --rank_pattern '{"conv1":3}' --target_modules conv1,to_q,to_out.0 --learning_rate 3e-2 --output_dir trained
expect 0 eval --adapter_name_or_path trained $base $rows
trained=$(number eval_loss)
expect 0 eval $base $rows
[ "$(number eval_loss)" != "$trained" ] || fail 'the adapter does nothing'

# Both formats are the adapter, as a folder and as a file.
expect 0 export --adapter_name_or_path trained $base --to kohya --output_dir kohya
present kohya/lora.safetensors
absent kohya/adapter_config.json
contains out '"exact": true'
expect 0 export --adapter_name_or_path trained $base --to diffusers --output_dir diffusers
present diffusers/pytorch_lora_weights.safetensors
for lora in kohya kohya/lora.safetensors diffusers diffusers/pytorch_lora_weights.safetensors; do
  expect 0 eval --adapter_name_or_path $lora $base $rows
  near "$(number eval_loss)" "$trained" "$lora is another adapter"
done
expect 0 info kohya/lora.safetensors
contains out 'kohya'
contains out 'layers unet'
contains out 'networks.lora'
expect 0 info diffusers --json
contains out '"names": "diffusers"'
contains out '"r": '
expect 0 merge --adapter_name_or_path kohya/lora.safetensors $base --output_dir merged
expect 0 eval --model_name_or_path merged --dtype float32 $rows
near "$(number eval_loss)" "$trained" 'the merged model is another'

# Training goes on from it, pictures are drawn with it, two of them act together.
expect 0 train --adapter_name_or_path kohya/lora.safetensors $base --train_file $images --only_labels red --learning_rate 0 \
  --max_steps 1 --output_dir on
expect 0 eval --adapter_name_or_path on $base $rows
near "$(number eval_loss)" "$trained" 'a rate of zero changes the adapter'
expect 0 generate --adapter_name_or_path diffusers $base --num_inference_steps 2 --output_dir pictures
present pictures/00000.png
expect 0 eval --adapter_name_or_path kohya --with_adapters diffusers --adapter_weights 0.5,0.5 $base $rows
near "$(number eval_loss)" "$trained" 'two halves are not the whole'

# From one format to the next, and around again.
expect 0 convert kohya/lora.safetensors --to diffusers --model_name_or_path unet --output_dir to_diffusers
contains out '"unet": '
contains out '"left_out": []'
contains out '"passed": true'
expect 0 convert to_diffusers --to peft --model_name_or_path unet --output_dir to_peft
present to_peft/adapter_config.json to_peft/adapter_model.safetensors
expect 0 convert trained --to kohya --model_name_or_path unet --output_dir to_kohya
expect 0 convert to_kohya --to kohya --model_name_or_path unet --output_dir to_kohya_again
cmp to_kohya/lora.safetensors to_kohya_again/lora.safetensors || fail 'a conversion to the same format changes the file'
for lora in to_diffusers to_peft to_kohya; do
  expect 0 eval --adapter_name_or_path $lora $base $rows
  near "$(number eval_loss)" "$trained" "$lora is another adapter"
done

# What is refused, and how it is said.
expect 2 eval --adapter_name_or_path kohya/lora.safetensors $rows
contains err 'names no base model'
contains err 'kohya/lora.safetensors'
expect 2 convert kohya/lora.safetensors --to peft --output_dir none
contains err 'model_name_or_path'
expect 2 convert unet --model_name_or_path unet --output_dir none
contains err 'base of a LoRA'
expect 2 convert kohya --to peft --model_name_or_path unet --save_dtype bf16 --output_dir none
contains err 'save_dtype'
expect 2 convert kohya --to kohya --model_name_or_path unet --output_dir kohya --overwrite_output_dir true
contains err 'config.output-is-input'
expect 2 export --adapter_name_or_path trained $base --to kohya --output_dir kohya
contains err 'config.output-exists'
expect 0 export --adapter_name_or_path trained $base --to kohya --output_dir kohya --overwrite_output_dir true
sed 's/"block_out_channels": \[8, 8\]/"block_out_channels": [8, 16]/' -i small/config.json
expect 0 init small --output_dir wider
expect 1 eval --adapter_name_or_path kohya --model_name_or_path wider --dtype float32 $rows
contains err 'shape.mismatch'
mkdir two && cp kohya/lora.safetensors two/a.safetensors && cp kohya/lora.safetensors two/b.safetensors
expect 2 eval --adapter_name_or_path two $base $rows
contains err 'a.safetensors, b.safetensors'
head -c 200 kohya/lora.safetensors >cut.safetensors
expect 1 eval --adapter_name_or_path cut.safetensors $base $rows
contains err 'cut.safetensors'
expect 2 eval --adapter_name_or_path unet/diffusion_pytorch_model.safetensors $base $rows
contains err 'an adapter is a folder'
expect 1 eval --adapter_name_or_path "$tests/golden/diffusion_loras/processors" $base $rows
contains err 'format.no-such-layer'
finish
