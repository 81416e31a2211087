# What the program knows of a method and a family whose files were dropped in: cli.sh DELTAW TESTS_FOLDER
. "$2/cli/support.sh"

expect 0 methods
contains out 'lora_copy'
contains out 'lora_xs'
expect 0 methods lora_copy
contains out 'PEFT type LORA_COPY'
contains out 'loraplus_lr_ratio'
expect 0 train --method lora_copy --help
contains out '--loraplus_lr_ratio FLOAT'
expect 0 help --markdown
contains out 'lora_copy'
expect 2 train --method lora_cpy --model_name_or_path .
contains err "'lora_copy'"

# It trains, and what it wrote is read as its own.
make_model bert_base model
make_rows train.csv 16
run="--model_name_or_path model --train_file train.csv --dtype float32 --max_steps 2 --loraplus_lr_ratio 4"
expect 0 train $run --method lora --output_dir lora
expect 0 train $run --method lora_copy --output_dir copy
cmp lora/adapter_model.safetensors copy/adapter_model.safetensors || fail 'the copy learns something else'
expect 0 info copy
contains out 'lora_copy'
expect 0 predict --adapter_name_or_path copy --input_file train.csv
lines out 16

# So is the family: help and errors list it, and a checkpoint of its type is what the same one of llama is.
expect 0 help
contains out 'llama_copy'
expect 0 help --markdown
contains out 'llama_copy'
mkdir xlnet
echo '{"model_type": "xlnet"}' >xlnet/config.json
expect 2 validate --model_name_or_path xlnet --train_file train.csv
contains err 'llama, llama_copy, mistral'
make_letters llama_biases llama
make_letters llama_biases copied
sed -i 's/"model_type": "llama"/"model_type": "llama_copy"/' copied/config.json
printf 'abcdefgh\nijklmnop\nqrstuvwx\n' >text.txt
for method in lora ia3 houlsby; do
  for base in llama copied; do
    expect 0 train --model_name_or_path $base --train_file text.txt --dtype float32 --max_steps 2 --method $method \
      --output_dir $base-$method
  done
  cmp llama-$method/adapter_model.safetensors copied-$method/adapter_model.safetensors ||
    fail "the copied family trains something else with $method"
done
expect 0 generate --adapter_name_or_path copied-lora --prompt ab --max_new_tokens 2

# And the task: its keys stand in help, and every verb knows it.
for verb in train validate eval predict merge; do
  expect 0 $verb --help
  contains out 'Pairs of texts:'
  contains out '--similarity_scale FLOAT'
done
expect 0 predict --help
tr '\n' ' ' <out >words
contains words '{"row": ..., "similarity": ...} for pairs'
expect 0 eval --help
tr '\n' ' ' <out >words
contains words 'a model of pairs by the texts that find their partner'
{ printf 'id\tfirst\tsecond\n'
  printf '%s\t%s\t%s\n' a 'a fine film' 'a good film' b 'not good' 'bad' c 'the book is awful' 'an awful book' \
    d 'a great song' 'the song is great' e 'the play was poor' 'it was so poor' f 'very fine' 'very very good'; } >pairs.tsv
flags="--model_name_or_path model --task_type contrastive --train_file pairs.tsv --validation_file pairs.tsv --dtype float32"
expect 0 validate $flags --json --rows_file rows.jsonl
contains out '"longest_row"'
lines rows.jsonl 24
contains rows.jsonl '"pair_ids"'
expect 0 validate $flags --label_column x --packing true
contains out 'input    a fine film | a good film'
contains err 'packing, because the model is a model of pairs'
contains err 'label_column, because pairs have no labels'
expect 2 validate $flags --add_tokens x
contains err 'is trained as a model of pairs'
expect 2 train $flags --similarity_scale 0 --output_dir x
contains err "'similarity_scale'"
expect 2 train $flags --metric_for_best_model accuracy --eval_strategy epoch --output_dir x
contains err 'loss or recall_at_1'
absent x
expect 0 train $flags --similarity_scale 5 --max_steps 12 --learning_rate 3e-2 --per_device_train_batch_size 3 \
  --gradient_accumulation_steps 2 --target_modules all-linear --eval_strategy steps --eval_steps 12 --output_dir paired
contains out '"eval_recall_at_1": 1.0'
contains out '"diverged": false'
contains paired/adapter_config.json '"task_type": null'
contains paired/adapter_config.json '"task": "contrastive"'
contains paired/run.json '"similarity_scale": 5.0'
contains paired/README.md 'pipeline_tag: sentence-similarity'
trained=$(sed -n 's/.*"eval_loss": \([0-9.]*\).*/\1/p' out)
# The scale that it was trained with acts again.
expect 0 eval --adapter_name_or_path paired --dtype float32
[ "$(sed -n 's/.*"eval_loss": \([0-9.]*\).*/\1/p' out)" = "$trained" ] || fail "the loss was $trained in training"
expect 0 eval --adapter_name_or_path paired --dtype float32 --similarity_scale 1
[ "$(sed -n 's/.*"eval_loss": \([0-9.]*\).*/\1/p' out)" != "$trained" ] || fail 'the scale does nothing'
expect 0 predict --adapter_name_or_path paired --input_file pairs.tsv --logits_file pairs.safetensors
lines out 6
contains out '{"row":2,"id":"b","similarity":'
head -c 300 pairs.safetensors >header
contains header '"second":{"dtype":"F32","shape":[6,16]'
expect 0 merge --adapter_name_or_path paired --dtype float32 --output_dir merged
contains out '"passed": true'
expect 0 eval --model_name_or_path merged --task_type contrastive --validation_file pairs.tsv --dtype float32 \
  --similarity_scale 5
contains out '"eval_recall_at_1": 1.0'
expect 0 train --adapter_name_or_path paired --train_file pairs.tsv --max_steps 1 --dtype float32 --output_dir further
expect 0 bench --model_name_or_path model --task_type contrastive --rounds 1 --steps 2 --max_length 16
expect 0 validate --model_name_or_path model --train_file train.csv --similarity_scale 3
contains err 'similarity_scale, because the model is a classifier'
# One without files trains by a program of its own.
expect 2 train --model_name_or_path model --task_type rows_of_a_program --train_file pairs.tsv --output_dir x
contains err 'error[config.no-files]'
expect 0 bench --model_name_or_path model --task_type rows_of_a_program --rounds 1 --steps 2 --max_length 16

finish
