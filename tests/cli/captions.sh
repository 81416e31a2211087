# Images and captions: a tiny pair of ViT and BERT, images of three colours, and two models that become a pair.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

words='this is a photo of red blue green sketch . the colour'
reads() { # FOLDER SIZE
  printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' $words >"$1/vocab.txt"
  echo '{"tokenizer_class": "BertTokenizer"}' >"$1/tokenizer_config.json"
}
sees() { # FOLDER SIZE
  echo "{\"image_processor_type\": \"ViTImageProcessor\", \"size\": {\"height\": $2, \"width\": $2}}" >"$1/preprocessor_config.json"
}
mkdir -p model data
cp "$tests"/golden/two_towers/vit_bert/{config.json,model.safetensors} model/
reads model
sees model 8
for colour in red green blue; do
  mkdir -p data/train/$colour data/val/$colour
  cp "$tests"/golden/colours/$colour/[01].png data/train/$colour/
  cp "$tests"/golden/colours/$colour/2.png data/val/$colour/
done
{ for colour in red green blue; do
    echo "{\"image\": \"data/train/$colour/0.png\", \"caption\": [\"the colour $colour\", \"a sketch of $colour\"]}"
    echo "{\"image\": \"data/train/$colour/1.png\", \"caption\": \"the colour $colour\"}"
  done; } >train.jsonl
{ echo 'file,caption,id'
  for colour in red green blue; do echo "data/val/$colour/2.png,the colour $colour,$colour"; done; } >val.csv
base='--model_name_or_path model --dtype float32'
steps="$base --task_type contrastive-image-text --method lora --r 4 --learning_rate 2e-2 --logging_steps 1
  --per_device_train_batch_size 3 --gradient_accumulation_steps 3"
plain="$steps --image_augmentation none"
run="$plain --modules_to_save visual_projection,text_projection,logit_scale"

# What will be trained on is shown first.
expect 0 validate $run --train_file train.jsonl
contains out '6 images, 6 different captions'
contains out 'caption  a sketch of red'
expect 0 validate $run --dataset_dir data --hypothesis_template 'a sketch of {}'
contains out '6 images, 3 different captions'
contains out 'caption  a sketch of blue'
expect 2 validate $run --train_file train.jsonl --caption_column nothing
contains err "'nothing'"
expect 2 validate $run --dataset_dir data --hypothesis_template 'a photo'
contains err '{}'

# Both towers learn, and an adapter of one tower has that one.
expect 0 train $run --train_file train.jsonl --validation_file val.csv --num_train_epochs 40 --eval_strategy epoch \
  --save_strategy epoch --load_best_model_at_end true --output_dir out1
contains out1/all_results.json '"eval_image_to_text_recall_at_1": 1.0'
present out1/preprocessor_config.json out1/vocab.txt out1/README.md
for part in vision_model text_model visual_projection text_projection logit_scale; do
  grep -q "$part" out1/adapter_model.safetensors || fail "the adapter has no $part"
done
expect 0 train $plain --train_file train.jsonl --max_steps 1 --output_dir images --modules_to_save logit_scale \
  --target_modules '.*vision_model.*\.(query|value)'
! grep -q text_model images/adapter_model.safetensors || fail 'the tower of texts has an adapter'

# It is asked for captions of images, and for images of captions.
asked='--adapter_name_or_path out1 --dtype float32'
expect 0 eval $asked
[ "$(number eval_image_to_text_recall_at_1)" = 1.0 ] || fail "recall is $(number eval_image_to_text_recall_at_1)"
[ "$(number eval_text_to_image_recall_at_1)" = 1.0 ] || fail "recall is $(number eval_text_to_image_recall_at_1)"
loss=$(number eval_loss)
expect 0 eval $asked --per_device_eval_batch_size 1
[ "$(number eval_loss)" = "$loss" ] || fail "the loss depends on the size of the batches: $(number eval_loss), $loss"
expect 0 predict $asked --input_file val.csv --output_file said.jsonl --logits_file embeds.safetensors
lines said.jsonl 3
contains said.jsonl '{"row":1,"id":"red","caption":"the colour red","scores":[{"caption":"the colour red"'
grep -q image_embeds embeds.safetensors && grep -q text_embeds embeds.safetensors || fail 'no embeddings'
printf 'a sketch of red\n\nthe colour blue\n' >captions.txt
expect 0 predict $asked --input_file data/val/blue/2.png --captions_file captions.txt
contains out '"caption":"the colour blue"'
lacks out 'green'
expect 2 predict $asked --input_file data/val/blue/2.png
contains err 'captions_file'

