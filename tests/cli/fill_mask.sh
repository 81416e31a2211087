# Masked language models in every verb that reads rows.
. "$(dirname "$0")/support.sh"
make_model bert_masked model
{ for i in $(seq 1 24); do
    case $((i % 3)) in
      0) echo 'the film was good and it is great' ;;
      1) echo 'this book was bad and not so fine' ;;
      2) echo 'a fine song and so very good' ;;
    esac
  done; } >train.txt
head -n 6 train.txt >dev.txt
flags="--model_name_or_path model --task_type fill-mask --train_file train.txt --dtype float32"
run="$flags --validation_file dev.txt --learning_rate 3e-2 --per_device_train_batch_size 4 --target_modules all-linear
  --line_by_line true --mlm_probability 0.3"

# Its keys stand in help.
for verb in train validate eval predict merge; do
  expect 0 $verb --help
  contains out '--mlm_probability FLOAT'
done
expect 0 eval --help
contains out '--mask_each'
lacks out '--top_k'
expect 0 predict --help
contains out '--top_k INT'
lacks out '--mask_each'

# What is read, and how.
expect 0 validate $run --rows_file rows.jsonl
contains out 'input    '
contains out 'masked  [CLS]'
contains out '[MASK]'
lines rows.jsonl 78
contains rows.jsonl '"units":[-1,0,1,2,'
expect 0 validate $flags --max_length 16 --json
contains out '"longest_row": 16'
expect 0 validate $flags --label_column x --packing true
contains err 'label_column, because the model is a masked language model and has no classes'
contains err 'packing, because the model is a masked language model'
expect 2 validate $flags --mask_replace_prob 0.9 --random_replace_prob 0.2
contains err 'more than 1 together'
expect 2 validate $flags --mlm_probability 0
expect 2 train $flags --validation_split 0.5 --metric_for_best_model f1 --eval_strategy epoch --output_dir x
contains err 'loss, accuracy or perplexity'
printf '[PAD]\n\n' >special.txt
expect 1 validate ${flags/train.txt/special.txt} --line_by_line true
contains err 'error[data.no-trained-tokens]'
make_letters bert_masked letters
expect 2 validate --model_name_or_path letters --task_type fill-mask --train_file train.txt
contains err 'error[config.no-mask-token]'
absent x

# It learns, and what it wrote is for PEFT as well.
expect 0 train $run --max_steps 30 --eval_strategy steps --eval_steps 30 --output_dir mlm
contains out '"diverged": false'
contains out '"eval_perplexity"'
contains mlm/adapter_config.json '"task_type": null'
contains mlm/adapter_config.json '"base_model_class": "BertForMaskedLM"'
contains mlm/adapter_config.json '"parent_library": "transformers.models.bert.modeling_bert"'
contains mlm/README.md 'pipeline_tag: fill-mask'
contains mlm/README.md 'AutoModelForMaskedLM'
cp out trained
loss() { sed -n 's/.*"eval_loss": \([0-9.]*\).*/\1/p' "$1"; }
expect 0 info mlm
contains out 'fill-mask'

# The keys it was trained with act again, the masks are the same each time, and others are others.
expect 0 eval --adapter_name_or_path mlm --dtype float32
[ "$(loss out)" = "$(loss trained)" ] || fail "the loss was $(loss trained) in training, and is $(loss out)"
expect 0 eval --adapter_name_or_path mlm --dtype float32 --mlm_probability 0.9
[ "$(loss out)" != "$(loss trained)" ] || fail 'mlm_probability does nothing'
expect 0 eval --adapter_name_or_path mlm --dtype float32 --mask_each true
contains out '"eval_tokens": 46'
contains out '"eval_samples": 6'
contains out '"eval_accuracy"'
expect 0 eval --adapter_name_or_path mlm --dtype float32 --line_by_line false --max_length 12
contains out '"eval_samples": 5'
expect 0 eval --model_name_or_path model --task_type fill-mask --validation_file dev.txt --dtype float32

# Fillings, and the rows that have none.
printf 'the film was [MASK]\nno mask\n\na [MASK] song and [MASK] very good\n' >masks.txt
expect 0 predict --adapter_name_or_path mlm --dtype float32 --input_file masks.txt --top_k 3 --logits_file l.safetensors
lines out 4
[ "$(head -n 1 out | grep -o '"token_str"' | wc -l)" = 3 ] || fail 'top_k'
contains out '{"row":1,"predictions":[{"score":'
contains out '{"row":2,"error":"the row has no mask token [MASK]"}'
contains out '{"row":4,"predictions":[[{"score":'
contains out '"sequence":"the film was '
head -c 400 l.safetensors >header
contains header '"logits.3":{"dtype":"F32","shape":[2,61]'
lacks header '"logits.1"'
printf 'id,text\nx,the book was [MASK]\n' >masks.csv
expect 0 predict --adapter_name_or_path mlm --dtype float32 --input_file masks.csv
contains out '{"row":1,"id":"x","predictions":'

# PEFT names the class alone.
cp -r mlm named
sed -i '/"task": "fill-mask"/d' named/adapter_config.json
cp out fillings
expect 0 predict --adapter_name_or_path named --dtype float32 --input_file masks.csv
cmp -s out fillings || fail 'the class does not say which head is meant'

# A run that was interrupted masks what an undisturbed one does.
whole="$run --max_steps 9 --save_strategy steps --save_steps 4 --whole_word_mask true --gradient_accumulation_steps 2"
expect 0 train $whole --output_dir whole
expect 0 train $whole --output_dir part
rm -r part/checkpoint-8 part/adapter_model.safetensors
expect 0 train $whole --output_dir part --resume_from_checkpoint part/checkpoint-4
cmp whole/adapter_model.safetensors part/adapter_model.safetensors || fail 'a resumed run learned something else'
expect 0 train ${whole/0.3/0.5} --output_dir other
! cmp -s whole/adapter_model.safetensors other/adapter_model.safetensors || fail 'mlm_probability does nothing in training'

# Other verbs.
expect 0 merge --adapter_name_or_path mlm --dtype float32 --output_dir merged
contains out '"passed": true'
expect 0 eval --model_name_or_path merged --task_type fill-mask --validation_file dev.txt --dtype float32 \
  --line_by_line true --mlm_probability 0.3
near=$(loss out)
[ "${near:0:5}" = "$(loss trained | head -c 5)" ] || fail "merged: $near, trained: $(loss trained)"
expect 0 train --adapter_name_or_path mlm --train_file train.txt --max_steps 1 --dtype float32 --output_dir further
expect 0 bench --model_name_or_path model --task_type fill-mask --rounds 1 --steps 2 --max_length 16
# A decoder of its own, whose bias is not the head's: merged as it is computed.
make_model bert_masked_untied untied
expect 0 train ${flags/ model / untied } --max_steps 1 --output_dir own_bias
expect 0 merge --adapter_name_or_path own_bias --dtype float32 --output_dir own_bias_merged
contains out '"passed": true'
# A method that starts from data runs the head over calibration rows.
expect 0 train $run --method lora --init_lora_weights eva --max_steps 2 --output_dir eva

finish
