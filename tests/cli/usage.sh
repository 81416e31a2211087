# Help, unknown words, exit codes, and what goes to which stream.
. "$(dirname "$0")/support.sh"

expect 0 --help
contains out 'Verbs:'
empty err
expect 0 --version
contains out 'deltaw '
expect 2
empty out
contains err 'Usage: deltaw VERB'
expect 2 trian
empty out
contains err 'error[usage.unknown-verb]'
contains err 'train'

for verb in train eval predict generate merge tokenize info methods validate bench; do
  expect 0 "$verb" --help
  empty err
  contains out "Usage: deltaw $verb"
  contains out 'Example:'
  contains out 'Exit codes:'
  [ "$(awk 'length > 80' out | wc -l)" = 0 ] || fail "the help of $verb is wider than 80 columns: $(awk 'length > 80' out)"
done

# The help follows the method, by flag, by another tool's name, by a setting or by the file.
expect 0 train --method adalora --help
contains out '--target_r INT'
lacks out '--randlora_alpha'
expect 0 train --peft_type RANDLORA --help
contains out '--randlora_alpha'
expect 0 train --help
contains out '--lora_alpha'
contains out '--learning_rate FLOAT'
contains out 'default 5e-05'
echo 'method: randlora' >method.yaml
expect 0 train method.yaml --help
contains out '--randlora_alpha'

# Unknown keys name the nearest ones, on the command line and in a file.
expect 2 train --learning_rat 1e-3
empty out
contains err 'error[config.unknown-key]'
contains err 'learning_rate'
contains err 'command line'
echo 'lora_alhpa: 3' >typo.yaml
expect 2 train typo.yaml
contains err 'lora_alpha'
contains err 'typo.yaml'
expect 2 train --method lroa --model_name_or_path .
contains err 'error[config.unknown-method]'
contains err 'lora'
expect 2 train --model_name_or_path . --randlora_alpha 3
contains err 'error[config.other-method]'

# Wrong values.
expect 2 train --model_name_or_path . --learning-rate=fast
contains err 'error[config.wrong-type]'
contains err 'learning_rate'
expect 2 train --model_name_or_path . --r 0
contains err 'error[config.out-of-range]'
expect 2 train --model_name_or_path . --lr_scheduler_type liner
contains err 'linear'
expect 2 train --max_steps
contains err 'error[usage.arguments]'
expect 2 train --seed 1 --seed 2
contains err 'error[usage.arguments]'
expect 2 train missing.yaml
contains err 'missing.yaml'
printf 'r: [1,\n' >broken.yaml
expect 2 train broken.yaml
contains err 'broken.yaml'
expect 2 train
contains err 'model_name_or_path'

# Other tools' names and settings.
expect 2 train --model_name_or_path . --lora_rank 0
contains err "'r'"
expect 2 train --model_name_or_path . --fp16
contains err 'error[config.not-implemented]'
contains err 'fp16'
expect 2 train --model_name_or_path . --report_to wandb
contains err 'report_to'
expect 2 train --model_name_or_path . --r 4 --lora_rank 8
contains err 'error[config.two-names]'
expect 2 train --model_name_or_path ./nowhere --bf16 --report_to none --fp16 false --train_file t.csv
contains err 'nowhere'

# A stream that takes nothing.
if [ -e /dev/full ]; then
  "$deltaw" methods >/dev/full 2>err
  [ $? = 1 ] || fail 'a full disk is not told of'
  contains err 'error[io.write-failed]'
fi

finish
