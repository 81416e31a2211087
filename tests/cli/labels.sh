# Labels, lengths, columns and keys: what would differ in silence is right, refused or said.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out; } # KEY

# A head with names of its own, in another order than the alphabet's.
make_model bert_cls model
sed -i 's/"0": "negative"/"0": "praise"/; s/"1": "neutral"/"1": "mixed"/; s/"2": "positive"/"2": "blame"/
  s/"negative": 0/"praise": 0/; s/"neutral": 1/"mixed": 1/; s/"positive": 2/"blame": 2/' model/config.json
make_rows train.csv 32
make_rows dev.csv 8
base='--model_name_or_path model --dtype float32'
short='--max_steps 2 --per_device_train_batch_size 8'

# Training begins at the classes that the head was trained for.
expect 0 eval $base --validation_file dev.csv
before=$(number eval_loss)
expect 0 train $base --train_file train.csv --validation_file dev.csv --learning_rate 0 --eval_on_start true $short \
  --output_dir kept
lacks err 'warning:'
grep -q "\"eval_loss\":$before" kept/log.jsonl || fail "the first loss is not $before: $(grep -o '"eval_loss":[^,}]*' kept/log.jsonl)"
contains kept/run.json '"praise"'
expect 0 eval --adapter_name_or_path kept --dtype float32 --validation_file dev.csv
[ "$(number eval_loss)" = "$before" ] || fail 'the loss of the adapter is another one'
expect 0 predict --adapter_name_or_path kept --input_file dev.csv
grep -qE '"label":"(praise|mixed|blame)"' out || fail 'a label is not one of the head'
expect 0 merge --adapter_name_or_path kept --output_dir merged
expect 0 eval --model_name_or_path merged --dtype float32 --validation_file dev.csv
[ "$(number eval_loss)" = "$before" ] || fail 'the loss of the merged model is another one'
[ "$(tr -d ' \n' <merged/config.json | grep -o '"id2label":{[^}]*}')" = '"id2label":{"0":"praise","1":"mixed","2":"blame"}' ] ||
  fail 'the merged configuration names the classes otherwise'
# label2id says the same where id2label is missing.
cp -r model reversed
tr -d '\n' <model/config.json | sed 's/"id2label": *{[^}]*},//' >reversed/config.json
expect 0 eval --model_name_or_path reversed --dtype float32 --validation_file dev.csv
[ "$(number eval_loss)" = "$before" ] || fail 'label2id alone is not read'
# run.json says the order again, and a run goes on with it.
expect 0 train kept/run.json --output_dir again
lacks err 'label_names'
expect 0 train $base --train_file train.csv --save_strategy steps --save_steps 1 $short --output_dir resumed
rm -rf resumed/checkpoint-2 resumed/adapter_model.safetensors
expect 0 train $base --train_file train.csv --save_strategy steps --save_steps 1 $short --output_dir resumed \
  --resume_from_checkpoint true

# An order of one's own wins, and it is said.
expect 0 train $base --train_file train.csv --label_names blame,mixed,praise $short --output_dir own
contains err "warning: label_names has 'blame' at place 0, and the head has it at 2"
contains own/run.json '"label_names"'
expect 0 validate $base --train_file train.csv --label_names blame,mixed,praise --json
contains out "label_names has 'blame' at place 0"
expect 0 eval --adapter_name_or_path kept --validation_file dev.csv --label_names blame,mixed,praise
contains err "warning: label_names has 'blame' at place 0, and the head has it at 2"
expect 0 eval $base --validation_file dev.csv --label_names blame,mixed,praise
contains err "warning: label_names has 'blame' at place 0, and the head has it at 2"

# Labels that the head does not know.
sed 's/,praise/,liked/' train.csv >liked.csv
expect 2 train $base --train_file liked.csv $short --output_dir none
contains err "error[config.head-labels]: 'liked' is not a label of the checkpoint's head, which knows praise, mixed, blame"
contains err 'ignore_mismatched_sizes'
absent none
expect 0 train $base --train_file liked.csv --ignore_mismatched_sizes true $short --output_dir new
contains err "warning: the checkpoint's head knows praise, mixed, blame and not 'liked': a new head is drawn"
expect 0 predict --adapter_name_or_path new --input_file dev.csv
{ sed 's/,praise$/,liked/' train.csv; echo 'the film was fine,mixed'; } >three.csv
expect 0 validate $base --train_file three.csv --ignore_mismatched_sizes true --json
contains out "and not 'liked': a new head is drawn for blame, liked, mixed"
sed 's/,praise/,Praise/' train.csv >capital.csv
expect 2 train $base --train_file capital.csv $short --output_dir none
contains err "'Praise' is not a label"
contains err "did you mean 'praise'?"
expect 1 eval $base --validation_file capital.csv
contains err "did you mean 'praise'?"
# Three other names for three classes: the head is trained on, and a new one has other weights.
{ cat train.csv; echo 'the film was fine,mixed'; } | sed 's/,praise$/,c/; s/,blame$/,a/; s/,mixed$/,b/' >other.csv
expect 0 train $base --train_file other.csv $short --output_dir other
contains err "the checkpoint's head names its classes praise, mixed, blame, and the data a, b, c"

