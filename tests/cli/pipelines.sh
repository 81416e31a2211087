# Text to image: pictures of prompts, training on latents and captions, DreamBooth, what is refused.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

pipeline="$tests/golden/pipelines/first"
colours="$tests/golden/colours"
base="--model_name_or_path $pipeline --dtype float32"
draw="--num_inference_steps 3 --dtype float32"

# Pictures of prompts: a picture of each at least, the same for a seed, a place and a prompt.
expect 0 generate --model_name_or_path $pipeline $draw --prompt 'a photo of sks dog' --prompt dog --output_dir two
present two/00000.png two/00001.png two/samples.png
contains out '"prompt":"a photo of sks dog"'
absent two/00002.png
expect 0 generate --model_name_or_path $pipeline $draw --prompt 'a photo of sks dog' --num_images 3 --output_dir three
cmp two/00000.png three/00000.png || fail 'a picture depends on its neighbours'
! cmp -s two/00001.png three/00001.png || fail 'the prompt does nothing'
one="generate --model_name_or_path $pipeline $draw --prompt dog"
expect 0 $one --output_dir plain
for key in '--negative_prompt photo' '--guidance_scale 1' '--scheduler dpmsolver++' '--seed 3' '--resolution 32'; do
  expect 0 $one $key --output_dir "changed$key"
  ! cmp -s plain/00000.png "changed$key/00000.png" || fail "$key does nothing"
done
expect 2 generate --model_name_or_path $pipeline $draw --output_dir none
contains err 'prompt'
expect 2 $one --temperature 1 --output_dir none
contains err "'temperature' means nothing"
expect 1 $one --resolution 33 --output_dir none
contains err 'multiple of 2'

# Captions: a file of rows, and metadata beside the images.
mkdir -p set/train
cp $colours/red/0.png set/train/a.png
cp $colours/blue/0.png set/train/b.png
cp $colours/green/0.png set/train/c.png
printf '%s\n' '{"file_name": "a.png", "text": "red"}' '{"file_name": "b.png", "text": "blue photo"}' \
  '{"file_name": "c.png", "text": ["green", "dog"]}' >set/train/metadata.jsonl
run="--method lora --r 2 --learning_rate 1e-2 --per_device_train_batch_size 2 --logging_steps 1"
expect 0 validate $base $run --dataset_dir set
contains out '16 x 16 pixels, 1000 times of noise'
contains out 'caption  red'
expect 0 validate $base $run --train_file set/train --rows_file rows.jsonl
contains rows.jsonl '"captions":["green","dog"]'
printf 'image,caption\ntrain/b.png,blue\n' >set/rows.csv
expect 0 validate $base $run --train_file set/rows.csv
contains out 'caption  blue'
printf 'image,words\ntrain/b.png,%s\n' "$(yes dog | head -99 | tr '\n' ' ')" >set/long.csv
expect 0 validate $base $run --train_file set/long.csv --caption_column words
contains err '1 of 1 captions are longer than the 77 tokens'
expect 0 validate $base $run --train_file $colours --hypothesis_template 'a photo of {}'
contains out 'caption  a photo of blue'

# A run that was cut is the run that was not; neither threads nor what is kept changes a byte.
cut="$base $run --train_file set/train --max_steps 6 --save_strategy steps --save_steps 2"
expect 0 train $cut --output_dir whole
present whole/adapter_model.safetensors whole/scheduler_config.json
contains whole/README.md 'text-to-image'
expect 0 train $cut --output_dir resumed
rm -r resumed/checkpoint-6 resumed/checkpoint-4 resumed/adapter_model.safetensors
expect 0 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-2
cmp whole/adapter_model.safetensors resumed/adapter_model.safetensors || fail 'the resumed run is another one'
expect 0 train $cut --output_dir threads --dataloader_num_workers 3
cmp whole/adapter_model.safetensors threads/adapter_model.safetensors || fail 'workers change bytes'
expect 0 train $cut --output_dir alone --dataloader_num_workers 0
cmp whole/adapter_model.safetensors alone/adapter_model.safetensors || fail 'no workers change bytes'
for key in '--snr_gamma 5' '--noise_offset 0.2' '--random_flip true'; do
  expect 0 train $cut --output_dir "changed$key" $key
  ! cmp -s whole/adapter_model.safetensors "changed$key/adapter_model.safetensors" || fail "$key does nothing"
done
sed 's/blue photo/photo/' set/train/metadata.jsonl >other && mv other set/train/metadata.jsonl
expect 2 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-2
contains err 'error[config.resume'

