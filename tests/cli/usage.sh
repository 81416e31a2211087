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

for verb in train eval predict generate merge tokenize download info methods validate landscape bench; do
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
# A setting beside a method that does not have it, by flag and by file.
for method in adalora ia3 randlora moslora lora_fa loraplus head prompt_tuning; do
  expect 2 validate --model_name_or_path . --method $method --use_dora true
  contains err 'use_dora'
  contains err "$method"
  printf 'method: %s\nuse_dora: yes\n' $method >setting.yaml
  expect 2 validate setting.yaml --model_name_or_path .
  contains err 'error[config.conflict]'
  contains err 'use_dora'
  contains err 'setting.yaml'
done
expect 2 validate --model_name_or_path . --use_dora --lora_use_mixer
contains err 'use_dora'
contains err 'lora_use_mixer'
expect 2 validate --model_name_or_path . --use_dora --lora_fa true
contains err 'lora_fa'
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

# Settings of other tools: taken where they ask for what happens anyway, else told what there is instead.
: >one.txt
base=(validate --model_name_or_path nowhere --train_file one.txt)
for taken in stage=sft device=cpu no_cuda=true dataloader_num_workers=4 run_name=x ddp_timeout=9 attn_implementation=sdpa \
  bf16=auto lora_target_linear=true iters=5; do
  expect 2 "${base[@]}" --$taken
  contains err 'error[config.model-not-found]'
done
expect 2 "${base[@]}" --bf16 auto
contains err 'error[config.model-not-found]'
expect 2 validate --model_name_or_path nowhere --dataset one.txt --dataset_text_field text
contains err 'error[config.model-not-found]'
refuses() {  # SETTING TEXT
  expect 2 "${base[@]}" --$1
  contains err 'error[config.not-implemented]'
  contains err "fix:   $2"
}
refuses stage=dpo 'remove it: classifiers are trained, and language models on texts and answers (sft, pt)'
refuses device=cuda 'remove it: this build computes on the CPU'
refuses optim=adafactor 'remove it: the optimiser is adamw_torch'
refuses deepspeed=ds.json 'remove it: one process trains'
refuses push_to_hub=true 'remove it: nothing is uploaded; output_dir is a folder that can be'
refuses logging_dir=logs 'remove it: log.jsonl in output_dir holds every event'

# Words that belong to no key.
expect 2 "${base[@]}" -r 8
contains err "'-r' is no flag: flags have two dashes"
contains err 'fix:   --r'
expect 2 "${base[@]}" --target_modules query value
contains err "'value' stands behind --target_modules query and belongs to no flag"
contains err 'fix:   a list has commas: --target_modules query,value'
expect 2 "${base[@]}" --learning_rate
contains err '--learning_rate has no value'
expect 2 "${base[@]}" --learning_rate --r 8
contains err '--learning_rate has no value'
expect 2 "${base[@]}" --r 8 --r=9
contains err '--r is given twice: 8 and 9'
expect 2 "${base[@]}" --packing maybe
contains err 'packing'
lacks err 'cannot read the file'

expect 2 "${base[@]}" --r 8 one.txt two.txt
contains err "'two.txt' belongs to no flag"
lacks err 'was not expected'
expect 2 tokenize one.txt
contains err "'one.txt' belongs to no flag"

# All that is wrong with a configuration is told at once, each with its place and its fix.
told() { # COUNT: errors, and as many places and fixes
  for part in '^error\[' '^  where: ' '^  fix:   '; do
    [ "$(grep -c "$part" err)" = "$1" ] || fail "$(grep -c "$part" err) lines of $part, not $1"
  done
}
cat >bad.yaml <<'END'
lerning_rate: 1e-3
r: 0
lora_alpha: [2]
num_train_epochs: many
fp16: true
randlora_alpha: 3
modle_name_or_path: x
END
expect 2 train bad.yaml --packing maybe --lr_scheduler_type liner -r 8 9 --seed 1 --seed 2 --bogus 3 --max_steps
told 14
for text in "'lerning_rate' is not known" "'r' is 0, it must be >= 1" "'lora_alpha' has the value [2]" "'fp16' is true" \
  "'num_train_epochs' has the value" "'randlora_alpha' is an option of randlora" "'packing' has the value" \
  "fix:   did you mean 'linear'?" "'-r' is no flag" '--seed is given twice' "'bogus' is not known" '--max_steps has no value' \
  "fix:   did you mean 'model_name_or_path'?" '`deltaw train` needs train_file' "where: bad.yaml, key 'r'" \
  "where: command line, key 'packing'"; do
  contains err "$text"