# Numbers of classes are taken where names are missing, and it is said.
sed 's/,praise/,0/; s/,blame/,2/' dev.csv >numbers.csv
expect 0 eval $base --validation_file numbers.csv
contains err "the numbers in column 'label' are taken as class numbers: 0 is 'praise', 1 is 'mixed', 2 is 'blame'"
[ "$(number eval_loss)" = "$before" ] || fail 'class numbers are other classes'
sed 's/,praise/,3/; s/,blame/,2/' dev.csv >beyond.csv
expect 1 eval $base --validation_file beyond.csv
contains err 'error[data.unknown-label]'

# 1, 1.0 and "1" are one label: an adapter that was trained on one spelling reads the others.
make_model bert_base headless
sed 's/,praise/,1.0/; s/,blame/,2.0/' train.csv >floats.csv
sed 's/,praise/,1/; s/,blame/,2/' train.csv >ints.csv
{ tail -n +2 train.csv | sed 's/^\(.*\),praise$/{"text":"\1","label":"1"}/; s/^\(.*\),blame$/{"text":"\1","label":2.0}/'; } >mixed.jsonl
expect 0 train --model_name_or_path headless --dtype float32 --train_file floats.csv --learning_rate 1e-2 --max_steps 20 \
  --problem_type single_label_classification --output_dir spelled
for file in floats.csv ints.csv mixed.jsonl; do
  expect 0 eval --adapter_name_or_path spelled --validation_file $file
  [ "$(number eval_accuracy)" = 1.0 ] || fail "accuracy on $file: $(number eval_accuracy)"
  lacks err 'class numbers'
done
# One class of several is enough to be scored.
grep -v ',2' ints.csv >one.csv
expect 0 eval --adapter_name_or_path spelled --validation_file one.csv

# Columns: swapped ones, as many classes as rows, and those that an adapter was trained on.
for i in 1 2 3 4 5 6; do echo "a film of number $i that goes on and on,good"; echo "a book of number $i that ends too soon,bad"; done |
  sed '1i label,text' >swapped.csv
expect 0 validate --model_name_or_path headless --ignore_mismatched_sizes true --train_file swapped.csv
contains err 'look swapped'
expect 1 validate $base --train_file swapped.csv
contains err 'look swapped'
seq 1 12 | sed 's/.*/a film,k&/; 1i text,label' >unique.csv
expect 0 validate --model_name_or_path headless --ignore_mismatched_sizes true --train_file unique.csv
contains err 'warning: there are 12 classes in 12 rows'
sed '1s/.*/review,label/' train.csv >review.csv
expect 0 train --model_name_or_path headless --train_file review.csv $short --output_dir review
expect 2 eval --adapter_name_or_path review --validation_file dev.csv
contains err "there is no column 'review'; the columns are text, label"
expect 0 eval --adapter_name_or_path review --validation_file dev.csv --text_column text
{ echo 'sentence1,sentence2,label'; sed '1d; s/^\(.*\),/\1,so good,/' train.csv; } >pairs.csv
expect 0 train --model_name_or_path headless --train_file pairs.csv $short --output_dir pairs
cut -d, -f1,3 pairs.csv >first.csv
expect 2 predict --adapter_name_or_path pairs --input_file first.csv
contains err "there is no column 'sentence2'"
echo 'the film was good' >lines.txt
expect 2 predict --adapter_name_or_path pairs --input_file lines.txt
contains err 'error[config.missing-column]'
contains err 'sentence2'

# Keys that do nothing are listed once, with the reason.
expect 0 validate $base --train_file train.csv --packing true --completion_only_loss false --eval_steps 5 --max_steps 3 \
  --num_train_epochs 2
