# Sentence encoders in every verb that reads rows.
. "$(dirname "$0")/support.sh"
make_model bert_masked model
pair() { # NUMBER
  case $(($1 % 4)) in
    0) printf 'the film was good%sa fine film' "$2" ;;
    1) printf 'this book was bad%sa poor book' "$2" ;;
    2) printf 'a great song%sthe song is fine' "$2" ;;
    3) printf 'an awful play%sthe play was poor' "$2" ;;
  esac
}
{ echo 'anchor,positive'; for i in $(seq 1 16); do pair $i ,; echo; done; } >pairs.csv
{ echo 'anchor,positive,negative'; for i in $(seq 1 16); do pair $i ,; echo ',not so very'; done; } >triplets.csv
{ printf 'sentence1\tsentence2\tscore\n'
  for i in $(seq 1 16); do pair $i $'\t'; printf '\t%s\n' $((i % 6)); done; } >scored.tsv
flags="--model_name_or_path model --task_type FEATURE_EXTRACTION --dtype float32"
run="--learning_rate 1e-2 --per_device_train_batch_size 4 --target_modules all-linear"

# Its keys stand in help.
for verb in train validate eval predict merge; do
  expect 0 $verb --help
  contains out '--pooling STRING'
done

# What is read, and how.
expect 0 validate $flags --train_file pairs.csv --rows_file rows.jsonl
contains out 'anchor positive a row, loss multiple_negatives_ranking, pooling mean'
contains out '   with  a poor book'
lines rows.jsonl 48
expect 0 validate $flags --train_file triplets.csv --json
contains out '"negative"'
expect 0 validate $flags --train_file scored.tsv --max_score 5 --pooling cls
contains out 'sentence1 sentence2 a row with a score, loss cosine_similarity, pooling cls'
expect 1 validate $flags --train_file scored.tsv
contains err 'error[data.score-range]'
contains err 'scored.tsv, line 3'
expect 0 validate $flags --train_file scored.tsv --loss cosent
expect 2 validate $flags --train_file scored.tsv --loss multiple_negatives_ranking
contains err "column 'score' holds scores"
expect 2 validate $flags --train_file pairs.csv --loss cosent
contains err 'needs scores'
expect 2 validate $flags --train_file pairs.csv --pooling lasttoken
printf 'text\na\n' >single.csv
expect 2 validate $flags --train_file single.csv
contains err 'error[config.text-column]'
expect 0 validate $flags --train_file pairs.csv --label_names a,b
contains err 'a sentence encoder has no classes'

# It learns, from each kind of rows.
expect 0 train $flags $run --train_file pairs.csv --validation_file pairs.csv --max_steps 20 --output_dir pairs
contains out '"diverged": false'
contains out '"eval_accuracy"'
expect 0 train $flags $run --train_file triplets.csv --validation_file scored.tsv --max_steps 4 --output_dir triplets
contains out '"eval_spearmanr"'
expect 0 train $flags $run --train_file scored.tsv --max_score 5 --validation_file scored.tsv --max_steps 30 \
  --pooling max --max_length 12 --output_dir scored
contains out '"eval_spearmanr"'
loss() { sed -n 's/.*"eval_loss": \([0-9.e-]*\).*/\1/p' "$1"; }
spearman() { sed -n 's/.*"eval_spearmanr": \([0-9.-]*\).*/\1/p' "$1"; }
cp out trained
contains scored/adapter_config.json '"task_type": "FEATURE_EXTRACTION"'
contains scored/README.md 'pipeline_tag: sentence-similarity'
contains scored/README.md 'AutoModel'
head -c 20000 scored/adapter_model.safetensors | tr -d '\0' >names
contains names '"base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"'
lacks names 'model.bert.'
contains scored/1_Pooling/config.json '"pooling_mode_max_tokens": true'
contains scored/sentence_bert_config.json '"max_seq_length": 12'
expect 0 info scored
contains out 'FEATURE_EXTRACTION'

# The keys it was trained with act again.
expect 0 eval --adapter_name_or_path scored --dtype float32
[ "$(loss out)" = "$(loss trained)" ] || fail "loss was $(loss trained) and is $(loss out)"
[ "$(spearman out)" = "$(spearman trained)" ] || fail "spearmanr was $(spearman trained) and is $(spearman out)"
expect 0 eval --adapter_name_or_path scored --dtype float32 --pooling mean
[ "$(loss out)" != "$(loss trained)" ] || fail 'pooling does nothing'

