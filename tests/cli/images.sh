# Classifiers of images: folders, tables and binary files, training that goes on byte for byte, what is said of an image.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

# Three colours, of which a third shade is for validation.
mkdir -p model data/train data/val
cp "$tests"/golden/models/vit_cls/{config.json,model.safetensors,preprocessor_config.json} model/
for colour in red green blue; do
  mkdir data/train/$colour data/val/$colour
  cp "$tests"/golden/colours/$colour/[01].png data/train/$colour/
  cp "$tests"/golden/colours/$colour/2.png data/val/$colour/
done
for split in train val; do
  { echo 'file_name,label' && (cd data/$split && ls ./*/*.png | sed 's|^./\([a-z]*\)/.*|&,\1|'); } >data/$split/rows.csv
done
base='--model_name_or_path model --dtype float32'
run="$base --dataset_dir data --method lora --r 4 --learning_rate 2e-2 --min_train_samples 24 --logging_steps 1
  --per_device_train_batch_size 8 --crop_scale 0.5 --target_modules query,value"

# What will be trained on is shown first.
expect 0 validate $run
contains out 'labels: blue green red'
contains out '16 x 16 pixels'
contains out 'label    blue'
contains out 'data/train/blue/0.png'
expect 0 validate $run --json
contains out '"augmentation": "crop"'
expect 0 validate $base --train_file data/train/rows.csv --validation_file data/val
lacks err 'text_column'

# A step is timed on as many tokens as an image makes: 16 patches and the class.
expect 0 bench $base --steps 2 --rounds 1 --target_modules query --per_device_train_batch_size 2
[ "$(number tokens_per_step)" = 34 ] || fail "$(number tokens_per_step) tokens of two images"

# It learns the colours.
expect 0 train $run --num_train_epochs 20 --eval_strategy epoch --save_strategy epoch --load_best_model_at_end true \
  --output_dir out1
present out1/adapter_model.safetensors out1/run.json out1/preprocessor_config.json out1/README.md
contains out1/README.md 'pipeline_tag: image-classification'
contains out1/README.md 'AutoModelForImageClassification'
contains out1/adapter_config.json '"image-classification"'
contains out1/all_results.json '"train_samples": 24'
expect 0 eval --adapter_name_or_path out1 --dtype float32 --dataset_dir data
[ "$(number eval_accuracy)" = 1.0 ] || fail "accuracy is $(number eval_accuracy)"
loss=$(number eval_loss)
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file data/val/rows.csv
[ "$(number eval_loss)" = "$loss" ] || fail "the loss of the same images in a table is $(number eval_loss), not $loss"
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file data/val --per_device_eval_batch_size 2
[ "$(number eval_accuracy)" = 1.0 ] || fail 'the accuracy of a folder is another one'

# A run that was cut is the run that was not.
cut="$run --max_steps 9 --save_strategy steps --save_steps 4"
expect 0 train $cut --output_dir whole
expect 0 train $cut --output_dir resumed
rm -r resumed/checkpoint-8 resumed/adapter_model.safetensors
expect 0 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-4
cmp whole/adapter_model.safetensors resumed/adapter_model.safetensors || fail 'the resumed run is another one'
expect 0 train $cut --image_augmentation none --output_dir plain
! cmp -s whole/adapter_model.safetensors plain/adapter_model.safetensors || fail 'nothing was drawn of the images'
expect 2 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-4 --image_augmentation flip
contains err 'error[config.resume'

# Of a model of images, a task_type of PEFT says nothing.
cp -r out1 named && sed -i 's/"image-classification"/"SEQ_CLS"/' named/adapter_config.json
rm named/run.json
expect 0 eval $base --adapter_name_or_path named --validation_file data/val
[ "$(number eval_accuracy)" = 1.0 ] || fail 'an adapter that names a task of texts is another one'
expect 2 eval $base --adapter_name_or_path named --validation_file data/val --task_type SEQ_CLS
contains err 'error[config.unsupported]'
expect 0 train $base --dataset_dir data --adapter_name_or_path named --max_steps 1 --output_dir further

# What is said of images: of a folder, of one, of a table with names of its own.
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file data/val/red
lines out 1
contains out '"id":"data/val/red/2.png","label":"red","logits":['
contains out '"scores":[{"label":"red","score":'
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file data/val/blue/2.png
contains out '"label":"blue"'
printf '{"id": 7, "image": "val/green/2.png"}\n' >data/ask.jsonl
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file data/ask.jsonl
contains out '"id":7,"label":"green"'
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file data/val
cp out as_adapter
lines out 3

# A merged model says the same alone, with its processor beside it.
expect 0 merge --adapter_name_or_path out1 --output_dir merged --dtype float32
cmp merged/preprocessor_config.json model/preprocessor_config.json || fail 'the processor is another one'
expect 0 predict --model_name_or_path merged --dtype float32 --input_file data/val
numbers() { sed 's/\([0-9]\.[0-9][0-9][0-9]\)[0-9]*/\1/g' "$1"; }
[ "$(numbers out)" = "$(numbers as_adapter)" ] || fail 'the merged model predicts otherwise'
expect 0 info merged
contains out 'vit'
contains out 'green'
expect 0 info out1

# A processor inside processor_config.json is read and copied too.
mkdir nested && cp model/config.json model/model.safetensors nested/
{ printf '{"processor_class": "X", "image_processor": ' && cat model/preprocessor_config.json && echo '}'; } \
  >nested/processor_config.json
expect 0 train ${cut/model_name_or_path model/model_name_or_path nested} --output_dir of_nested
cmp whole/adapter_model.safetensors of_nested/adapter_model.safetensors || fail 'another processor'
present of_nested/processor_config.json
rm nested/processor_config.json
expect 1 train ${cut/model_name_or_path model/model_name_or_path nested} --output_dir none
contains err 'there is no preprocessor_config.json'
absent none

# Several classes, and scores.
{ echo '{"image": "train/red/0.png", "label": ["red", "warm"]}'
  echo '{"image": "train/blue/0.png", "label": ["blue"]}'
  echo '{"image": "train/green/1.png", "label": []}'; } >data/several.jsonl
expect 0 train $base --train_file data/several.jsonl --validation_file data/several.jsonl --max_steps 2 \
  --ignore_mismatched_sizes true --output_dir several
contains several/all_results.json '"eval_f1_micro"'
expect 0 predict --adapter_name_or_path several --dtype float32 --input_file data/several.jsonl
contains out '"label":['
{ echo 'image,label' && echo 'train/red/0.png,0.5' && echo 'train/blue/0.png,1.5'; } >data/scores.csv
expect 0 train $base --train_file data/scores.csv --validation_file data/scores.csv --max_steps 2 \
  --ignore_mismatched_sizes true --output_dir scores
contains scores/all_results.json '"eval_rmse"'

# Few of each class, as an axis of a comparison; of texts too.
cat >shots.yaml <<EOF
base: {model_name_or_path: model, dtype: float32, dataset_dir: data, max_steps: 2, min_train_samples: 6}
tasks: {one: {train_samples_per_class: 1}, all: {}}
settings: {lora: {r: 2}}
seeds: [1, 2]
EOF
expect 0 compare shots.yaml --output_dir shots
contains shots/one/lora/seed-1/all_results.json '"train_samples": 6'
contains shots/one/lora/seed-1/run.json '"train_samples_per_class": 1'
! cmp -s shots/one/lora/seed-1/adapter_model.safetensors shots/all/lora/seed-1/adapter_model.safetensors ||
  fail 'shots change nothing'
make_model bert_base words
make_rows train.csv 32
expect 0 validate --model_name_or_path words --dtype float32 --train_file train.csv --train_samples_per_class 3 --json
contains out '"train_rows": 6'
expect 2 validate $base --train_file data/scores.csv --train_samples_per_class 2 --ignore_mismatched_sizes true
contains err 'rows of regression have not one class each'

# What is not there or damaged is named with its row.
{ echo 'image,label' && echo 'train/red/0.png,red' && echo 'nowhere.png,blue'; } >data/rows.csv
expect 1 validate $base --train_file data/rows.csv
contains err 'error[io.not-found]: the image is not there: data/nowhere.png'
contains err 'data/rows.csv, line 3'
head -c 50 data/train/blue/0.png >data/nowhere.png
expect 1 train $base --train_file data/rows.csv --max_steps 2 --ignore_mismatched_sizes true --output_dir damaged
contains err 'error[format.image]'
contains err 'data/nowhere.png (row 3 of data/rows.csv)'
expect 2 validate $base --train_file data/val/red --ignore_mismatched_sizes true
contains err 'a folder of JPEG, PNG or WebP files for each class'

# Keys of text are idle.
expect 0 validate $run --max_length 32 --text_column a
contains err 'the rows are images'
finish