contains err 'keys without effect here: packing, completion_only_loss, because the model is a classifier'
contains err 'num_train_epochs, because max_steps wins'
contains err 'eval_steps, because eval_strategy is not steps'
[ "$(grep -c 'without effect' err)" = 1 ] || fail 'more than one line'
printf 'model_name_or_path: model\ntrain_file: train.csv\npacking: true\nsave_steps: 7\ntest_file: dev.csv\n' >run.yaml
expect 0 validate run.yaml --json
contains out 'keys without effect here: packing, because the model is a classifier; save_steps, because'
expect 0 validate $base --train_file train.csv --eval_strategy steps --eval_steps 5 --validation_file dev.csv
lacks err 'without effect'
expect 0 predict $base --input_file dev.csv --packing true
contains err 'keys without effect here: packing'

# Lengths: those of training, else the model's; rows that are cut are counted everywhere.
{ echo 'text,label'
  for i in 1 2 3; do echo "$(yes 'good fine' | head -n 9 | tr '\n' ' '),praise"; echo "$(yes 'bad poor' | head -n 6 | tr '\n' ' '),blame"; done; } >long.csv
expect 0 train $base --train_file long.csv --validation_file long.csv --max_length 16 $short --output_dir long
contains err 'warning: 3 of 6 rows were longer than max_length 16 and lost their end; max_length may be 40 with this model'
contains err 'validation: 3 of 6 rows'
contains err '3 were cut'
contains long/all_results.json '"truncated_rows": 3'
contains long/all_results.json '"eval_truncated_rows": 3'
expect 0 validate $base --train_file long.csv --max_length 16 --json
contains out '"truncated_rows": 3'
expect 0 eval --adapter_name_or_path long --validation_file long.csv
[ "$(number truncated_rows)" = 3 ] || fail 'eval does not count the rows that it cuts'
contains err '3 of 6 rows were longer than max_length 16'
expect 0 predict --adapter_name_or_path long --input_file long.csv
contains err '3 of 6 rows were longer than max_length 16'
rm long/run.json
expect 0 predict --adapter_name_or_path long $base --input_file long.csv --output_file free
lacks err 'lost their end'
expect 0 predict --adapter_name_or_path long $base --input_file long.csv --max_length 40 --output_file whole
cmp free whole || fail 'rows are cut without run.json'
expect 0 predict --adapter_name_or_path long $base --input_file long.csv --max_length 16
contains err '3 of 6 rows'
expect 0 train $base --train_file long.csv --method prompt_tuning --max_length 16 $short --output_dir prompt
contains err '3 of 6 rows were longer than max_length 16 and lost their end; max_length may be 20 with this model'
rm prompt/run.json
expect 0 eval --adapter_name_or_path prompt $base --validation_file long.csv
[ "$(number truncated_rows)" = 0 ] || fail 'rows are cut behind virtual tokens that have room'
printf '{"model_max_length": 12}\n' >model/tokenizer_config.json
rm -f long/tokenizer_config.json
expect 0 eval $base --validation_file long.csv
[ "$(number truncated_rows)" = 6 ] || fail 'the length of the tokenizer is not the limit'
expect 0 tokenize --model_name_or_path model --input_file long.csv --max_length 16
contains err '3 of 7 rows were longer than max_length 16'

# The same for a causal model.
make_model llama_tied lm
{ for i in 1 2 3; do echo "{\"prompt\": \"the film\", \"completion\": \" $(yes good | head -n 14 | tr '\n' ' ')\"}"; echo '{"prompt": "a book", "completion": " was bad"}'; done; } >texts.jsonl
causal='--model_name_or_path lm --dtype float32'
expect 0 train $causal --train_file texts.jsonl --validation_file texts.jsonl --max_length 12 --packing true $short \
  --text_pair_column x --label_names a,b --output_dir said
contains err 'keys without effect here: text_pair_column, label_names, because the model is a causal language model'
contains err '3 of 6 rows were longer than max_length 12'
contains err 'validation: 3 of 6 rows'
contains said/all_results.json '"truncated_rows": 3'
expect 0 eval --adapter_name_or_path said --validation_file texts.jsonl
[ "$(number truncated_rows)" = 3 ] || fail 'the length of a causal run is not kept'
expect 0 predict --adapter_name_or_path said --input_file texts.jsonl
contains err '3 of 6 rows were longer than max_length 12'
rm said/run.json
expect 0 eval $causal --adapter_name_or_path said --validation_file texts.jsonl
[ "$(number truncated_rows)" = 0 ] || fail 'rows of a causal model are cut without run.json'
sed 's/prompt/question/; s/completion/reply/' texts.jsonl >columns.jsonl
expect 0 train $causal --train_file columns.jsonl --text_column question --label_column reply $short --output_dir named
expect 2 eval --adapter_name_or_path named --validation_file texts.jsonl
contains err 'error[config.missing-column]'

