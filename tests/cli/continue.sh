# Training that goes on from a finished adapter, as a user meets it.
. "$(dirname "$0")/support.sh"
prepare_runs
given="--validation_file dev.csv --text_column text --dtype float32 --per_device_train_batch_size 8 --logging_steps 1"
rows="--train_file train.csv --learning_rate 1e-2 $given"
unmoved="--train_file train.csv --learning_rate 0 $given"
same() { cmp -s "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" || fail "the adapters of $1 and $2 differ"; }
other() { ! cmp -s "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" || fail "the adapters of $1 and $2 are one"; }

expect 0 train $common --method dora --target_modules query,value,key --r 4 --max_steps 4 --output_dir a
cp -r a before

# A new run: its base, method, options and labels are the adapter's.
expect 0 validate $rows --adapter_name_or_path a
contains out 'goes on from a'
contains out 'adapter  dora on'
contains out 'attention.self.key      2 of 2'
expect 0 train $unmoved --adapter_name_or_path a --max_steps 3 --output_dir still
same a still
cmp a/adapter_config.json still/adapter_config.json || fail 'the configuration changed'
expect 0 train $rows --adapter_name_or_path a --max_steps 6 --save_strategy steps --save_steps 3 --output_dir more
other a more
same a before
present more/run.json more/README.md more/vocab.txt more/all_results.json more/log.jsonl
contains more/run.json '"adapter_name_or_path": "a"'
expect 0 eval --adapter_name_or_path more

# Its checkpoint goes on byte for byte, and its run.json repeats it.
cp -r more again
rm -rf again/checkpoint-6 again/adapter_* again/*_results.json
expect 0 train $rows --adapter_name_or_path a --max_steps 6 --save_strategy steps --save_steps 3 --output_dir again \
  --resume_from_checkpoint true
same more again
expect 0 train more/run.json --output_dir repeated
same more repeated
echo 'adapter_name_or_path: a' >go.yaml
expect 0 train go.yaml $rows --max_steps 6 --output_dir from_file
same more from_file

# What is given beside it agrees, or is named; what only training looks at may be another.
expect 0 validate $rows --adapter_name_or_path a --method dora --r 4 --target_modules '.*attention.self.*' \
  --modules_to_save classifier --model_name_or_path model --bias none
expect 0 train $rows --adapter_name_or_path a --use_dora true --lora_dropout 0.5 --max_steps 3 --output_dir dropped
contains dropped/adapter_config.json '"lora_dropout": 0.5'
for flags in '--method lora' '--use_dora false' '--method moslora' '--r 8' '--lora_alpha 3' '--target_modules query' '--bias all' \
  '--exclude_modules value' '--layers_to_transform 1' '--modules_to_save pooler' '--share {"lora_A":".*"}' \
  '--beside [{"method":"loha"}]' '--label_names praise,blame' '--problem_type regression' '--use_rslora true' \
  '--trainable_token_indices 1,2'; do
  expect 2 validate $rows --adapter_name_or_path a $flags
  word=${flags#--}
  contains err "${word%% *}"
  contains err 'error[config.'
done
sed 's/praise/fine/' train.csv >labels.csv
expect 1 validate $given --adapter_name_or_path a --train_file labels.csv
contains err 'fine'
expect 2 train $rows --adapter_name_or_path nowhere --output_dir refused
contains err 'error[config.no-adapter]'
absent refused
expect 2 train $rows --adapter_name_or_path a --max_steps 2 --output_dir a
contains err 'error[config.output-exists]'
same a before
cp -r a own
expect 0 train $rows --adapter_name_or_path own --max_steps 6 --output_dir own --overwrite_output_dir
same more own

# Several that act together; a frozen one stays.
beside='[{"method":"randlora","randlora_alpha":64},{"adapter_name_or_path":"a"}]'
expect 0 train $common --method lora --target_modules key --beside "$beside" --max_steps 4 --output_dir parts
contains err "that of dora is left out: classifier.weight, classifier.bias"
expect 0 train $unmoved --adapter_name_or_path parts --max_steps 2 --output_dir parts_still
expect 0 train $rows --adapter_name_or_path parts --method lora --beside "$beside" --max_steps 4 --save_strategy steps \
  --save_steps 2 --output_dir parts_more
for part in 0-lora 1-randlora 2-dora; do same parts/$part parts_still/$part; done
for part in 0-lora 1-randlora; do other parts/$part parts_more/$part; done
same parts/2-dora parts_more/2-dora
same a parts_more/2-dora
cp -r parts_more parts_again
rm -rf parts_again/checkpoint-4 parts_again/?-* parts_again/all_results.json
expect 0 train $rows --adapter_name_or_path parts --max_steps 4 --save_strategy steps --save_steps 2 \
  --output_dir parts_again --resume_from_checkpoint true
expect 0 train parts_more/run.json --output_dir parts_repeated
for part in 0-lora 1-randlora 2-dora; do same parts_more/$part parts_again/$part; same parts_more/$part parts_repeated/$part; done
for flags in '--lora_dropout 0.5' '--r 3' '--method loha' '--beside [{"method":"randlora"}]' \
  '--beside [{"method":"loha"},{"adapter_name_or_path":"a"}]'; do
  expect 2 validate $rows --adapter_name_or_path parts $flags
  word=${flags#--}
  contains err "${word%% *}"
done

# A rank budget that was spent is not spent again; one that was not counts the new run's steps.
expect 0 train $common --method adalora --init_r 4 --target_r 2 --tfinal 1 --max_steps 6 --output_dir pruned
expect 0 train $rows --adapter_name_or_path pruned --max_steps 3 --output_dir pruned_more
contains err 'it goes on with those that are left'
cmp pruned/adapter_config.json pruned_more/adapter_config.json || fail 'what is left changed'
other pruned pruned_more
expect 0 eval --adapter_name_or_path pruned_more
expect 2 validate $rows --adapter_name_or_path pruned --target_r 1
contains err 'target_r'
expect 0 train $common --method adalora --init_r 4 --target_r 4 --max_steps 6 --output_dir unpruned
expect 0 train $rows --adapter_name_or_path unpruned --target_r 2 --tfinal 1 --max_steps 8 --output_dir pruned_later
contains pruned_later/adapter_config.json '"total_step": 8'
contains pruned_later/adapter_config.json 'false'

finish
