# The way of a run: validate, train, resume, eval, predict, merge.
. "$(dirname "$0")/support.sh"
make_model bert_base model
make_rows train.csv 64
make_rows dev.csv 12
cat >run.yaml <<'END'
model_name_or_path: model
train_file: train.csv
validation_file: dev.csv
text_column: text
dtype: float32
target_modules: [query, value]
r: 2
per-device-train-batch-size: 8
learning_rate: 1e-2
logging_steps: 1
END

# Nothing is trained or written by a check.
expect 0 validate run.yaml --output_dir checked
contains out 'attention.self.query'
contains out '2 of 2'
contains out 'blame praise'
contains out 'ready to train'
expect 0 validate run.yaml --json
contains out '"trained_parameters"'
absent checked output
lacks out '"quantisation"'
expect 0 validate run.yaml --json --load_in_4bit true --bnb_4bit_use_double_quant true
contains out 'nf4, double quantisation'
contains out '"dequantised_bytes"'
contains out '"program_bytes"'
expect 0 validate run.yaml --load_in_8bit true
contains out '12 linear layers in int8'
expect 0 validate run.yaml --base_compute_dtype int8
contains out '12 linear layers in int8, multiplied in int8'
expect 2 validate run.yaml --load_in_8bit true --load_in_4bit true
contains err 'error[config.conflict]'
expect 2 validate run.yaml --target_modules qury
contains err 'query'
expect 2 validate run.yaml --text_column txt
contains err 'text'
expect 2 train run.yaml --eval_strategy steps --validation_file '' --output_dir refused
absent refused
expect 2 validate run.yaml --add_tokens '<tab>'
contains err "keys 'add_tokens'"
expect 2 validate run.yaml --max_length 4000
contains err 'error[config.max-length]'

# A rate that nothing learns by is remarked before, and a run that ends far off after.
expect 0 validate run.yaml --learning_rate 10
contains err 'learning_rate 10 lets numbers of the adapter move by up to 10'
expect 0 validate run.yaml --learning_rate 10 --json
contains out 'training is likely to diverge'
expect 0 validate run.yaml --learning_rate 1e-2 --loraplus_lr_ratio 100
contains err 'learning_rate 0.01 lets numbers of the adapter move by up to 1 in'
for calm in 'run.yaml --learning_rate 0.1' '--method prompt_tuning --model_name_or_path model --train_file train.csv --learning_rate 0.3'; do
  expect 0 validate $calm
  lacks err 'likely to diverge'
done
expect 0 train run.yaml --learning_rate 10 --max_steps 12 --output_dir far
contains err 'warning: training has diverged: the loss was '
[ "$(grep -c 'has diverged' err)" = 1 ] || fail 'it is said more than once'
contains out '"diverged": true'
contains far/all_results.json '"diverged": true'
expect 0 train run.yaml --learning_rate 1e4 --max_steps 1 --lr_scheduler_type constant --output_dir far_at_once
contains err 'and eval_loss is '
contains out '"diverged": true'

# Two steps.
expect 0 train run.yaml --max_steps 2 --output_dir two --eval_strategy steps --eval_steps 1
contains err 'attention.self.query'
contains err 'step 2/2'
contains out '"eval_accuracy"'
contains out '"train_loss"'
lacks out 'step 2/2'
contains out '"diverged": false'
lacks err 'diverge'
present two/adapter_config.json two/adapter_model.safetensors two/vocab.txt two/README.md two/trainer_state.json \
  two/train_results.json two/eval_results.json two/all_results.json two/log.jsonl two/run.json
contains two/README.md 'library_name: peft'
contains two/log.jsonl '"kind":"log"'
contains two/log.jsonl '"kind":"eval"'
expect 2 train run.yaml --max_steps 2 --output_dir two
contains err 'error[config.output-exists]'
expect 0 train two/run.json --output_dir again
cmp two/adapter_model.safetensors again/adapter_model.safetensors || fail 'run.json does not repeat its run'
expect 0 train run.yaml --max_steps 2 --output_dir two --overwrite_output_dir
expect 0 info two
contains out 'finished'

