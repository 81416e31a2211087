# The loss between adapters, as a map and as a curve.
. "$(dirname "$0")/support.sh"
prepare_runs
short="$common --max_steps 6 --target_modules all-linear"
expect 0 train $short --method lora --output_dir a/lora
expect 0 train $short --method randlora --randlora_alpha 64 --output_dir randlora
expect 0 train ${common/1e-2/1e-3} --max_steps 6 --method full --output_dir full
scores() { grep -o "\"$1\": *[0-9.e-]*" "$2" | sed 's/.*: *//'; }
# Whether two numbers agree to four places.
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !((a - b) ^ 2 < 1e-8 && a != "") }'; }

expect 0 landscape --adapters a/lora,randlora,full --points 3 --output_file map.json
present map.json map.svg
absent map.json.partial
contains out '"kind": "plane"'
contains out '"name": "lora"'
contains out '"adapter_name_or_path": "a/lora"'
contains out '"file": "dev.csv"'
contains out '"number": 8'
contains out '"chosen": "all"'
contains out '"dtype": "float32"'
contains out '"output_file": "map.json"'
contains out '"picture": "map.svg"'
contains out 'never the factors'
lacks out '"scores": {"loss": [['
contains map.json '"accuracy":[['
contains map.svg 'Loss on the plane through three adapters of model'
contains map.svg '8 rows of dev.csv (all)'
contains map.svg 'are interpolated, not their factors'
cp out summary
cp map.json whole.json
# Each adapter has what `eval` says of it.
i=0
for folder in a/lora randlora full; do
  i=$((i + 1))
  expect 0 eval --adapter_name_or_path $folder --dtype float32
  own=$(scores eval_loss out)
  found=$(sed -n "s/.*\"adapters\":\[\(.*\)\],\"distances\".*/\1/p" whole.json | grep -o '"loss":[0-9.e-]*' | sed -n "${i}s/.*://p")
  near "$own" "$found" || fail "$folder: eval says $own, the landscape $found"
done

# A line; another metric; other rows.
expect 0 landscape --adapters randlora,full --points 5 --margin 0 --metric eval_accuracy --max_eval_samples 4 \
  --validation_file train.csv --output_file line
present line line.svg
contains out '"kind": "line"'
contains out '"chosen": "the first 4"'
contains out '"metric": "accuracy"'
contains line.svg 'Accuracy on the line through two adapters'
held="${short/--validation_file dev.csv/} --validation_split 0.25"
expect 0 train $held --method lora --output_dir held
expect 0 train $held --method loha --output_dir held_too
expect 0 landscape --adapters held,held_too --points 2 --output_file held.json
contains out '"file": "train.csv"'
contains out 'all of the share 0.25 held out by seed 42'
contains out '"number": 8'

# It goes on where it was stopped, to the same numbers.
numbers() { sed 's/"seconds".*//' "$1"; }
"$deltaw" landscape --adapters a/lora,randlora,full --points 40 --output_file long.json >out 2>err </dev/null &
pid=$!
for _ in $(seq 300); do [ -e long.json.partial ] && break; sleep 0.1; done
kill -INT $pid
wait $pid
code=$?
[ $code = 130 ] || fail "a stopped landscape exited with $code"
contains err 'stopped by Interrupt'
contains err 'long.json.partial'
absent long.json long.svg
"$deltaw" landscape --adapters a/lora,randlora,full --points 12 --output_file cut.json >out 2>err </dev/null &
pid=$!
for _ in $(seq 300); do [ -e cut.json.partial ] && break; sleep 0.05; done
kill -9 $pid
wait $pid 2>/dev/null
expect 0 landscape --adapters a/lora,randlora,full --points 12 --output_file cut.json
cp cut.json one
absent cut.json.partial
echo 'not ours' >cut.json.partial
expect 0 landscape --adapters a/lora,randlora,full --points 12 --output_file cut.json
[ "$(numbers one)" = "$(numbers cut.json)" ] || fail 'a landscape that went on has other numbers'

# What has no place on a map, and what does not belong together.
expect 2 landscape --adapters a/lora --output_file x.json
contains err 'error[config.bad-value]'
expect 2 landscape --adapters a/lora randlora --output_file x.json
contains err '--adapters a/lora,randlora'
expect 2 landscape --output_file x.json
contains err 'needs adapters'
expect 2 landscape --adapters a/lora,randlora
contains err 'needs output_file'
expect 2 landscape --adapters a/lora,a/lora,full --output_file x.json
contains err 'one and the same update'
expect 2 landscape --adapters a/lora,full --metric f7 --output_file x.json
contains err 'error[config.unknown-metric]'
expect 2 landscape --adapters a/lora,full --output_file dev.csv
contains err 'error[config.output-is-input]'
expect 0 train $common --method prompt_tuning --max_steps 2 --output_dir prompts
expect 2 landscape --adapters a/lora,full,prompts --output_file x.json
contains err 'prompt_tuning'
contains err 'error[config.not-mergeable]'
make_model bert_gelu_new other
expect 0 train ${short/model /other } --method lora --output_dir elsewhere
expect 2 landscape --adapters a/lora,full,elsewhere --output_file x.json
contains err 'different bases'
contains err 'elsewhere'
sed 's/praise/good/; s/blame/bad/' train.csv >renamed.csv
other=${short/train.csv/renamed.csv}
expect 0 train ${other/--validation_file dev.csv/} --method lora --output_dir renamed
expect 2 landscape --adapters a/lora,renamed --output_file x.json
contains err 'different labels'
absent x.json x.svg

# A language model, over rows and over running text, has the loss that `eval` gives.
make_speaker speaker
for i in $(seq 1 12); do echo "{\"text\": \"abcab${i//[0-9]/xy}cab\"}"; done >texts.jsonl
printf 'abcabcabxyabcabcabcaabcbcbabcab%.0s' 1 2 3 4 >book.txt
speak="--model_name_or_path speaker --train_file texts.jsonl --validation_file texts.jsonl --dtype float32 --max_steps 3
  --learning_rate 1e-2"
expect 0 train $speak --method lora --output_dir said
expect 0 train $speak --method loha --output_dir told
for file in texts.jsonl book.txt; do
  expect 0 landscape --adapters said,told --points 2 --validation_file $file --metric perplexity --max_length 16 \
    --output_file speech.json
  contains speech.json '"perplexity":['
  found=$(grep -o '"loss":[0-9.]*' speech.json | sed -n '1s/.*://p')
  expect 0 eval --adapter_name_or_path said --dtype float32 --validation_file $file --max_length 16
  near "$(scores eval_loss out)" "$found" || fail "$file: $(scores eval_loss out) and $found"
done

finish