done
lacks err 'needs model_name_or_path' # it stands there, misspelt
expect 2 train
told 2
contains err '`deltaw train` needs model_name_or_path or adapter_name_or_path'
contains err 'fix:   add --train_file FILE, or --task_name NAME and --dataset_dir FOLDER'
expect 2 train --method lroa --learning_rat 1 --model_name_or_path . --train_file one.txt
told 2
contains err "fix:   did you mean 'lora'? \`deltaw methods\` lists them"
expect 2 train missing.yaml --learning_rat 1
told 2
expect 2 generate --max_new_tokens 0 --temperatur 3
told 3
expect 2 merge --save_dtype int3
told 3
expect 2 bench --r 0
told 2
expect 2 eval --stride many --encoding 3
told 2

# Tasks without the folder of their files, and tasks of other models.
make_speaker speaker
make_model bert_base classifier
for verb in train eval; do
  expect 2 $verb --model_name_or_path classifier --task_name mrpc
  contains err 'task_name is mrpc, and dataset_dir, the folder of its files, is not given'
  expect 2 $verb --model_name_or_path classifier --task_name squad
  contains err "there is no task 'squad' for classifiers"
  contains err 'fix:   The tasks are cola, sst2, mrpc, stsb, qqp, mnli, mnli_mismatched, qnli, rte, wnli, ax, each with dataset_dir, the folder of its files.'
  expect 2 $verb --model_name_or_path speaker --task_name gsm8k
  contains err 'task_name is gsm8k, and dataset_dir, the folder of its files, is not given'
  expect 2 $verb --model_name_or_path speaker --task_name mrpc
  contains err 'task mrpc is for classifiers, and this model is a causal language model'
done
expect 2 train --model_name_or_path speaker --task_name arc_esy
contains err "fix:   did you mean 'arc_easy'? The tasks are boolq,"

# Verbs of other programs.
for pair in 'chat:generate --chat' 'sft:train' 'pull:download' 'fuse:merge' 'env:--version'; do
  expect 2 "${pair%%:*}"
  contains err "fix:   \`deltaw ${pair#*:}\`"
done

# What merging needs, and where.
expect 2 merge
contains err '`deltaw merge` needs adapter_name_or_path'
mkdir -p adapter
echo '{"peft_type": "LORA", "base_model_name_or_path": "nowhere"}' >adapter/adapter_config.json
: >adapter/adapter_model.safetensors
expect 2 merge --adapter_name_or_path adapter
contains err 'fix:   add --output_dir FOLDER'

# A model type that is known to be another's is never taken for one that is read.
mkdir -p other
for type in xlnet mixtral gemma qwen2_moe; do
  printf '{"model_type": "%s"}' $type >other/config.json
  expect 2 validate --model_name_or_path other --train_file one.txt
  contains err "model_type '$type' is not implemented"
  contains err 'fix:   deltaw reads UNet2DConditionModel, UNet2DModel, albert, bert, clip, deberta-v2, '
  lacks err 'did you mean'
done

# Files that are none.
mkdir -p folder .hidden
expect 2 validate --model_name_or_path nowhere.model/ --train_file one.txt
lacks err .hidden
expect 2 validate --model_name_or_path ./speakr --train_file one.txt
contains err "fix:   did you mean 'speaker'?"
mkdir -p home/notes
HOME=$scratch/home expect 2 validate --model_name_or_path '~/x' --train_file one.txt
contains err "where: $scratch/home/x"
contains err 'fix:   correct the path'

# On a terminal, messages break at words; elsewhere a sentence is one line.
if command -v script >/dev/null; then
  script -qec "stty cols 50; '$deltaw' validate --model_name_or_path nowhere --bf16 --stage dpo" /dev/null </dev/null |
    tr -d '\r' >out
  [ "$(awk 'length > 50' out | wc -l)" = 0 ] || fail "wider than the terminal: $(awk 'length > 50' out)"
  contains out '  fix:   remove it: classifiers are trained, and'
  contains out '         language models'
fi
expect 2 validate --model_name_or_path nowhere --stage dpo
contains err 'fix:   remove it: classifiers are trained, and language models on texts and answers (sft, pt)'

# A stream that takes nothing.
if [ -e /dev/full ]; then
  "$deltaw" methods >/dev/full 2>err
  [ $? = 1 ] || fail 'a full disk is not told of'
  contains err 'error[io.write-failed]'
fi

# A reader that leaves, as head does, is no error; where SIGPIPE is ignored the exit code is that of the signal still.
: >out
{ sleep 1; "$deltaw" methods 2>err; echo $? >code; } | true
empty err
[ "$(cat code)" = 141 ] || fail "exit code $(cat code) without a reader"
{ trap '' PIPE; sleep 1; "$deltaw" methods 2>err; echo $? >code; } | true
empty err
[ "$(cat code)" = 141 ] || fail "exit code $(cat code) without a reader and with SIGPIPE ignored"

finish
