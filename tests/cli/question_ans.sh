# Question answering: SQuAD's files and rows, windows, answers, exact match and F1.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

# Which work is good: the word that the sentence has it of.
make_questions() { # COUNT
  for i in $(seq 1 "$1"); do
    case $((i % 3)) in
      0) echo "{\"id\": $i, \"question\": \"is it good\", \"context\": \"the film was bad and the book was good\", \"answers\": {\"text\": [\"book\"], \"answer_start\": [25]}}" ;;
      1) echo "{\"id\": $i, \"question\": \"is it good\", \"context\": \"a play is good\", \"answers\": {\"text\": [\"play\"], \"answer_start\": [2]}}" ;;
      2) echo "{\"id\": $i, \"question\": \"is it good\", \"context\": \"this song is not so bad\", \"answers\": [{\"text\": \"song\", \"answer_start\": 5}, {\"text\": \"this song\", \"answer_start\": 0}]}" ;;
    esac
  done
}

make_model bert_answers model
make_questions 30 >train.jsonl
make_questions 6 >dev.jsonl
base='--model_name_or_path model --task_type QUESTION_ANS --dtype float32'

# What will be trained on is shown first.
expect 0 validate $base --train_file train.jsonl --validation_file dev.jsonl
contains out '30 questions, 0 of them without an answer; 0 contexts are read in several windows'
contains out 'question is it good'
contains out 'answer  play'
expect 0 validate $base --train_file train.jsonl --max_length 12 --doc_stride 2 --rows_file rows.jsonl
contains out '10 contexts are read in several windows'
lines rows.jsonl 40
contains rows.jsonl '"label":[0.0,0.0]'
expect 0 validate $base --train_file train.jsonl --label_names a,b
contains err 'the head says where an answer starts and ends, and has no classes'
expect 1 validate $base --train_file train.jsonl --max_length 12 --doc_stride 6
contains err 'error[data.long-question]'

# A run learns where the answers stand.
expect 0 train $base --train_file train.jsonl --validation_file dev.jsonl --learning_rate 2e-2 --num_train_epochs 20 \
  --per_device_train_batch_size 6 --target_modules all-linear --load_best_model_at_end true --eval_strategy epoch \
  --save_strategy epoch --output_dir out1
present out1/adapter_model.safetensors out1/run.json out1/vocab.txt
contains out1/all_results.json '"train_samples": 30'
contains out1/adapter_config.json '"QUESTION_ANS"'
contains out1/README.md 'AutoModelForQuestionAnswering'
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.jsonl
[ "$(number eval_exact_match)" = 100.0 ] || fail "exact match is $(number eval_exact_match)"
for key in eval_f1 eval_loss; do contains out "\"$key\""; done
contains out '"eval_samples": 6'
lacks out HasAns

# The same as SQuAD has it.
cat >squad.json <<'EOF'
{"version": "v2.0",
 "data": [{"title": "Works", "paragraphs": [
   {"context": "a play is good", "qas": [
     {"id": "p", "question": "is it good", "is_impossible": false, "answers": [{"text": "play", "answer_start": 2}]}]},
   {"context": "this song is not so bad", "qas": [
     {"id": "s", "question": "is it good", "is_impossible": true, "answers": []}]}]}]}
EOF
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file squad.json
contains err '1 of 2 questions have no answer'
[ "$(number eval_exact_match)" = 50.0 ] || fail "exact match of SQuAD's file is $(number eval_exact_match)"
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file squad.json --version_2_with_negative true \
  --null_score_diff_threshold -1000
[ "$(number eval_NoAns_exact)" = 100.0 ] || fail 'no answer was not said'
[ "$(number eval_HasAns_exact)" = 0.0 ] || fail 'an answer was said'

# Predictions, one line a question.
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file squad.json --logits_file logits.safetensors
lines out 2
contains out '{"row":1,"id":"p","text":"play","score":'
contains out '"start":2,"end":6}'
contains out '{"row":2,"id":"s","text":"song","score":'
contains logits.safetensors 'logits.1.0'
cp out own
echo '{"question": "is it good", "context": "a play is good"}' >asked.jsonl
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file asked.jsonl --version_2_with_negative true
contains out '{"row":1,"text":"play","score":'
contains out '"null_score_diff":-'

# A merged model says the same.
expect 0 merge --adapter_name_or_path out1 --output_dir merged --dtype float32
contains merged/config.json 'BertForQuestionAnswering'
expect 0 predict --model_name_or_path merged --task_type QUESTION_ANS --dtype float32 --input_file squad.json
sed 's/"score":[0-9.e-]*//g' out >merged.said
sed 's/"score":[0-9.e-]*//g' own >expected
cmp -s merged.said expected || fail 'the merged model predicts otherwise'

# An encoder without the head gets one, and a run goes on from an adapter.
make_model bert_base bare
expect 0 train --model_name_or_path bare --task_type QUESTION_ANS --dtype float32 --train_file train.jsonl --max_steps 2 \
  --output_dir out2
expect 0 train $base --adapter_name_or_path out1 --train_file train.jsonl --max_steps 2 --output_dir out3
expect 2 train $base --train_file train.jsonl --validation_split 0.5 --metric_for_best_model accuracy --output_dir none
contains err "'accuracy' is no metric of question answering"
echo '{"question": "is it good", "context": "a play", "answers": {"text": ["play"], "answer_start": [3]}}' >bad.jsonl
expect 1 train $base --train_file bad.jsonl --output_dir none
contains err 'error[data.answer-place]'
contains err 'the text stands at 2'
absent none
finish
