# Timing training steps: what is said of them, never how many there are a second.
. "$(dirname "$0")/support.sh"
make_model bert_base model
make_model llama_tied talker
common="--model_name_or_path model --dtype float32 --per_device_train_batch_size 4"
short="$common --max_length 8 --steps 3"

# The number that stands behind a key in the first line of `out`.
number() { # KEY
  sed -n -E "s/.*\"$1\": ?([0-9.e+-]+).*/\1/p" out | head -n 1
}

positive() { # KEY...
  local key value
  for key in "$@"; do
    value=$(number "$key")
    awk -v value="${value:-0}" 'BEGIN { exit !(value + 0 > 0) }' || fail "$key is '$value'"
  done
}

# One method in one round: a line of JSON, and nothing left behind.
mkdir -p scratch
expect 0 bench $short --rounds 1 --target_modules query,value --r 2
empty err
[ "$(wc -l <out)" = 1 ] || fail 'not one line'
positive step_ms min_ms data_wait_ms forward_ms backward_ms optimizer_ms tokens_per_second first_step_s peak_mib adapter_bytes \
  merge_ms trainable head_trainable threads
[ "$(number tokens_per_step)" = 32 ] || fail 'four rows of eight tokens are not 32'
timed=$(sed -n 's/.*"all_ms":\[\([^]]*\)\].*/\1/p' out | tr ',' '\n')
[ "$(wc -l <<<"$timed")" = 2 ] || fail 'not two timed steps after the first'
awk -v median="$(number step_ms)" '{ sum += $1 } END { exit !(sum / NR < median * 1.001 && sum / NR > median * 0.999) }' \
  <<<"$timed" || fail 'step_ms is not the median of two'
contains out '"hidden_dropout_prob"'
contains out '"method":"lora","dtype":"float32"'
awk -v step="$(number min_ms)" -v parts="$(number data_wait_ms) $(number forward_ms) $(number backward_ms) $(number optimizer_ms)" \
  'BEGIN { split(parts, p, " "); exit !(p[1] + p[2] + p[3] + p[4] <= step * 1.001) }' || fail 'the parts exceed the step'
TMPDIR=$scratch/scratch expect 0 bench $common --max_length 7 --steps 2 --rounds 1 --method prompt_tuning --num_virtual_tokens 1
contains out '"merge_ms":null'
[ -z "$(ls -A scratch)" ] || fail "left behind: $(ls scratch)"

# The trained numbers are those of a training run.
{ make_rows train.csv 8; echo 'it was so,neither' >>train.csv; } # as many labels as the model's head
expect 0 bench $short --rounds 1 --method randlora --r 4
trained=$(number trainable)
expect 0 validate --model_name_or_path model --train_file train.csv --text_column text --method randlora --r 4 --json
[ "$(number trained_parameters)" = "$trained" ] || fail "$trained trained parameters, validate has $(number trained_parameters)"

# A causal model: every token but a row's first is said.
expect 0 bench --model_name_or_path talker --dtype float32 --max_length 8 --steps 2 --rounds 1 --target_modules all-linear \
  --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --gradient_checkpointing true
[ "$(number tokens_per_step)" = 32 ] || fail 'two batches of two rows of eight tokens are not 32'
contains out '"gradient_checkpointing":true'

# Methods in turns, with options that are not everyone's, from a file of a training run: a line of JSON for each, and a
# table on standard error.
cat >run.yaml <<'END'
model_name_or_path: model
train_file: nowhere.csv
output_dir: nowhere
num_train_epochs: 7
eval_strategy: epoch
dtype: float32
max_length: 8
r: 2
END
expect 0 bench run.yaml --methods lora,randlora,adalora --randlora_alpha 4 --init_r 9 --rounds 2 --steps 3
[ "$(cut -d, -f1 out | tr '\n' ' ')" = '{"method":"lora" {"method":"randlora" {"method":"adalora" ' ] || fail 'other lines'
[ "$(grep -c '"rounds":2,.*"all_ms":\[[^,]*,[^,]*,[^,]*,[^,]*\].*"step_ratio":' out)" = 3 ] || fail 'not four steps each'
for method in lora randlora adalora; do
  [ "$(grep -cE "^ +$method +[0-9]" err)" = 1 ] || fail "no row of $method"
done
contains err 'start to first'
contains err '4 timed steps in 2 rounds'
absent nowhere
expect 0 bench $short --rounds 2
[ "$(grep -cE '^ +lora +[0-9]' err)" = 1 ] || fail 'no row of lora'

# A rank budget made for a whole run: its first steps.
expect 0 bench $short --rounds 1 --method adalora --init_r 3 --target_r 2 --tinit 50 --tfinal 150
contains out '"total_step":1200'

# What cannot be timed is refused before anything is.
expect 2 bench
contains err 'model_name_or_path'
expect 2 bench $short --train_file train.csv
contains err 'error[config.unknown-key]'
expect 2 bench $short --methods lora,randlroa
contains err 'randlora'
expect 2 bench $short --methods lora,dora --randlora_alpha 3
contains err 'error[config.other-method]'
expect 2 bench $short --methods lora,dora --r 0
contains err 'error[config.out-of-range]'
contains err 'command line'
expect 2 bench $common --steps 1
contains err "'steps'"
expect 2 bench $common --rounds 1 --max_length 4000
contains err 'error[config.max-length]'
expect 2 bench $short --methods lora,dora --target_modules qury # in the first process
contains err 'error[config.'
contains err 'query'
empty out

finish