# The seed draws the adapter's start, and group_by_length orders the rows.
make_model bert_cls headed
printf 'text,label\nit is good,positive\nit was a bad book and so very awful,negative\nthe film,neutral\n' >three.csv
headed="--model_name_or_path headed --train_file three.csv --dtype float32 --max_steps 3 --per_device_train_batch_size 1"
for seed in 1 2; do
  expect 0 train $headed --learning_rate 0 --seed $seed --data_seed 5 --output_dir "start-$seed"
done
expect 0 train $headed --learning_rate 0 --seed 1 --data_seed 6 --output_dir start-again
! cmp -s start-1/adapter_model.safetensors start-2/adapter_model.safetensors || fail 'the seed has no part in the start'
cmp start-1/adapter_model.safetensors start-again/adapter_model.safetensors || fail 'a rate of 0 moved the adapter'
expect 0 train run.yaml --max_steps 6 --output_dir mixed
expect 0 train run.yaml --max_steps 6 --group_by_length true --output_dir grouped
! cmp -s mixed/adapter_model.safetensors grouped/adapter_model.safetensors || fail 'group_by_length changes nothing'

# A killed run, gone on with, gives the adapter of an undisturbed one.
long="run.yaml --max_steps 300 --save_strategy steps --save_steps 20 --logging_steps 50"
expect 0 train $long --output_dir whole --resume_from_checkpoint auto
lacks whole/log.jsonl '"kind":"resume"'
"$deltaw" train $long --output_dir killed >out 2>err </dev/null &
pid=$!
for _ in $(seq 1 600); do
  [ -e killed/checkpoint-20 ] && break
  sleep 0.1
done
kill -9 $pid
wait $pid 2>/dev/null
absent killed/all_results.json
present killed/checkpoint-20/run.json killed/checkpoint-20/vocab.txt killed/checkpoint-20/README.md
expect 2 train $long --output_dir killed
contains err '--resume_from_checkpoint true'
cp -r killed killed-auto
expect 0 train $long --output_dir killed --resume_from_checkpoint true
cmp whole/adapter_model.safetensors killed/adapter_model.safetensors || fail 'the resumed run differs'
contains killed/log.jsonl '"kind":"resume"'
expect 0 train $long --output_dir killed-auto --resume_from_checkpoint auto
cmp whole/adapter_model.safetensors killed-auto/adapter_model.safetensors || fail 'the run resumed by auto differs'
contains killed-auto/log.jsonl '"kind":"resume"'

# A signal is obeyed after the step, with a checkpoint; so is a terminal that is closed, which shells tell twice.
begun() { # until the run whose errors these are is at step 50
  for _ in $(seq 1 600); do
    grep -q 'step 50/' err && break
    sleep 0.1
  done
}
long_run="run.yaml --max_steps 100000 --logging_steps 50"
while read -r code signals; do
  : >err # whose last run said `step 50/` too
  env --default-signal=HUP "$deltaw" train $long_run --output_dir "stopped-$code" >out 2>err </dev/null &
  pid=$!
  begun
  for signal in $signals; do kill -$signal $pid; done
  wait $pid
  got=$?
  [ "$got" = "$code" ] || fail "exit code $got after $signals, not $code"
  contains err 'go on:'
  empty out
  [ -n "$(ls -d stopped-$code/checkpoint-* 2>/dev/null)" ] || fail "no checkpoint after $signals"
done <<'LINES'
143 TERM
129 HUP HUP
LINES
: >err
(trap '' HUP && exec "$deltaw" train run.yaml --max_steps 400 --logging_steps 50 --output_dir outlives >out 2>err </dev/null) &
pid=$!
begun
kill -HUP $pid
wait $pid || fail 'a run that nohup started does not outlive the terminal'
present outlives/adapter_model.safetensors

# Asking the trained model: everything that is left open comes from its folder.
expect 0 eval --adapter_name_or_path whole
contains out '"eval_accuracy": 1.0'
empty err
expect 0 eval --model_name_or_path model --train_file train.csv --validation_file dev.csv --text_column text
contains err 'drawn at random'
printf 'this book was awful\nthe song is great\n\n' >texts.txt
expect 0 predict --adapter_name_or_path whole --input_file texts.txt --logits_file logits.safetensors
lines out 3
[ "$(grep -cE '^\{"row":[123],"label":"(blame|praise)","logits":\[-?[0-9.e-]+,-?[0-9.e-]+\]\}$' out)" = 3 ] || fail 'lines of predictions'
expect 0 info logits.safetensors
contains out 'F32'
expect 0 predict --adapter_name_or_path whole --input_file dev.csv --output_file lines.jsonl
empty out
lines lines.jsonl 12