# It learns; the adapter changes pictures, and its errors are measured.
expect 0 eval $base --validation_file set/train --eval_timesteps 100,500
untrained=$(number eval_loss)
[ -n "$(number eval_noise_mse_500)" ] || fail 'no error at a time'
expect 0 train $base --train_file set/train --method lora --r 4 --target_modules to_k,to_q,to_v,to_out.0,conv1,conv2,conv_out \
  --max_steps 60 --learning_rate 2e-2 --per_device_train_batch_size 3 --output_dir learned
expect 0 eval --adapter_name_or_path learned --dtype float32 --validation_file set/train --eval_timesteps 100,500
awk -v a="$(number eval_loss)" -v b="$untrained" 'BEGIN { exit !(a < 0.9 * b) }' || fail "no better than $untrained"
expect 0 generate --adapter_name_or_path learned $draw --prompt dog --output_dir adapted
! cmp -s plain/00000.png adapted/00000.png || fail 'the adapter does nothing'

# Merged, it takes the place of the pipeline's UNet.
cp -r $pipeline merged
rm -r merged/unet
expect 0 merge --adapter_name_or_path learned --output_dir merged/unet --dtype float32
expect 0 generate --model_name_or_path merged $draw --prompt dog --output_dir of_merged
present of_merged/00000.png

# The text encoder is trained beside the UNet, in one adapter that every verb takes as it is.
texts="$cut --train_text_encoder true --lora_dropout 0.1"
expect 0 train $texts --output_dir texts
trained=$(number train_loss)
contains texts/adapter_config.json '"out_proj"'
grep -q 'text_encoder.encoder.layers.1.self_attn.q_proj.lora_B' texts/adapter_model.safetensors || fail 'no text encoder'
expect 0 train $texts --output_dir resumed --overwrite_output_dir true
rm -r resumed/checkpoint-6 resumed/checkpoint-4 resumed/adapter_model.safetensors
expect 0 train $texts --output_dir resumed --resume_from_checkpoint resumed/checkpoint-2
cmp texts/adapter_model.safetensors resumed/adapter_model.safetensors || fail 'the resumed run is another one'
expect 0 train $texts --output_dir recomputed --gradient_checkpointing true
awk -v a="$(number train_loss)" -v b="$trained" 'BEGIN { exit !((a - b) ^ 2 < 1e-8) }' || fail 'checkpointing changes masks'
expect 0 eval --adapter_name_or_path texts --dtype float32 --validation_file set/train
loss_of_both=$(number eval_loss)
show() { expect 0 generate "$@" $draw --prompt 'a photo of sks dog' --output_dir shown --overwrite_output_dir true; }
show --adapter_name_or_path texts
cp shown/00000.png both.png
for form in diffusers kohya; do
  expect 0 export --adapter_name_or_path texts --dtype float32 --to $form --output_dir to_$form
  show --model_name_or_path $pipeline --adapter_name_or_path to_$form
  cmp shown/00000.png both.png || fail "$form's file makes another picture"
  expect 0 convert texts --to $form --model_name_or_path $pipeline --output_dir converted_$form
  show --model_name_or_path $pipeline --adapter_name_or_path converted_$form
  cmp shown/00000.png both.png || fail "the $form file of convert makes another picture"
done
grep -q lora_te_text_model_encoder_layers_0_self_attn_q_proj to_kohya/lora.safetensors || fail 'no text encoder'
expect 0 eval $base --adapter_name_or_path to_diffusers --validation_file set/train
awk -v a="$(number eval_loss)" -v b="$loss_of_both" 'BEGIN { exit !((a - b) ^ 2 < 1e-12) }' || fail 'another loss'
cp -r $pipeline merged_both
rm -r merged_both/unet merged_both/text_encoder
expect 0 merge --adapter_name_or_path texts --output_dir merged_both/unet --dtype float32 --save_dtype float32
present merged_both/unet/text_encoder/config.json merged_both/unet/text_encoder/model.safetensors
mv merged_both/unet/text_encoder merged_both
expect 0 eval --model_name_or_path merged_both --dtype float32 --validation_file set/train
awk -v a="$(number eval_loss)" -v b="$loss_of_both" 'BEGIN { exit !((a - b) ^ 2 < 1e-10) }' || fail 'merged otherwise'
expect 0 train $cut --adapter_name_or_path to_diffusers --lora_dropout 0.1 --output_dir further
grep -q 'text_encoder.encoder.layers.1.self_attn.q_proj.lora_B' further/adapter_model.safetensors || fail 'left out'
show --adapter_name_or_path texts --with_adapters further --adapter_weights 0.5,0.5
! cmp -s shown/00000.png both.png || fail 'weights do nothing'
expect 2 train $cut --train_text_encoder true --target_modules to_q --output_dir none
contains err 'nothing of it is adapted'
expect 0 train $cut --train_text_encoder true --target_modules q_proj,fc1 --output_dir words
! grep -q to_q words/adapter_model.safetensors || fail 'the UNet is adapted'
show --adapter_name_or_path words
! cmp -s shown/00000.png two/00000.png || fail 'pictures are of the text encoder as it was'
expect 0 train $cut --train_text_encoder true --target_modules all-linear --output_dir all
grep -q 'text_encoder.encoder.layers.1.mlp.fc2.lora_B' all/adapter_model.safetensors || fail 'not all are adapted'

