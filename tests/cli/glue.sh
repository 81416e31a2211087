# The tasks of GLUE on rows of the layout that their files have, and the files that GLUE's server takes.
. "$(dirname "$0")/support.sh"
make_model bert_base model
good='the film was good' bad='this book was bad'
t() { local IFS=$'\t'; printf '%s\n' "$*"; }
two() { # FOLDER HEAD ROW...: train and dev
  local folder=$1 head=$2
  shift 2
  mkdir -p "glue/$folder"
  for file in ${files:-train dev}; do { [ -z "$head" ] || echo "$head"; for i in 1 2 3 4; do printf '%s\n' "$@"; done; } >"glue/$folder/$file.tsv"; done
}
test_rows() { # FOLDER FILE HEAD ROW...
  local path=glue/$1/$2.tsv
  shift 2
  printf '%s\n' "$@" >"$path"
}

two CoLA '' "$(t gj04 1 '' "$good")" "$(t gj04 0 '*' "$bad")"
test_rows CoLA test "$(t index sentence)" "$(t 0 "$bad")" "$(t 1 "$good")" "$(t 2 "$bad")"
two SST-2 "$(t sentence label)" "$(t "$good" 1)" "$(t "$bad" 0)"
test_rows SST-2 test "$(t index sentence)" "$(t 0 "$bad")" "$(t 1 "$good")" "$(t 2 "$bad")"
two MRPC "$(t Quality '#1 ID' '#2 ID' '#1 String' '#2 String')" "$(t 1 1 2 "$good" "$good")" "$(t 0 3 4 "$good" "$bad")"
test_rows MRPC test "$(t index '#1 ID' '#2 ID' '#1 String' '#2 String')" "$(t 0 1 2 "$good" "$bad")" "$(t 1 1 2 "$good" "$good")"
stsb="$(t index genre filename year old_index source1 source2 sentence1 sentence2)"
two STS-B "$(t "$stsb" score)" "$(t 0 g f y 0 none none "$good" "$good" 5.000)" "$(t 1 g f y 1 none none "$good" "$bad" 0.250)"
test_rows STS-B test "$stsb" "$(t 0 g f y 0 none none "$good" "$bad")" "$(t 1 g f y 1 none none "$good" "$good")"
two QQP "$(t id qid1 qid2 question1 question2 is_duplicate)" "$(t 1 1 2 "$good" "$good" 1)" "$(t 2 3 4 "$good" "$bad" 0)"
test_rows QQP test "$(t id question1 question2)" "$(t 0 "$good" "$bad")" "$(t 1 "$good" "$good")"
mnli="$(t index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse sentence1 sentence2)"
nli() { t "$1" 1 1e fiction p p p p "$2" "$3" "${@:4}"; }
files=train two MNLI "$(t "$mnli" label1 gold_label)" "$(nli 0 "$good" "$good" entailment entailment)" \
  "$(nli 1 "$good" "$bad" contradiction contradiction)" "$(nli 2 "$good" film neutral neutral)"
files='dev_matched dev_mismatched' two MNLI "$(t "$mnli" label1 label2 label3 label4 label5 gold_label)" \
  "$(nli 0 "$good" "$good" a b c d e entailment)" "$(nli 1 "$good" "$bad" a b c d e contradiction)"
sed -i 's/contradiction$/neutral/' glue/MNLI/dev_mismatched.tsv
for half in matched mismatched; do
  test_rows MNLI test_$half "$mnli" "$(nli 0 "$good" "$good")" "$(nli 1 "$good" "$bad")" "$(nli 2 "$good" film)"
done
echo "$(nli 3 "$bad" "$bad")" >>glue/MNLI/test_mismatched.tsv
two QNLI "$(t index question sentence label)" "$(t 0 "$good" "$good" entailment)" "$(t 1 "$good" "$bad" not_entailment)"
test_rows QNLI test "$(t index question sentence)" "$(t 0 "$good" "$bad")" "$(t 1 "$good" "$good")"
two RTE "$(t index sentence1 sentence2 label)" "$(t 0 "$good" "$good" entailment)" "$(t 1 "$good" "$bad" not_entailment)"
test_rows RTE test "$(t index sentence1 sentence2)" "$(t 0 "$good" "$bad")" "$(t 1 "$good" "$good")"
two WNLI "$(t index sentence1 sentence2 label)" "$(t 0 "$good" "$good" 1)" "$(t 1 "$good" "$bad" 0)"
test_rows WNLI test "$(t index sentence1 sentence2)" "$(t 0 "$good" "$bad")" "$(t 1 "$good" "$good")"
mkdir -p glue/diagnostic
test_rows diagnostic diagnostic "$(t index sentence1 sentence2)" "$(t 0 "$good" "$bad")" "$(t 1 "$good" "$good")"