# The same adapter knows classes, by the sentence that it was trained with.
zero='--task_type zero-shot-image-classification'
expect 0 eval $asked $zero --validation_file data/val --hypothesis_template 'the colour {}'
[ "$(number eval_accuracy)" = 1.0 ] || fail "accuracy is $(number eval_accuracy)"
expect 0 train $run --dataset_dir data --hypothesis_template 'a sketch of {}' --max_steps 30 --output_dir classes
expect 0 eval --adapter_name_or_path classes --dtype float32 $zero --dataset_dir data
[ "$(number eval_accuracy)" = 1.0 ] || fail "accuracy is $(number eval_accuracy)"
own=$(number eval_loss)
expect 0 eval --adapter_name_or_path classes --dtype float32 $zero --dataset_dir data \
  --hypothesis_template 'a sketch of {}'
[ "$(number eval_loss)" = "$own" ] || fail 'the adapter has forgotten its sentence'

# Merged it says the same, and a run that was cut is the run that was not.
expect 0 merge $asked --output_dir merged
expect 0 eval --model_name_or_path merged --dtype float32 --task_type contrastive-image-text --validation_file val.csv
[ "$(number eval_image_to_text_recall_at_1)" = 1.0 ] || fail 'merged, it has forgotten'
cut="$steps --train_file train.jsonl --max_steps 6 --save_strategy steps --save_steps 3 --image_augmentation crop"
expect 0 train $cut --output_dir whole
expect 0 train $cut --output_dir resumed
rm -r resumed/checkpoint-6 resumed/adapter_model.safetensors
expect 0 train $cut --output_dir resumed --resume_from_checkpoint resumed/checkpoint-3
cmp whole/adapter_model.safetensors resumed/adapter_model.safetensors || fail 'the resumed run is another one'

# The plane between adapters, and the time of a step.
expect 0 landscape --adapters out1,whole --points 3 --output_file line.json --validation_file val.csv --dtype float32
contains line.json 'image_to_text_recall_at_1'
expect 0 bench $base --task_type contrastive-image-text --max_length 6 --steps 2 --per_device_train_batch_size 2 \
  --target_modules query
[ "$(number tokens_per_step)" = 22 ] || fail "$(number tokens_per_step) tokens of two images and captions"

# Two models become one: what neither has is drawn, trained and kept.
mkdir vit
cp "$tests"/golden/models/vit_cls/{config.json,model.safetensors,preprocessor_config.json} vit/
make_model bert_base bert
reads bert
expect 0 convert --vision_model_name_or_path vit --text_model_name_or_path bert --projection_dim 6 --output_dir pair
contains out '"visual_projection"'
contains out '"vision_model.pooler.dense"'
contains out '"passed": true'
present pair/vocab.txt pair/preprocessor_config.json
contains pair/config.json '"vision-text-dual-encoder"'
lacks pair/model.safetensors classifier
lacks pair/model.safetensors visual_projection
lacks pair/model.safetensors text_projection
lacks pair/model.safetensors vision_model.pooler
grep -q 'vision_model.encoder.layer.0' pair/model.safetensors || fail 'the names are not those of transformers'
grep -q 'text_model.pooler.dense' pair/model.safetensors || fail "BERT's pooler is lost"
expect 0 train ${plain/--model_name_or_path model/--model_name_or_path pair} --dataset_dir data --num_train_epochs 60 \
  --modules_to_save logit_scale --output_dir joined
for part in vision_model.pooler.dense visual_projection text_projection logit_scale; do
  grep -q "$part" joined/adapter_model.safetensors || fail "the adapter has no $part"
done
expect 0 eval --adapter_name_or_path joined --dtype float32 $zero --dataset_dir data
[ "$(number eval_accuracy)" = 1.0 ] || fail "of the pair, accuracy is $(number eval_accuracy)"
expect 0 eval --model_name_or_path pair --dtype float32 --dataset_dir data
contains err 'drawn at random'
expect 2 convert --vision_model_name_or_path vit --output_dir none
contains err 'text_model_name_or_path'
expect 2 convert vit --vision_model_name_or_path vit --text_model_name_or_path bert --output_dir none
expect 2 convert --vision_model_name_or_path bert --text_model_name_or_path bert --output_dir none
contains err 'reads no images'
absent none
finish