# Beside an adapter that changes the text encoder others are of the UNet alone, whatever their targets mean.
expect 0 train $cut --train_text_encoder true --output_dir even
for unet in 'bitfit' 'lora --r 2 --target_modules all-linear'; do
  expect 0 train $base --train_file set/train --method $unet --max_steps 1 --output_dir unet --overwrite_output_dir true
  expect 0 eval --adapter_name_or_path unet --dtype float32 --validation_file set/train
  loss_of_unet=$(number eval_loss)
  expect 0 eval --adapter_name_or_path even --with_adapters unet --adapter_weights 0,1 --dtype float32 --validation_file set/train
  awk -v a="$(number eval_loss)" -v b="$loss_of_unet" 'BEGIN { exit !((a - b) ^ 2 < 1e-12) }' || fail "$unet is another one"
done
expect 0 train $cut --beside '[{"adapter_name_or_path": "even"}]' --output_dir beside_texts
expect 0 validate $cut --beside '[{"adapter_name_or_path": "even"}]' --target_modules all-linear
grep -q 'mlp.fc1 *0 of 2' out || fail 'the text encoder is adapted'
grep -q ' attn1.to_out.0 *4 of 4' out || fail 'layers alike are listed one by one'
expect 0 train $cut --train_text_encoder true --beside '[{"adapter_name_or_path": "unet"}]' --output_dir beside_dreamt

# PEFT's two folders are read as the one adapter that they are.
expect 0 convert texts --to peft --model_name_or_path $pipeline --output_dir to_peft
present to_peft/text_encoder/adapter_config.json
expect 0 eval $base --adapter_name_or_path to_peft --validation_file set/train
awk -v a="$(number eval_loss)" -v b="$loss_of_both" 'BEGIN { exit !((a - b) ^ 2 < 1e-12) }' || fail 'a part is passed over'

# Another text encoder is another base, for adapters that change it.
cp -r $pipeline other
printf '\000\000\200\077' | dd of=other/text_encoder/model.safetensors bs=1 conv=notrunc \
  seek=$(($(stat -c %s other/text_encoder/model.safetensors) - 4)) 2>/dev/null
for verb in eval "merge --output_dir merged_other"; do
  rm -rf merged_other
  rows=
  [ "$verb" = eval ] && rows='--validation_file set/train'
  expect 0 $verb --adapter_name_or_path texts --model_name_or_path other --dtype float32 $rows
  contains err "weights of the base in 'other/text_encoder' are not those that base_hash in texts/run.json was taken of"
  rm -rf merged_other
  expect 0 $verb --adapter_name_or_path learned --model_name_or_path other --dtype float32 $rows
  lacks err base_hash
done
sed -i 's/ text_encoder=[^"]*//' texts/run.json # as it was written before
expect 0 eval --adapter_name_or_path texts --model_name_or_path other --dtype float32 --validation_file set/train
lacks err base_hash
expect 0 eval --adapter_name_or_path even --with_adapters learned --dtype float32 --validation_file set/train
lacks err base_hash

# A step of both is timed as it is trained.
trained_by() { # the numbers that a step of these keys trains
  expect 0 bench $base --steps 2 --rounds 1 --r 2 "$@"
  number trainable
}
[ "$(trained_by --train_text_encoder true)" = 832 ] || fail 'the text encoder is not timed'
[ "$(trained_by)" = 576 ] || fail 'the text encoder is timed'
expect 0 bench texts/run.json --methods lora,dora --steps 2 --rounds 1
contains out '"adapted_layers":40'

