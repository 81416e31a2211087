# What the program knows of a method whose file was dropped in: cli.sh DELTAW TESTS_FOLDER
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

finish
