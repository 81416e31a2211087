# Pictures while a model is trained: when, of what, that training does not notice, and what is refused.
. "$(dirname "$0")/support.sh"

pipeline="$tests/golden/pipelines/first"
colours="$tests/golden/colours"
mkdir -p small/scheduler subject
cp "$colours"/red/*.png subject
run="--model_name_or_path $pipeline --dtype float32 --method lora --r 2 --learning_rate 1e-2 --lora_dropout 0.3
  --per_device_train_batch_size 3 --log_level info"
rows="--train_file $colours --validation_file $colours --hypothesis_template {} --eval_timesteps 500"
draw='--num_inference_steps 3'
two="$run $rows --max_steps 2 --validation_prompt dog $draw"
steps="$run $rows --max_steps 6 --save_strategy steps --save_steps 2"
evaluated="$steps --eval_strategy steps --eval_steps 2"
shown="$evaluated --validation_prompt dog $draw"

# At each evaluation, and training notices neither.
expect 0 train $steps --output_dir plain
absent plain/validation-2
expect 0 train $shown --output_dir shown --eval_on_start true
for step in 0 2 4 6; do
  present shown/validation-$step/0000{0,1,2,3}.png shown/validation-$step/samples.png
  absent shown/validation-$step/00004.png
done
contains err 'after step 4: shown/validation-4'
contains shown/log.jsonl '"folder":"shown/validation-4"'
for file in adapter_model.safetensors checkpoint-4/{adapter_model,optimizer}.safetensors checkpoint-4/rng_state.json; do
  cmp plain/$file shown/$file || fail "drawing changes $file"
done
cmp -s shown/validation-2/00000.png shown/validation-6/00000.png && fail 'the adapter is not the one of then'
cmp -s shown/validation-2/00000.png shown/validation-2/00001.png && fail 'one noise for all'
for run_of in evaluated shown; do
  OMP_NUM_THREADS=2 expect 0 train ${!run_of} --output_dir threads_$run_of
done
cmp threads_{evaluated,shown}/adapter_model.safetensors || fail 'drawing changes what several threads train'

# They are what `generate` draws with the adapter of that step, and with none before the first.
draws="$draw --dtype float32 --prompt dog --num_images 4"
expect 0 generate --model_name_or_path $pipeline $draws --output_dir base
expect 0 generate --adapter_name_or_path shown/checkpoint-4 $draws --output_dir four
cmp base/samples.png shown/validation-0/samples.png || fail 'the base draws something else'
cmp four/samples.png shown/validation-4/samples.png || fail 'the adapter of step 4 draws something else'
expect 0 train $two --output_dir again --seed 7
expect 0 generate --adapter_name_or_path again $draws --seed 7 --output_dir seven
cmp seven/00001.png again/validation-2/00001.png || fail 'another seed'

# Keys of `generate` say how.
more='--guidance_scale 1 --scheduler dpmsolver++ --negative_prompt photo'
expect 0 train $two $more --num_validation_images 1 --output_dir how
absent how/validation-2/00001.png
expect 0 generate --adapter_name_or_path how $draws $more --output_dir how_drawn
cmp how_drawn/00000.png how/validation-2/00000.png || fail 'another way'

# A resumed run goes on past pictures, be they changed; those of an earlier run go with it.
rm -r shown/checkpoint-6 shown/checkpoint-4 shown/adapter_model.safetensors shown/validation-2/00000.png
for step in 2 4; do echo mine >shown/validation-$step/note; done
cp shown/validation-6/samples.png before
expect 0 train $shown --output_dir shown --resume_from_checkpoint true
contains err 'step 4 is not shown'
cmp shown/validation-6/samples.png before || fail 'the resumed run draws something else'
present shown/validation-{2,4}/note shown/validation-4/00000.png
absent shown/validation-2/00000.png
cmp plain/adapter_model.safetensors shown/adapter_model.safetensors || fail 'the resumed run is another one'
expect 0 train $steps --output_dir again --overwrite_output_dir true
absent again/validation-2
mkdir -p mine/validation-4
expect 2 train $shown --output_dir mine
contains err 'error[config.output-foreign'
contains err validation-4
expect 0 train $steps --output_dir mine

# What is cut while it draws leaves nothing half, and nothing in the way.
"$deltaw" train $evaluated --validation_prompt dog --num_inference_steps 500 --num_validation_images 99 --output_dir cut \
  >out 2>err </dev/null &
for _ in $(seq 300); do ! grep -qsF '"kind":"eval"' cut/log.jsonl || break; sleep 0.1; done
kill -9 $!
wait $! 2>/dev/null
contains cut/log.jsonl '"kind":"eval"'
absent cut/validation-2
expect 0 train $shown --output_dir cut --resume_from_checkpoint auto
cmp shown/validation-6/samples.png cut/validation-6/samples.png || fail 'a run that was cut draws something else'
[ -z "$(find cut -name '.*' ! -name . | head -1)" ] || fail "left: $(find cut -name '.*')"

# By epochs, without rows to evaluate on; and after the last step.
dreams="$run --instance_data_dir subject --instance_prompt dog --validation_prompt dog $draw --num_validation_images 1"
expect 0 train $dreams --num_train_epochs 5 --validation_epochs 2 --output_dir epochs
present epochs/validation-{2,4,5}/samples.png
absent epochs/validation-1 epochs/validation-3
expect 0 train $dreams --max_steps 3 --output_dir last
present last/validation-3/00000.png
absent last/validation-1 last/validation-2
# What stays is the best adapter, not that of the last step.
best="$shown --load_best_model_at_end true --validation_epochs 9 --num_validation_images 1"
expect 0 train $best --output_dir best
absent best/validation-6

# What makes no numbers is told, and ends no run.
expect 0 train $dreams --max_steps 1 --output_dir huge --guidance_scale 1e38
contains err 'step 1 is not shown'
absent huge/validation-1

# Models that read no text draw without a prompt.
cat >small/config.json <<'JSON'
{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1,
 "block_out_channels": [8, 8], "norm_num_groups": 4, "attention_head_dim": 4, "num_class_embeds": 3,
 "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
JSON
echo '{"_class_name": "DDPMScheduler", "num_train_timesteps": 100}' >small/scheduler/scheduler_config.json
expect 0 init small --output_dir unet
classes="--model_name_or_path unet --dtype float32 --train_file $colours --method full --max_steps 1"
expect 0 train $classes $draw --num_validation_images 3 --output_dir each
present each/validation-1/00002.png
absent each/validation-1/00003.png
expect 0 train $classes $draw --validation_class_labels 2,0 --output_dir some
expect 0 generate --adapter_name_or_path some $draw --dtype float32 --class_labels 2,0 --num_images 4 --output_dir of_classes
cmp of_classes/samples.png some/validation-1/samples.png || fail 'other classes'

# What is refused, before the first step.
expect 2 train $classes --validation_prompt dog --output_dir none
contains err "'validation_prompt' means nothing"
expect 2 train $classes --validation_class_labels 3 --output_dir none
contains err "key 'validation_class_labels'"
expect 2 validate $run $rows --num_validation_images 2
contains err "key 'validation_prompt'"
expect 2 validate $run $rows --validation_prompt dog --validation_class_labels 0
contains err 'knows no classes'
expect 2 validate $run $rows --validation_prompt dog --num_inference_steps 2000
contains err num_inference_steps
expect 2 validate $run $rows --validation_prompt dog --eta 0.5 --scheduler ddpm
contains err eta
expect 0 validate $run $rows --validation_prompt dog $draw
contains out '4 pictures at evaluations and after the last step: dog'
absent none
finish