# DreamBooth: a folder of a subject, and pictures of its class that the base makes.
mkdir subject
cp $colours/red/*.png subject
subject="$base $run --instance_data_dir subject --max_steps 4"
expect 2 train $subject --output_dir none
contains err 'instance_prompt'
expect 0 train $subject --instance_prompt 'a photo of sks dog' --output_dir dreamt
prior="$subject --with_prior_preservation true --class_data_dir class --class_prompt dog --num_class_images 3"
expect 0 validate $prior --instance_prompt 'a photo of sks dog'
contains out '3 images, 3 of which the base will make'
absent class
expect 0 train $prior --instance_prompt 'a photo of sks dog' --output_dir kept
present class/class-00000.png class/class-00002.png
rm class/class-00001.png
expect 0 train $prior --instance_prompt 'a photo of sks dog' --output_dir again
cmp kept/adapter_model.safetensors again/adapter_model.safetensors || fail 'a picture of the class is another one'
expect 0 train $prior --instance_prompt 'a photo of sks dog' --prior_loss_weight 0 --output_dir unweighted
! cmp -s kept/adapter_model.safetensors unweighted/adapter_model.safetensors || fail 'prior_loss_weight does nothing'
expect 2 train $subject --instance_prompt dog --with_prior_preservation true --output_dir none
contains err 'class_data_dir'
expect 2 train $subject --instance_prompt dog --train_file set/train --output_dir none
contains err 'train_file'

# The flags of diffusers' scripts, by name: the same run, which ends and goes on.
named="--instance_data_dir subject --instance_prompt dog --rank 2 --learning_rate 1e-2 --seed 3 --adam_beta1 0.8"
expect 0 train $base --instance_data_dir subject --instance_prompt dog --r 2 --learning_rate 1e-2 --seed 3 --adam_beta1 0.8 \
  --per_device_train_batch_size 2 --max_steps 4 --warmup_steps 1 --weight_decay 0.1 --save_strategy steps --save_steps 1 \
  --save_total_limit 2 --lr_scheduler_type constant_with_warmup --output_dir own
named="$named --train_batch_size 2 --max_train_steps 4 --lr_warmup_steps 1 --adam_weight_decay 0.1 --checkpointing_steps 1"
named="$named --checkpoints_total_limit 2 --lr_scheduler constant_with_warmup"
named="$named --mixed_precision no --sample_batch_size 4 --local_rank -1 --lr_num_cycles 1 --lr_power 1.0 --hub_model_id x"
named="--pretrained_model_name_or_path $pipeline $named --allow_tf32 --enable_xformers_memory_efficient_attention"
expect 0 train $named --pre_compute_text_embeddings --resume_from_checkpoint latest --output_dir named
cmp own/adapter_model.safetensors named/adapter_model.safetensors || fail 'other names make another run'
present named/checkpoint-3 named/checkpoint-4
absent named/checkpoint-2
contains named/run.json '"dtype": "float32"'
rm -r named/checkpoint-4 named/adapter_model.safetensors
expect 2 train $named --output_dir named
expect 0 train $named --resume_from_checkpoint latest --output_dir named
cmp own/adapter_model.safetensors named/adapter_model.safetensors || fail 'latest goes on elsewhere'
rm -r named/checkpoint-4 named/adapter_model.safetensors
expect 0 train $named --resume_from_checkpoint checkpoint-3 --output_dir named
cmp own/adapter_model.safetensors named/adapter_model.safetensors || fail 'checkpoint-3 goes on elsewhere'
expect 0 validate $base --train_data_dir set --checkpointing_steps 2 --save_strategy no
for refused in 'mixed_precision fp16' 'scale_lr' 'use_8bit_adam' 'prediction_type v_prediction' 'variant non_ema' \
  'tokenizer_max_length 9' 'lr_num_cycles 2' 'cache_dir x'; do
  expect 2 validate $base --train_file set --$refused
  contains err "error[config.not-implemented]: '${refused%% *}'"
done

# What is refused, and how it is said.
expect 2 train $base $run --train_file subject --max_steps 1 --output_dir none
contains err 'error[config.caption-column'
contains err 'instance_prompt'
cp -r $pipeline poor
rm -r poor/vae
expect 2 generate --model_name_or_path poor $draw --prompt dog --output_dir none
contains err 'no folder vae'
rm -r poor/tokenizer
expect 1 train --model_name_or_path poor --dtype float32 $run --train_file set/train --max_steps 1 --output_dir none
contains err 'no folder tokenizer'
finish
