# Multiple choice: questions with their choices, accuracy, predictions.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

# Which of two to four things the question is about: the one that is good.
make_questions() { # COUNT
  for i in $(seq 1 "$1"); do
    case $((i % 3)) in
      0) echo "{\"id\": \"q$i\", \"question\": \"so it is\", \"choices\": {\"text\": [\"bad\", \"good\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"B\"}" ;;
      1) echo "{\"id\": \"q$i\", \"question\": \"the film was\", \"choices\": {\"text\": [\"good\", \"awful\", \"poor\", \"bad\"], \"label\": [\"1\", \"2\", \"3\", \"4\"]}, \"answerKey\": \"1\"}" ;;
      2) echo "{\"id\": \"q$i\", \"question\": \"a play is\", \"choices\": {\"text\": [\"awful\", \"bad\", \"good\"], \"label\": [\"A\", \"B\", \"C\"]}, \"answerKey\": \"C\"}" ;;
    esac
  done
}

make_model ../multiple_choice/bert model
make_questions 30 >train.jsonl
make_questions 6 >dev.jsonl
base='--model_name_or_path model --dtype float32' # config.json names the class

# What will be trained on is shown first.
expect 0 validate $base --train_file train.jsonl --validation_file dev.jsonl
contains out '30 questions of 2 to 4 choices'
contains out 'question the film was'
contains out 'choice  good  (right)'
contains out 'choice  awful'
contains out '[CLS] the film was [SEP] good [SEP]'
expect 0 validate $base --train_file train.jsonl --rows_file rows.jsonl --label_names a,b
lines rows.jsonl 90 # of three epochs
contains rows.jsonl '"label":2'
contains err 'the head scores one choice at a time, and has no classes'
expect 0 validate $base --train_file train.jsonl --max_length 6
contains err '30 of 30 rows were longer than max_length 6'
lacks err 'lost its end'
expect 2 validate $base --train_file train.jsonl --max_length 3
contains err 'error[config.max-length]'

# A run learns which choice is right.
expect 0 train $base --train_file train.jsonl --validation_file dev.jsonl --learning_rate 2e-2 --num_train_epochs 20 \
  --per_device_train_batch_size 3 --gradient_accumulation_steps 2 --target_modules all-linear --eval_strategy epoch \
  --save_strategy epoch --load_best_model_at_end true --output_dir out1
present out1/adapter_model.safetensors out1/run.json out1/vocab.txt
contains out1/all_results.json '"train_samples": 30'
contains out1/all_results.json '"bad_rows": 0'
contains out1/adapter_config.json '"task": "multiple-choice"'
contains out1/adapter_config.json '"BertForMultipleChoice"'
contains out1/README.md 'AutoModelForMultipleChoice'
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.jsonl
[ "$(number eval_accuracy)" = 1.0 ] || fail "accuracy is $(number eval_accuracy)"
contains out '"eval_samples": 6'
contains out '"eval_loss"'

# Predictions call a choice as the file does, and need no labels.
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file dev.jsonl --logits_file logits.safetensors
lines out 6
contains out '{"row":1,"id":"q1","label":"1","text":"good","scores":['
contains out '{"row":2,"id":"q2","label":"C","text":"good","scores":['
present logits.safetensors
cp out own
printf 'sent1,sent2,ending0,ending1\nso it is,the play is,good,bad\n' >swag.csv
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file swag.csv
contains out '{"row":1,"label":"0","text":"good","scores":['

# A merged model says the same.
expect 0 merge --adapter_name_or_path out1 --output_dir merged --dtype float32
contains merged/config.json 'BertForMultipleChoice'
expect 0 predict --model_name_or_path merged --dtype float32 --input_file dev.jsonl
sed 's/"scores":.*//' out >merged.said
sed 's/"scores":.*//' own >expected
cmp -s merged.said expected || fail 'the merged model predicts otherwise'

# An encoder without the head gets one, also where its own is a classifier's; a run goes on from an adapter.
make_model bert_base bare
expect 0 train --model_name_or_path bare --task_type multiple-choice --dtype float32 --train_file train.jsonl \
  --max_steps 2 --output_dir out2
make_model bert_cls labelled
expect 1 train --model_name_or_path labelled --task_type multiple-choice --dtype float32 --train_file train.jsonl \
  --max_steps 2 --output_dir none
contains err '1 are asked for'
expect 0 train --model_name_or_path labelled --task_type multiple-choice --dtype float32 --train_file train.jsonl \
  --max_steps 2 --ignore_mismatched_sizes true --output_dir out3
expect 0 train $base --adapter_name_or_path out1 --train_file train.jsonl --max_steps 2 --output_dir out4
expect 2 train $base --train_file train.jsonl --validation_split 0.5 --metric_for_best_model f1 --output_dir none
contains err "'f1' is no metric of multiple choice"

# Rows that nothing can be learned from are counted, up to a share.
make_questions 18 >some.jsonl
echo '{"question": "it is", "choices": {"text": ["good", "bad"], "label": ["A", "B"]}, "answerKey": "E"}' >>some.jsonl
expect 0 train $base --train_file some.jsonl --max_steps 2 --output_dir out5
contains err "line 19: the label 'E' is none of the row's 2 choices (A, B)"
contains out5/all_results.json '"bad_rows": 1'
expect 1 train $base --train_file some.jsonl --max_bad_rows 0 --output_dir none
contains err 'error[data.unknown-label]'
expect 2 train $base --train_file some.jsonl --choices_column endings --output_dir none
contains err "the row has no key 'endings'"
absent none
finish
