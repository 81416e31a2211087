# Classes that are words: a tiny pair of ViT and BERT, and images of three colours.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

mkdir -p model data
cp "$tests"/golden/two_towers/vit_bert/{config.json,model.safetensors} model/
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' this is a photo of red blue green sketch . >model/vocab.txt
echo '{"tokenizer_class": "BertTokenizer"}' >model/tokenizer_config.json
echo '{"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}' >model/preprocessor_config.json
for colour in red green blue; do
  mkdir -p data/train/$colour data/val/$colour
  cp "$tests"/golden/colours/$colour/[01].png data/train/$colour/
  cp "$tests"/golden/colours/$colour/2.png data/val/$colour/
done
base='--model_name_or_path model --dtype float32'

# Without training: the classes are those of the folders, or those that are listed.
expect 0 eval $base --dataset_dir data
contains out '"eval_samples": 3'
expect 0 predict $base --input_file data/val/red/2.png --label_names 'red,green,blue' --output_file said.jsonl
contains said.jsonl '"scores"'
expect 0 predict $base --input_file data/val/red/2.png --label_names 'red,green,blue' --output_file other.jsonl \
  --hypothesis_template 'a sketch of {}'
cmp -s said.jsonl other.jsonl && fail 'the sentence changes nothing'
expect 2 predict $base --input_file data/val/red/2.png --output_file none.jsonl
contains err 'label_names'
expect 2 eval $base --dataset_dir data --hypothesis_template 'a photo'
contains err '{}'
printf 'a photo of {}.\na sketch of {}.\n' >templates.txt

# The tower of images learns; that of texts has no adapter.
run="$base --dataset_dir data --method lora --r 4 --learning_rate 3e-2 --min_train_samples 24 --logging_steps 1
  --per_device_train_batch_size 8 --image_augmentation none --templates_file templates.txt"
expect 0 validate $run
contains out 'labels: blue green red'
contains out '2 sentences for each class: a photo of {}.'
expect 0 train $run --num_train_epochs 60 --output_dir out1
present out1/adapter_model.safetensors out1/preprocessor_config.json out1/vocab.txt
lacks out1/adapter_model.safetensors text_model
expect 0 eval --adapter_name_or_path out1 --dtype float32 --dataset_dir data
[ "$(number eval_accuracy)" = 1.0 ] || fail "accuracy is $(number eval_accuracy)"
cmp templates.txt out1/hypothesis_templates.txt || fail 'the adapter does not stand alone'
loss=$(number eval_loss)
mv templates.txt moved.txt
expect 0 eval --adapter_name_or_path out1 --dtype float32 --dataset_dir data
[ "$(number eval_loss)" = "$loss" ] || fail 'without the file of templates, the classes are others'
mv moved.txt templates.txt
expect 2 validate $run --hypothesis_template 'a {}'
contains err 'templates_file'
expect 0 merge --adapter_name_or_path out1 --output_dir merged
expect 0 eval --model_name_or_path merged --dtype float32 --dataset_dir data
[ "$(number eval_accuracy)" = 1.0 ] || fail "merged, accuracy is $(number eval_accuracy)"
expect 2 validate $run --target_modules '.*text_model.*query' --exclude_modules none
contains err 'error[config.learns-nothing]'
contains err 'text_model.encoder.layer.0.attention.self.query.lora_A.weight'

# Whatever trains, it is nothing that no gradient reaches: the projection of texts, a scale that is not asked.
short="$base --dataset_dir data --max_steps 2 --image_augmentation none"
expect 0 train $short --method lora --target_modules all-linear --output_dir wide
lacks wide/adapter_model.safetensors text_
expect 0 train $short --method full --output_dir full
contains full/adapter_model.safetensors logit_scale
expect 0 train $short --method full --temperature 0.1 --output_dir scaled
lacks scaled/adapter_model.safetensors logit_scale
expect 2 train $short --method lora --modules_to_save text_projection --output_dir none
contains err 'error[config.learns-nothing]'
absent none

# Between adapters that move the tower of texts the classes move too.
both="$base --dataset_dir data --task_type contrastive-image-text --learning_rate 3e-2 --max_steps 4"
expect 0 train $both --output_dir pair1
expect 0 train $both --seed 7 --output_dir pair2
expect 0 landscape --adapters pair1,pair2 --task_type zero-shot-image-classification --dataset_dir data --points 2 \
  --output_file line.json
i=0
for folder in pair1 pair2; do
  i=$((i + 1))
  expect 0 eval --adapter_name_or_path $folder --task_type zero-shot-image-classification --dtype float32 --dataset_dir data
  own=$(number eval_loss)
  found=$(sed 's/"distances".*//' line.json | grep -o '"loss":[0-9.]*' | sed -n "${i}s/.*://p")
  awk -v a="$own" -v b="$found" 'BEGIN { exit !((a - b) ^ 2 < 1e-10 && a != "") }' ||
    fail "$folder: eval says $own, the landscape $found"
done
expect 0 bench $base --method lora --r 2 --max_length 8 --per_device_train_batch_size 2 --steps 2 --rounds 1
layers=$(grep -ao 'lora_A.weight"' out1/adapter_model.safetensors | wc -l)
contains out '"adapted_layers":'"$layers,"
finish