# Embeddings of pairs, and of texts alone.
expect 0 predict --adapter_name_or_path scored --dtype float32 --input_file scored.tsv --logits_file e.safetensors
lines out 16
contains out '{"row":1,"norm":'
contains out '"cosine":'
head -c 400 e.safetensors >header
contains header '"embeddings":{"dtype":"F32","shape":[16,'
contains header '"embeddings_2":'
printf 'a good film\nthe play\n' >texts.txt
expect 0 predict --adapter_name_or_path scored --dtype float32 --input_file texts.txt --logits_file t.safetensors
lines out 2
lacks out 'cosine'

# A merged model is a folder of sentence-transformers, which says how it is to be read.
expect 0 merge --adapter_name_or_path scored --dtype float32 --output_dir merged
contains out '"passed": true'
present merged/modules.json merged/1_Pooling/config.json merged/vocab.txt
contains merged/config.json '"BertModel"'
expect 0 eval --model_name_or_path merged --task_type FEATURE_EXTRACTION --validation_file scored.tsv --max_score 5 \
  --dtype float32
near=$(spearman out)
[ "${near:0:5}" = "$(spearman trained | head -c 5)" ] || fail "merged: $near, trained: $(spearman trained)"

# A folder that sentence-transformers wrote: its pooling, length, unit vectors and prompts.
cp -r "$tests/golden/fill_mask" saved
cp -r "$tests/golden/sentences/model/." saved
printf 'the bank was sold\na man is not the fish in the river\n' >texts.txt
saved="--model_name_or_path saved --task_type FEATURE_EXTRACTION --dtype float32"
expect 0 predict $saved --input_file texts.txt --logits_file query.safetensors
contains out '"norm":0.9999'
contains err 'max_length'
expect 0 predict $saved --input_file texts.txt --logits_file none.safetensors --prompt_name none
cmp -s query.safetensors none.safetensors && fail 'the prompt does nothing'
sed 's/^/a fish . /' texts.txt >asked.txt
expect 0 predict $saved --input_file asked.txt --logits_file asked.safetensors --prompt_name document
cmp query.safetensors asked.safetensors || fail 'the prompt does not stand before the text'
expect 2 predict $saved --input_file texts.txt --prompt_name passage
contains err 'error[config.unknown-prompt]'
contains err '--prompt_name none or document or query'
expect 0 train $saved $run --train_file pairs.csv --max_steps 2 --output_dir prompted
contains prompted/config_sentence_transformers.json '"query": "a fish . "'
contains prompted/config_sentence_transformers.json '"default_prompt_name": "query"'
contains prompted/sentence_bert_config.json '"max_seq_length": 12'
present prompted/1_Pooling/config.json
contains prompted/1_Pooling/config.json '"pooling_mode_cls_token": true'
contains prompted/modules.json 'models.Normalize'

# Rows that are no texts, and files that are no modules.
printf '{"anchor": "a", "positive": null}\n' >null.jsonl
expect 1 validate $flags --train_file null.jsonl
contains err 'null.jsonl, line 1'
printf '{"anchor": "a", "positive": "b", "negative": ["c"]}\n' >nested.jsonl
expect 1 validate $flags --train_file nested.jsonl
contains err "column 'negative' holds"
printf 'sentence1,sentence2,score\na,b,nan\n' >nan.csv
expect 1 validate $flags --train_file nan.csv
contains err 'nan.csv, line 2'
printf 'anchor,positive\n' >empty.csv
expect 1 validate $flags --train_file empty.csv
printf 'anchor,positive\n,\na,b\n' >blank.csv
expect 0 validate $flags --train_file blank.csv
expect 0 validate $flags --train_file pairs.csv --validation_split 0.25 --rows_file held.jsonl
lines held.jsonl 40  # three epochs of 12 rows, and 4
sed -i 's/models.Pooling/models.WordWeights/' merged/modules.json
expect 1 eval --model_name_or_path merged --task_type FEATURE_EXTRACTION --validation_file scored.tsv
contains err 'error[format.unsupported]'

# Rows of all batches of a step are compared; a run that goes on learns what an undisturbed one does.
whole="$flags $run --train_file pairs.csv --max_steps 6 --save_strategy steps --save_steps 3
  --gradient_accumulation_steps 2"
expect 0 train $whole --output_dir whole
expect 0 train $whole --output_dir part
rm -r part/checkpoint-6 part/adapter_model.safetensors
expect 0 train $whole --output_dir part --resume_from_checkpoint part/checkpoint-3
cmp whole/adapter_model.safetensors part/adapter_model.safetensors || fail 'a resumed run learned something else'
expect 0 train --adapter_name_or_path pairs --train_file pairs.csv --max_steps 1 --dtype float32 --output_dir further
expect 0 bench $flags --rounds 1 --steps 2 --max_length 16

finish
