# Settings x seeds: every run is that of `deltaw train`, what is finished is kept, what was cut goes on.
. "$(dirname "$0")/support.sh"
prepare_runs
cat >base.yaml <<'EOF'
model_name_or_path: model
train_file: train.csv
validation_file: dev.csv
text-column: text
dtype: float32
per_device_train_batch_size: 8
lr: 1e-2
max_steps: 3
EOF
cat >ranks.yaml <<'EOF'
base: base.yaml
settings:
  one: {r: 1, target_modules: [query]}
  four: {method: lora, lora_rank: 4}
  gains: {method: ia3, learning_rate: 5e-2}
seeds: [1, 2]
EOF
finished() { ls -d "$1"/*/seed-*/all_results.json 2>/dev/null | wc -l; }

# Nothing is trained or made by a look.
expect 0 compare ranks.yaml --output_dir runs --dry_run
contains err '6 runs in runs: 0 finished, 0 to go on with, 6 to train'
contains out 'setting'
absent runs/one

# Six runs, and a table of three lines.
expect 0 compare ranks.yaml --output_dir runs
contains err '[1/6] one/seed-1: is trained'
contains err '[6/6] gains/seed-2: accuracy '
contains out 'setting  accuracy  sd'
lines out 4
[ "$(awk 'NR > 1 { print $4 }' out | sort -u)" = 2 ] || fail 'not every line has two seeds'
[ "$(awk 'length > 80' out)" = '' ] || fail 'a line has more than 80 columns'
[ "$(finished runs)" = 6 ] || fail 'not all runs are finished'
present runs/one/seed-1.json runs/one/seed-1.log runs/one/seed-1/adapter_model.safetensors
contains runs/one/seed-1.log 'attention.self.query'

# The very run of `deltaw train` with these keys, by hand and from the file of them.
expect 0 train base.yaml --r 4 --seed 2 --output_dir by_hand
cmp by_hand/adapter_model.safetensors runs/four/seed-2/adapter_model.safetensors || fail 'another adapter'
scores() { grep -vE 'runtime|per_second' "$1/eval_results.json"; }
[ "$(scores by_hand)" = "$(scores runs/four/seed-2)" ] || fail 'other scores'
expect 0 train runs/gains/seed-1.json --output_dir from_file
cmp from_file/adapter_model.safetensors runs/gains/seed-1/adapter_model.safetensors || fail 'its keys are another run'

# The other forms.
expect 0 compare ranks.yaml --output_dir runs --json
lacks err 'is trained'
contains err '6 finished'
contains out '"sd": '
contains out '"state": "finished"'
contains out '"peak_memory_bytes"'
[ "$(grep -c '"seed": ' out)" -ge 6 ] || fail 'a run is missing'
expect 0 compare ranks.yaml --output_dir runs --markdown --metric f1,accuracy
contains out '| setting | f1 | sd | accuracy | sd | n | parameters | seconds | memory |'
lines out 5

# A metric that no run has is told: the table shows another one in its place.
lacks err 'no run has the metric'
expect 0 compare ranks.yaml --output_dir runs --metric acuracy
contains err "warning: no run has the metric 'acuracy': did you mean 'accuracy'?"
contains out 'setting  accuracy  sd'

# That of a task that is left out is not missed.
cat >tasks.yaml <<'EOF'
base: base.yaml
tasks: {here: {}, there: {}}
settings: {one: {r: 1}}
seeds: [1]
metric: [accuracy, pearson]
EOF
expect 0 compare tasks.yaml --output_dir tasks --tasks here
lacks err 'no run has the metric'
expect 0 compare tasks.yaml --output_dir tasks --dry_run
contains err "warning: no run has the metric 'pearson'"

# A changed setting is trained anew, and the others stay.
stamp=$(stat -c %Y.%i runs/four/seed-1/all_results.json)
sed -i 's/r: 1,/r: 2,/' ranks.yaml
expect 0 compare ranks.yaml --output_dir runs --dry_run
contains err 'one/seed-1 is to be trained anew: r was 1 and is 2'
expect 0 compare ranks.yaml --output_dir runs
contains err 'one/seed-1 is to be trained anew: r was 1 and is 2'
contains err '4 finished, 0 to go on with, 2 to train'
[ "$(stat -c %Y.%i runs/four/seed-1/all_results.json)" = "$stamp" ] || fail 'a finished run was trained again'
contains runs/one/seed-2/adapter_config.json '"r": 2'
# The same keys in other words are no change.
sed -i 's/lora_rank: 4/r: 4/; s/5e-2/0.05/' ranks.yaml
expect 0 compare ranks.yaml --output_dir runs
contains err '6 finished'

# A part of it, other seeds, and flags that win in every run.
expect 0 compare ranks.yaml --output_dir part --settings four,one --seeds 5 --max_steps 1 --r 3
contains err '[1/2] four/seed-5: is trained'
contains part/one/seed-5/adapter_config.json '"r": 3'
absent part/gains
[ "$(awk 'NR == 2 { print $1, $4 }' out)" = 'four 1' ] || fail 'the order or the number of runs'
[ "$(awk 'NR == 2 { print $3 }' out)" = '-' ] || fail 'one run has no spread'

# Tasks: a table for each, and one of all.
cat >tasks.yaml <<'EOF'
base: base.yaml
tasks:
  whole: {}
  half: {max_train_samples: 16}
