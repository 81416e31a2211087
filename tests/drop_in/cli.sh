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
mkdir albert
echo '{"model_type": "albert"}' >albert/config.json
expect 2 validate --model_name_or_path albert --train_file train.csv
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

finish
