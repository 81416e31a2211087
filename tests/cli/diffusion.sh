# Denoisers: a model from scratch, training that goes on byte for byte, errors at fixed times, pictures, what is refused.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

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

# A model of random weights, the same for a seed.
expect 0 init small --output_dir unet --seed 3
present unet/config.json unet/diffusion_pytorch_model.safetensors unet/scheduler_config.json
contains out '"parameters": '
expect 0 init small --output_dir unet_again --seed 3
cmp unet/diffusion_pytorch_model.safetensors unet_again/diffusion_pytorch_model.safetensors || fail 'another draw'
expect 0 init small --output_dir unet_other --seed 4
! cmp -s unet/diffusion_pytorch_model.safetensors unet_other/diffusion_pytorch_model.safetensors || fail 'no seed'
expect 2 init small --output_dir unet --seed 3
contains err 'error[config.output-exists'
expect 2 init "$tests/golden/models/vit_cls" --output_dir none
contains err '_class_name'

base='--model_name_or_path unet --dtype float32'
run="$base --train_file $images --validation_file $images --only_labels red,green --method lora --r 2
  --target_modules conv1,conv2,to_q,to_v --learning_rate 1e-2 --per_device_train_batch_size 4 --logging_steps 1"

# What will be trained on is shown first.
expect 0 validate $run
contains out '8 x 8 pixels, 100 times of noise (unet/scheduler_config.json)'
contains out 'image    '
expect 0 validate $run --json
contains out '"num_train_timesteps": 100'
expect 0 validate $run --rows_file rows.jsonl
contains rows.jsonl 'colours/green/1.png'
lacks rows.jsonl blue
# A key that several tasks have, and not this one in effect, is told once.
expect 0 validate $run --image_processor_backend torchvision
contains err 'keys without effect here: image_processor_backend, because image_interpolation_mode'

# A run that was cut is the run that was not, and neither threads nor micro-batches that make a step change what is drawn.
cut="$run --max_steps 6 --save_strategy steps --save_steps 2"
expect 0 train $cut --output_dir whole
present whole/adapter_model.safetensors whole/scheduler_config.json whole/README.md
contains whole/README.md 'unconditional-image-generation'
expect 0 train $cut --output_dir resumed
rm -r resumed/checkpoint-6 resumed/checkpoint-4 resumed/adapter_model.safetensors
expect 0 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-2
cmp whole/adapter_model.safetensors resumed/adapter_model.safetensors || fail 'the resumed run is another one'
expect 0 train $cut --output_dir threads --dataloader_num_workers 3
cmp whole/adapter_model.safetensors threads/adapter_model.safetensors || fail 'workers change bytes'
expect 0 train $cut --output_dir offset --noise_offset 0.2
! cmp -s whole/adapter_model.safetensors offset/adapter_model.safetensors || fail 'noise_offset does nothing'
expect 0 train $cut --output_dir weighted --snr_gamma 5
! cmp -s whole/adapter_model.safetensors weighted/adapter_model.safetensors || fail 'snr_gamma does nothing'
expect 0 train $cut --output_dir flipped --random_flip true
! cmp -s whole/adapter_model.safetensors flipped/adapter_model.safetensors || fail 'random_flip does nothing'
expect 2 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-2 --noise_offset 0.1
contains err 'error[config.resume'

# It learns, and the error is the same in batches of any size.
expect 0 eval $base --validation_file $images
untrained=$(number eval_loss)
[ -n "$(number eval_noise_mse_5)" ] && [ -n "$(number eval_noise_mse_90)" ] || fail 'no error at a time'
expect 0 train $base --train_file $images --method full --max_steps 60 --learning_rate 1e-2 \
  --per_device_train_batch_size 9 --output_dir full
expect 0 eval --adapter_name_or_path full --dtype float32 --validation_file $images
trained=$(number eval_loss)
awk -v a="$trained" -v b="$untrained" 'BEGIN { exit !(a < 0.8 * b) }' || fail "the loss is $trained, before $untrained"
expect 0 eval --adapter_name_or_path full --dtype float32 --validation_file $images --per_device_eval_batch_size 2
awk -v a="$trained" -v b="$(number eval_loss)" 'BEGIN { exit !((a - b) ^ 2 < 1e-12) }' || fail 'batches change the loss'
expect 0 eval $base --validation_file $images --eval_timesteps 0,99
[ -n "$(number eval_noise_mse_99)" ] || fail 'eval_timesteps does nothing'
expect 2 eval $base --validation_file $images --eval_timesteps 100
contains err 'eval_timesteps'