# Rows of several classes: trained, scored, predicted, merged.
printf '%s\n' '{"text":"a good film","label":["good","film"]}' '{"text":"a bad film","label":["film"]}' \
  '{"text":"good","label":["good"]}' '{"text":"an end","label":[]}' >several.jsonl
expect 0 train --model_name_or_path model --dtype float32 --train_file several.jsonl --validation_file several.jsonl \
  --ignore_mismatched_sizes true --num_train_epochs 30 --learning_rate 2e-2 --output_dir several
contains several/run.json '"multi_label_classification"'
contains err 'label  film, good'
[ "$(number eval_f1_micro)" = 1.0 ] || fail "the classes were not learned: $(cat out)"
[ "$(number eval_roc_auc)" = 1.0 ] || fail "the area under the curve is $(number eval_roc_auc)"
expect 0 predict --adapter_name_or_path several --dtype float32 --input_file several.jsonl
contains out '"label":["film","good"]'
contains out '"label":[]'
expect 0 merge --adapter_name_or_path several --dtype float32 --output_dir several_merged
contains several_merged/config.json '"multi_label_classification"'
expect 0 eval --model_name_or_path several_merged --dtype float32 --validation_file several.jsonl
[ "$(number eval_f1_micro)" = 1.0 ] || fail 'the merged model has other scores'
expect 1 train --model_name_or_path model --train_file several.jsonl --problem_type single_label_classification \
  --output_dir refused
contains err 'multi_label_classification'

# Scores of a packed table, under the name that its column has: what is explained chooses the best checkpoint.
printf '%s\n' 'the text,measured score (log)' 'a good film,1.5' 'a bad film,-2.25' 'good,2.0' 'bad,-1.75' | gzip >scores.csv.gz
scores='--train_file scores.csv.gz --validation_file scores.csv.gz --ignore_mismatched_sizes true --dtype float32'
expect 0 train --model_name_or_path model $scores --text_column 'the text' --label_column 'measured score (log)' \
  --eval_strategy epoch --metric_for_best_model r2 --num_train_epochs 30 --learning_rate 2e-2 --output_dir scored
[ "$(number eval_r2 | cut -c1-3)" = 0.9 ] || fail "$(number eval_r2) of the scores is explained"
[ -n "$(number eval_rmse)" ] || fail 'there is no root of the squared error'
expect 2 train --model_name_or_path model $scores --text_column 'the text' --label_column 'measured score (log)' \
  --metric_for_best_model roc_auc --output_dir refused
contains err "there is no metric 'roc_auc' for scores"

# A decoder as a classifier: by task_type, by what the adapter says, and by config.json once it is merged.
make_letters llama_tied decoder
printf 'text,label\naab,a\nbaa,a\nabaa,a\nzzy,z\nyzz,z\nzyzz,z\n' >letters.csv
for key in '--problem_type single_label_classification' '--label_names a,z'; do
  expect 0 train --model_name_or_path decoder --dtype float32 --task_type SEQ_CLS --train_file letters.csv $key \
    --validation_file letters.csv --num_train_epochs 30 --learning_rate 2e-2 --per_device_train_batch_size 3 \
    --overwrite_output_dir true --output_dir spelling
  [ "$(number eval_accuracy)" = 1.0 ] || fail "the decoder did not learn: $(cat out)"
done
contains spelling/adapter_config.json '"task_type": "SEQ_CLS"'
grep -q 'base_model.model.score.weight' spelling/adapter_model.safetensors || fail 'the head has another name than in PEFT'
expect 0 predict --adapter_name_or_path spelling --dtype float32 --input_file letters.csv
contains out '"label":"z"'
lacks err 'warning:'
expect 0 merge --adapter_name_or_path spelling --dtype float32 --output_dir merged_decoder
contains merged_decoder/config.json '"LlamaForSequenceClassification"'
expect 0 eval --model_name_or_path merged_decoder --dtype float32 --validation_file letters.csv
[ "$(number eval_accuracy)" = 1.0 ] || fail 'the merged decoder has other scores'
expect 0 train --model_name_or_path decoder --train_file letters.csv --label_names a,z --max_steps 1 --output_dir texts
contains err 'keys without effect here: label_names'
expect 2 eval --model_name_or_path model --task_type CAUSAL_LM --validation_file dev.csv
contains err "task_type 'CAUSAL_LM' is not implemented for model_type 'bert'"
expect 2 generate --model_name_or_path merged_decoder --prompt a

finish