settings: {one: {r: 1}}
seeds: 1
output_dir: tasks
EOF
expect 0 compare tasks.yaml --markdown
present tasks/half/one/seed-1/all_results.json
contains out '### whole'
contains out '| setting | whole | half | mean |'

# A run that fails is told, and the rest is trained; the next call tries it again.
cat >bad.yaml <<'EOF'
base: base.yaml
settings:
  wrong: {train_file: bad.csv}
  right: {r: 1}
seeds: [1]
EOF
printf 'text,label\nthe film,praise\n' >bad.csv
expect 1 compare bad.yaml --output_dir bad
contains err 'warning: wrong/seed-1 failed: error[data.'
contains err 'bad/wrong/seed-1.log'
contains out '0 of 1'
present bad/right/seed-1/all_results.json
expect 1 compare bad.yaml --output_dir bad --json
contains out '"problem": "error[data.'
contains err '1 finished, 0 to go on with, 1 to train'
cp train.csv bad.csv
expect 0 compare bad.yaml --output_dir bad

# What is wrong with any run is told at once, before the first.
sed 's/r: 1}/r: 0}/; s/bad.csv/bad.csv, k: 3/' bad.yaml >worse.yaml
expect 2 compare worse.yaml --output_dir worse
contains err 'wrong/seed-1'
contains err 'right/seed-1'
absent worse
sed 's/right: {r: 1}/right: {rr: 1}/' bad.yaml >worse.yaml
expect 2 compare worse.yaml --output_dir worse
contains err "'rr'"
contains err "key 'settings' 'right'"
sed 's/right: {r: 1}/right: {rr: 1}\n  other: {alfa: 1}/' bad.yaml >worse.yaml
expect 2 compare worse.yaml --output_dir worse
contains err "'rr'"
contains err "'alfa'"
# A file that cannot be read is a mistake of configuration, the comparison's as that of a part.
printf 'settings:\n  one: {r: 1\n' >broken.yaml
expect 2 compare broken.yaml --output_dir worse
contains err 'error[config.yaml]'
contains err 'broken.yaml'
printf 'base: broken.yaml\nsettings: {one: {r: 1}}\n' >worse.yaml
expect 2 compare worse.yaml --output_dir worse
contains err 'broken.yaml'
expect 2 compare bad.yaml --output_dir worse --learning_rte 1
contains err 'learning_rate'
expect 2 compare bad.yaml --output_dir worse --overwrite_output_dir
contains err 'remove its folder'
expect 2 compare bad.yaml
contains err '--output_dir'
expect 2 compare
contains err 'deltaw compare ranks.yaml'
expect 2 compare bad.yaml --output_dir worse --seeds 1,x
contains err "'x' is no seed"
expect 2 compare bad.yaml --output_dir train.csv
contains err 'output_dir is a file'
absent worse

# A kill at any time: the next call goes on, with the bytes of a comparison that nobody disturbed.
cat >long.yaml <<'EOF'
base: {config: base.yaml, max_steps: 200, save_strategy: steps, save_steps: 10, logging_steps: 10}
settings: {one: {r: 1}, two: {r: 2}, gains: {method: ia3}}
seeds: [1, 2]
EOF
expect 0 compare long.yaml --output_dir whole
until_there() { # PATH
  for _ in $(seq 1 600); do [ -e "$1" ] && return; sleep 0.05; done
  fail "$1 does not come"
}
"$deltaw" compare long.yaml --output_dir killed >out 2>err </dev/null &
pid=$!
until_there killed/two/seed-1/checkpoint-20
kill -9 $pid
wait $pid 2>/dev/null
[ "$(finished killed)" = 1 ] || fail 'the kill came at another time'
expect 0 compare long.yaml --output_dir killed
contains err 'two/seed-1: goes on from its checkpoint'
contains killed/two/seed-1/log.jsonl '"kind":"resume"'
[ "$(finished killed)" = 6 ] || fail 'the second call did not finish'
for run in one/seed-1 two/seed-1 gains/seed-2; do
  cmp {whole,killed}/$run/adapter_model.safetensors || fail "$run was made otherwise"
done
expect 0 compare long.yaml --output_dir killed --json
contains out '"resumed": true'

# A signal ends it after the step, and the same command goes on.
"$deltaw" compare long.yaml --output_dir stopped >out 2>err </dev/null &
pid=$!
until_there stopped/one/seed-1/checkpoint-20
kill -TERM $pid
wait $pid
code=$?
[ "$code" = 143 ] || fail "exit code $code after SIGTERM, not 143"
contains err 'the same command goes on'
contains out 'setting'
contains stopped/one/seed-1.log 'stopped by'
absent stopped/one/seed-1/all_results.json stopped/two
expect 0 compare long.yaml --output_dir stopped
contains err 'one/seed-1: goes on from its checkpoint'
cmp {whole,stopped}/one/seed-1/adapter_model.safetensors || fail 'the run after a signal was made otherwise'

# Two at once take turns.
"$deltaw" compare long.yaml --output_dir shared --settings one >first 2>first.err </dev/null &
pid=$!
until_there shared/one/seed-1.json
expect 0 compare long.yaml --output_dir shared --settings one
contains err 'another process is at work in shared'
contains err '2 finished'
wait $pid

# What a user puts there stays.
echo mine >runs/one/seed-1/notes.txt
sed -i 's/r: 2,/r: 3,/' ranks.yaml
expect 0 compare ranks.yaml --output_dir runs --settings one --seeds 1
present runs/one/seed-1/notes.txt
contains runs/one/seed-1/adapter_config.json '"r": 3'

finish
