# Token classifiers: words with tags in lines and lists, windows, entities.
. "$(dirname "$0")/support.sh"
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" out | head -1; } # KEY

# Sentences of two kinds of works, of one word or two.
make_sentences() { # FILE COUNT
  for i in $(seq 1 "$2"); do
    case $((i % 4)) in
      0) printf 'the DT O\ngreat JJ B-WORK\nfilm NN I-WORK\nwas VB O\ngood JJ O\n\n' ;;
      1) printf 'this DT O\nbook NN B-WORK\nis VB O\nbad JJ O\n\n' ;;
      2) printf 'it PR O\nis VB O\na DT O\nfine JJ B-ART\nsong NN I-ART\n\n' ;;
      3) printf 'the DT O\nplay NN B-ART\nwas VB O\npoor JJ O\nand CC O\nawful JJ O\n\n' ;;
    esac
  done >"$1"
}

make_model bert_base model
{ printf -- '-DOCSTART- -X- O\n\n' && make_sentences /dev/stdout 32; } >train.conll
make_sentences dev.conll 8
base='--model_name_or_path model --task_type TOKEN_CLS --dtype float32'

# What will be trained on is shown first.
expect 0 validate $base --train_file train.conll --validation_file dev.conll
contains out 'labels: B-ART B-WORK I-ART I-WORK O'
contains out 'words  this book is bad'
contains out 'tags  O B-WORK O O'
expect 0 validate $base --train_file train.conll --label_column 2
contains out 'labels: CC DT JJ NN PR VB'
contains err 'accuracy is the only score'

# A run learns the words, and what it says is the same from every kind of file.
expect 0 train $base --train_file train.conll --validation_file dev.conll --learning_rate 2e-2 --num_train_epochs 20 \
  --per_device_train_batch_size 8 --metric_for_best_model f1 --load_best_model_at_end true --eval_strategy epoch \
  --save_strategy epoch --output_dir out1
present out1/adapter_model.safetensors out1/run.json out1/vocab.txt
contains out1/all_results.json '"train_samples": 32'
contains out1/all_results.json '"eval_windows": 8'
contains out1/adapter_config.json '"TOKEN_CLS"'
contains out1/README.md 'AutoModelForTokenClassification'
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.conll
[ "$(number eval_f1)" = 1.0 ] || fail "F1 is $(number eval_f1)"
for key in eval_precision eval_recall eval_accuracy eval_loss eval_types WORK ART; do contains out "\"$key\""; done
loss=$(number eval_loss)
{ for i in 1 2; do
  echo '{"id": 5, "tokens": ["this", "book", "is", "bad"], "ner_tags": ["O", "B-WORK", "O", "O"]}'
  echo '{"tokens": ["it", "is", "a", "fine", "song"], "ner_tags": ["O", "O", "O", "B-ART", "I-ART"]}'
  echo '{"tokens": ["the", "play", "was", "poor", "and", "awful"], "ner_tags": ["O", "B-ART", "O", "O", "O", "O"]}'
  echo '{"tokens": ["the", "great", "film", "was", "good"], "ner_tags": ["O", "B-WORK", "I-WORK", "O", "O"]}'
done; } >dev.jsonl
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.jsonl
[ "$(number eval_loss)" = "$loss" ] || fail "the loss of the same rows as lists is $(number eval_loss), not $loss"
# Windows lose no word: one batch of whole rows scores what windows of a few tokens do, but for what a model sees.
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.conll --max_length 6 --stride 1
contains out '"eval_samples": 8'
[ "$(number eval_windows)" -gt 8 ] || fail 'no row was read in windows'
expect 0 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.conll --scheme IOB2
[ "$(number eval_f1)" = 1.0 ] || fail 'F1 of IOB2 is another one'
expect 2 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.conll --scheme IOE2
contains err "error[config.scheme]: the label 'B-ART' is no tag of IOE2"
expect 2 eval --adapter_name_or_path out1 --dtype float32 --validation_file dev.conll --max_length 6 --stride 4
contains err 'error[config.stride]: stride is 4'

# Predictions: plain text, lists, lines of words with tags or without.
printf 'the great film was good\n\nit is a fine song\n' >texts.txt
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file texts.txt
lines out 3
contains out '"entity_group":"WORK"'
contains out '"word":"great film","start":4,"end":14}'
contains out '{"row":2,"entities":[]}'
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file dev.jsonl --logits_file logits.safetensors
contains out '{"row":1,"id":5,"tags":["O","B-WORK","O","O"],"entities":[{"entity_group":"WORK"'
contains out '{"row":4,"tags":["O","B-WORK","I-WORK","O","O"],"entities":[{"entity_group":"WORK"'
contains out '"start":4,"end":14,"first_word":1,"last_word":2}'
contains logits.safetensors 'logits.7'
cp out as_lists
for file in dev.conll dev.txt; do
  [ -e $file ] || cp dev.conll $file
  expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file $file
  lines out 8
  contains out '{"row":1,"tags":["O","B-WORK","O","O"],"entities":[{"entity_group":"WORK"'
done
expect 0 predict --adapter_name_or_path out1 --dtype float32 --input_file texts.txt --aggregation_strategy none
contains out '"entity":"B-WORK"'
expect 2 predict --adapter_name_or_path out1 --dtype float32 --input_file texts.txt --aggregation_strategy mean
contains err 'aggregation_strategy'

# A merged model says the same without being told of its labels.
expect 0 merge --adapter_name_or_path out1 --output_dir merged --dtype float32
expect 0 predict --model_name_or_path merged --task_type TOKEN_CLS --dtype float32 --input_file dev.jsonl
sed 's/"score":[0-9.e-]*//g' out >own
sed 's/"score":[0-9.e-]*//g' as_lists >expected
cmp -s own expected || fail 'the merged model predicts otherwise'

# A run goes on with its labels; all tokens may be labelled.
expect 0 train $base --adapter_name_or_path out1 --train_file dev.jsonl --max_steps 2 --label_all_tokens true \
  --output_dir out2
contains out2/run.json '"label_all_tokens": true'
printf 'a B-MISC\nb O\n' >other.conll
expect 1 train $base --adapter_name_or_path out1 --train_file other.conll --max_steps 2 --output_dir none
contains err "error[data.unknown-label]: the tag 'B-MISC' is not in the set"
absent none

# Files that are none.
printf 'the O\nfilm\n' >bad.conll
expect 1 validate $base --train_file bad.conll
contains err 'error[data.field-count]: the line has 1 field, and the first one has 2'
contains err 'bad.conll, line 2'
echo '{"tokens": ["a"], "ner_tags": ["O", "O"]}' >bad.jsonl
expect 1 validate $base --train_file bad.jsonl
contains err 'error[data.tag-count]'
finish