# All of them in one comparison, each by its own metric.
cat >nine.yaml <<'EOF'
base: {model_name_or_path: model, dataset_dir: glue, dtype: float32, per_device_train_batch_size: 4, learning_rate: 1e-2,
  target_modules: [query, value], num_train_epochs: 12}
tasks: [cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli]
settings: {lora: {r: 8}}
output_dir: runs
EOF
expect 0 compare nine.yaml --markdown
cp out table
[ "$(sed -n 's/^| setting | \([a-z_]*\) | sd .*/\1/p' table | paste -sd ' ')" = \
  'matthews_correlation accuracy accuracy pearson accuracy accuracy accuracy accuracy accuracy' ] || fail 'the metrics'

# The files of the server.
adapter() { echo "runs/$1/lora/seed-42"; }
submit() { # TASK ADAPTER
  expect 0 predict --adapter_name_or_path "$(adapter "$2")" --task_name "$1" --dataset_dir glue --submission_dir sent
}
for task in cola sst2 mrpc stsb qqp mnli qnli rte wnli; do submit $task $task; done
submit mnli-mm mnli
submit ax mnli
[ "$(ls sent | paste -sd ' ')" = 'AX.tsv CoLA.tsv MNLI-m.tsv MNLI-mm.tsv MRPC.tsv QNLI.tsv QQP.tsv RTE.tsv SST-2.tsv STS-B.tsv WNLI.tsv' ] ||
  fail "the names: $(ls sent)"
answers() { tail -n +2 "sent/$1.tsv" | cut -f 2 | paste -sd ' '; }
for file in sent/*.tsv; do
  [ "$(head -1 "$file")" = "$(t index prediction)" ] || fail "the head of $file"
  [ "$(tail -n +2 "$file" | cut -f 1)" = "$(seq 0 $(($(wc -l <"$file") - 2)))" ] || fail "the indices of $file"
done
lines sent/MNLI-m.tsv 4
lines sent/MNLI-mm.tsv 5
[ "$(answers CoLA)" = '0 1 0' ] || fail "CoLA: $(answers CoLA)"
[ "$(answers SST-2)" = '0 1 0' ] || fail "SST-2: $(answers SST-2)"
for task in MRPC QQP WNLI; do
  [[ "$(answers $task)" =~ ^[01]\ [01]$ ]] || fail "$task: $(answers $task)"
done
for task in RTE QNLI; do
  [[ "$(answers $task)" =~ ^(not_)?entailment\ (not_)?entailment$ ]] || fail "$task: $(answers $task)"
done
for task in MNLI-m MNLI-mm AX; do
  [ -z "$(answers $task | tr ' ' '\n' | grep -vxE 'entailment|neutral|contradiction')" ] || fail "$task: $(answers $task)"
done
[[ "$(answers STS-B)" =~ ^[0-5]\.[0-9]{3}\ [0-5]\.[0-9]{3}$ ]] || fail "STS-B: $(answers STS-B)"

# Both halves of MNLI are scored; predictions and the submission say the same.
expect 0 eval --adapter_name_or_path "$(adapter mnli)" --task_name mnli_mismatched
contains out '"eval_samples": 8'
contains out '"eval_accuracy"'
expect 0 predict --adapter_name_or_path "$(adapter rte)" --submission_dir again
cmp sent/RTE.tsv again/RTE.tsv || fail 'the task is not that of the adapter'
[ "$(sed -n 's/.*"label":"\([a-z_]*\)".*/\1/p' out | paste -sd ' ')" = "$(answers RTE)" ] || fail 'two answers to one row'

# What cannot be.
expect 2 predict --adapter_name_or_path "$(adapter rte)" --task_name mnli --dataset_dir glue --submission_dir other
contains err 'error[config.submission]'
make_rows rows.csv 4
expect 2 predict --model_name_or_path model --input_file rows.csv --text_column text --submission_dir other
contains err 'task_name is not given'
expect 2 train --model_name_or_path model --task_name ax --dataset_dir glue --output_dir other
contains err 'task ax has no such rows'
absent other
expect 2 train --model_name_or_path model --task_name qnl --dataset_dir glue --output_dir other
contains err "did you mean 'qnli'"

finish