# Merged, it is a folder of diffusers.
expect 0 merge --adapter_name_or_path full --output_dir merged --dtype float32
present merged/config.json merged/diffusion_pytorch_model.safetensors merged/scheduler_config.json
expect 0 eval --model_name_or_path merged --dtype float32 --validation_file $images
awk -v a="$trained" -v b="$(number eval_loss)" 'BEGIN { exit !((a - b) ^ 2 < 1e-8) }' || fail 'the merged model is another'

# Pictures: the same for a seed and a place, with an adapter and without.
draw='--num_inference_steps 4 --dtype float32'
expect 0 generate --model_name_or_path unet $draw --num_images 5 --output_dir five
present five/00000.png five/00004.png five/samples.png
contains out '"file":"five/00004.png"'
expect 0 generate --model_name_or_path unet $draw --num_images 2 --output_dir two
cmp five/00001.png two/00001.png || fail 'a picture depends on how many there are'
OMP_NUM_THREADS=3 expect 0 generate --model_name_or_path unet $draw --num_images 5 --output_dir threads3
cmp five/samples.png threads3/samples.png || fail 'threads change a picture'
expect 0 generate --model_name_or_path unet $draw --seed 5 --output_dir other
! cmp -s five/00000.png other/00000.png || fail 'the seed does nothing'
expect 0 generate --adapter_name_or_path whole $draw --output_dir adapted
! cmp -s five/00000.png adapted/00000.png || fail 'the adapter does nothing'
for scheduler in ddim dpmsolver++; do
  expect 0 generate --model_name_or_path unet $draw --scheduler $scheduler --output_dir $scheduler
  ! cmp -s five/00000.png $scheduler/00000.png || fail "$scheduler is ddpm"
done
expect 0 generate --model_name_or_path unet $draw --scheduler ddim --eta 1 --output_dir noisy
! cmp -s ddim/00000.png noisy/00000.png || fail 'eta does nothing'
expect 2 generate --model_name_or_path unet $draw --output_dir five
contains err 'error[config.output-exists'
expect 0 generate --model_name_or_path unet $draw --output_dir five --overwrite_output_dir true
absent five/00001.png

# What is refused, and how it is said.
expect 2 generate --model_name_or_path unet $draw
contains err 'output_dir'
expect 2 generate --model_name_or_path unet $draw --prompt cat --output_dir none
contains err "'prompt' means nothing"
expect 2 generate --model_name_or_path unet $draw --class_labels 1 --output_dir none
contains err 'class_labels'
expect 2 generate --model_name_or_path unet $draw --eta 0.5 --output_dir none
contains err 'eta'
expect 2 predict --model_name_or_path unet --dtype float32 --input_file $images
contains err 'deltaw generate'
expect 1 train $base --train_file $images --only_labels pink --method lora --max_steps 1 --output_dir none
contains err 'error[data.no-such-label'
contains err 'blue'
mkdir flat && cp $images/red/0.png flat/a.png && echo 'no picture' >flat/b.png
expect 1 train $base --train_file flat --method lora --target_modules conv1 --max_steps 1 --output_dir none
contains err 'flat/b.png'
rm flat/b.png
expect 0 train $base --train_file flat --method lora --target_modules conv1 --max_steps 1 --output_dir flat_run
sed 's/DDPMScheduler/FlowMatchEulerDiscreteScheduler/' -i unet_other/scheduler_config.json
expect 2 eval --model_name_or_path unet_other --dtype float32 --validation_file $images
contains err 'FlowMatchEulerDiscreteScheduler'
rm unet_other/scheduler_config.json
expect 0 eval --model_name_or_path unet_other --dtype float32 --validation_file $images
contains err 'is assumed'
contains err '1000'
sed 's/"in_channels": 3, "out_channels": 3/"in_channels": 4, "out_channels": 4/' -i small/config.json
expect 0 init small --output_dir latent
expect 2 eval --model_name_or_path latent --dtype float32 --validation_file $images
contains err 'latents'

# A model of classes.
sed 's/"in_channels": 4, "out_channels": 4/"in_channels": 1, "out_channels": 1, "num_class_embeds": 3/' -i small/config.json
expect 0 init small --output_dir classes
expect 0 train --model_name_or_path classes --dtype float32 --train_file $images --method full --max_steps 2 --output_dir classed
contains classed/run.json '"blue"'
expect 0 eval --adapter_name_or_path classed --dtype float32 --validation_file $images --only_labels red
expect 1 eval --model_name_or_path classes --dtype float32 --validation_file $images
contains err 'label_names'
expect 0 generate --adapter_name_or_path classed $draw --num_images 2 --class_labels 2,0 --output_dir of_classes
contains out '"class_label":2'
finish