# The base is held as it was in training, unless a flag says otherwise.
expect 0 train run.yaml --max_steps 2 --load_in_4bit true --bnb_4bit_use_double_quant true --output_dir held
expect 0 eval --adapter_name_or_path held
contains err 'the base is held in nf4 with double quantisation, as when the adapter was trained'
contains out '"quantisation": "nf4, double quantisation"'
cp out held.json
expect 0 eval --adapter_name_or_path held --load_in_4bit true --bnb_4bit_use_double_quant true
empty err
cmp out held.json || fail 'an inherited base is another one'
expect 0 eval --adapter_name_or_path held --load_in_4bit false
contains err 'trained on a base in nf4 with double quantisation, and runs on one as it is stored'
lacks out '"quantisation"'
expect 0 eval --adapter_name_or_path held --load_in_8bit true
contains err 'and runs on one in int8'
expect 0 eval --adapter_name_or_path whole --load_in_8bit true
contains err 'trained on a base as it is stored, and runs on one in int8'
expect 0 merge --adapter_name_or_path held --output_dir merged_held
contains out '"quantisation_difference"'
steps="run.yaml --max_steps 2 --save_strategy steps --save_steps 1 --output_dir multiplied"
expect 0 train $steps --base_compute_dtype int8
contains multiplied/run.json '"base_compute_dtype": "int8"'
expect 0 eval --adapter_name_or_path multiplied
contains err 'the base is held in int8, multiplied in int8, as when the adapter was trained'
contains out '"quantisation": "int8, multiplied in int8"'
expect 0 eval --adapter_name_or_path multiplied --base_compute_dtype auto
contains err 'trained on a base in int8, multiplied in int8, and runs on one as it is stored'
expect 0 eval --adapter_name_or_path multiplied --load_in_8bit true
contains err 'and runs on one in int8'
expect 0 eval --adapter_name_or_path whole --base_compute_dtype int8
contains err 'trained on a base as it is stored, and runs on one in int8, multiplied in int8'
expect 0 merge --adapter_name_or_path multiplied --output_dir merged_multiplied
contains out '"quantisation_difference"'
expect 2 train $steps --resume_from_checkpoint multiplied/checkpoint-1
contains err "'quantisation' is null here"

# Merging.
expect 0 merge --adapter_name_or_path whole --output_dir merged
contains out '"passed": true'
present merged/config.json merged/model.safetensors merged/vocab.txt
lacks out 'quantisation_difference'
expect 0 merge --adapter_name_or_path whole --output_dir merged_from_nf4 --load_in_4bit true
contains out '"quantisation_difference"'
cmp merged/model.safetensors merged_from_nf4/model.safetensors || fail 'merging depends on how the base is held'
expect 0 predict --model_name_or_path merged --input_file dev.csv --text_column text
sed 's/,"logits.*//' out >merged.labels
sed 's/,"logits.*//' lines.jsonl | cmp - merged.labels || fail 'the merged model answers otherwise'
expect 2 merge --adapter_name_or_path whole --output_dir merged
contains err 'error[config.output-exists]'

# A score instead of classes.
{ echo 'text,label'; for i in $(seq 1 16); do echo "the film was good,$i.5"; echo "it is bad,0.5"; done; } >scores.csv
expect 0 train run.yaml --train_file scores.csv --validation_file scores.csv --max_steps 2 --output_dir scores
contains out '"eval_pearson"'
expect 0 predict --adapter_name_or_path scores --input_file texts.txt
[ "$(grep -cE '^\{"row":[123],"label":-?[0-9.e-]+\}$' out)" = 3 ] || fail 'lines of scores'

# What is damaged or does not fit ends it.
cp -r whole cut
truncate -s 200 cut/adapter_model.safetensors
expect 1 eval --adapter_name_or_path cut
empty out
contains err 'adapter_model.safetensors'
expect 2 eval --adapter_name_or_path nowhere
contains err 'error[config.no-adapter]'
printf 'text,label\nthe film,rubbish\n' >wrong.csv
expect 1 eval --adapter_name_or_path whole --validation_file wrong.csv
contains err 'rubbish'
contains err 'wrong.csv'

finish
