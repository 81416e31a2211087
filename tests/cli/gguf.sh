# A language model in a GGUF file, from one end to the other: looked at, trained, asked, merged, converted, and its adapter
# for llama.cpp and MLX. The files are those that llama.cpp's converter wrote (oracle/make_gguf_models.py).
. "$(dirname "$0")/support.sh"
golden=$tests/golden/gguf_models
for name in llama_mix gemma2 gpt2; do cp "$golden/$name.gguf" .; done
for i in 1 2 3 4 5 6 7 8; do printf '{"prompt": "the cat %s", "completion": " sat on the mat"}\n' "$i"; done >rows.jsonl
flags="--target_modules all-linear --dtype float32 --learning_rate 1e-2"

expect 0 info llama_mix.gguf
contains out 'llama'
expect 0 info llama_mix.gguf --json
contains out '"kind": "checkpoint"'
contains out '"Q8_0"'
expect 0 tokenize --model_name_or_path llama_mix.gguf --input_file rows.jsonl
lines out 8

expect 0 validate --model_name_or_path llama_mix.gguf --train_file rows.jsonl $flags
contains out ' learns   sat on the mat'
for name in llama_mix gemma2 gpt2; do
  expect 0 train --model_name_or_path $name.gguf --train_file rows.jsonl $flags --max_steps 100 --output_dir $name
  present $name/adapter_model.safetensors $name/tokenizer.json $name/tokenizer_config.json
  absent $name/$name.gguf
  expect 0 generate --adapter_name_or_path $name --dtype float32 --prompt 'the cat 3' --max_new_tokens 8
  contains out 'sat on the mat'
  expect 0 eval --adapter_name_or_path $name --dtype float32 --validation_file rows.jsonl
  contains out 'eval_perplexity'

  expect 0 merge --adapter_name_or_path $name --dtype float32 --output_dir $name-merged
  contains out '"passed": true'
  expect 0 generate --model_name_or_path $name-merged --dtype float32 --prompt 'the cat 3' --max_new_tokens 8
  contains out 'sat on the mat'
  expect 0 convert $name.gguf --output_dir $name-folder
  contains out '"passed": true'
  present $name-folder/config.json $name-folder/model.safetensors $name-folder/tokenizer.json
  # The folder is the file: an adapter gives the same on both.
  expect 0 predict --adapter_name_or_path $name --dtype float32 --input_file rows.jsonl
  mv out file.out
  expect 0 predict --adapter_name_or_path $name --model_name_or_path $name-folder --dtype float32 --input_file rows.jsonl
  cmp -s out file.out || fail "the folder of $name.gguf gives other likelihoods"
done

# Blocks that stay in the file.
expect 0 predict --adapter_name_or_path llama_mix --dtype float32 --input_file rows.jsonl
mv out numbers.out
expect 0 predict --adapter_name_or_path llama_mix --dtype float32 --dequantize false --input_file rows.jsonl
cmp -s out numbers.out || fail 'blocks that stay in the file give other likelihoods'
expect 0 train --model_name_or_path llama_mix.gguf --train_file rows.jsonl $flags --dequantize false --max_steps 3 --output_dir blocks
contains blocks/run.json '"dequantize": false'
expect 2 train --model_name_or_path llama_mix.gguf --train_file rows.jsonl --dequantize false --load_in_4bit true --output_dir no
contains err 'dequantize'
absent no

# Base and adapter as one file.
expect 0 merge --adapter_name_or_path llama_mix --dtype float32 --to gguf --output_dir one
contains out '"dtype": "Q8_0"'
contains out '"rounding_share"'
present one/model.gguf one/Modelfile
expect 0 generate --model_name_or_path one/model.gguf --dtype float32 --prompt 'the cat 3' --max_new_tokens 8
contains out 'sat on the mat'
expect 2 merge --adapter_name_or_path llama_mix --save_dtype q8_0 --output_dir none
contains err '--to gguf'
absent none

# Folders as files, with what an adapter changes or without.
for name in llama_mix gemma2 gpt2; do
  expect 0 convert $name-folder --to gguf --output_dir $name-again
  contains out '"passed": true'
  present $name-again/model.gguf $name-again/Modelfile
  expect 0 predict --model_name_or_path $name-folder --dtype float32 --input_file rows.jsonl
  mv out folder.out
  expect 0 predict --model_name_or_path $name-again/model.gguf --dtype float32 --input_file rows.jsonl
  cmp -s out folder.out || fail "the file of $name-folder gives other likelihoods"
  expect 0 merge --adapter_name_or_path $name --model_name_or_path $name-folder --dtype float32 --to gguf --save_dtype q8_0 \
    --output_dir $name-one
  contains out '"passed": true'
  expect 0 generate --model_name_or_path $name-one/model.gguf --dtype float32 --prompt 'the cat 3' --max_new_tokens 8
  contains out 'sat on the mat'
done
expect 0 convert llama_mix.gguf --to gguf --save_dtype bf16 --output_dir bf16
expect 0 info bf16/model.gguf --json
contains out '"BF16"'
expect 2 convert gpt2-folder --to gguf --pre_tokenizer smollm --output_dir none
contains err 'llama.cpp would make other tokens of a text'
expect 2 convert gpt2-folder --pre_tokenizer gpt-2 --output_dir none
contains err '--to gguf'
expect 2 convert gpt2-folder --save_dtype q8_0 --output_dir none
contains err '--to gguf'
mkdir bare && cp gpt2-folder/config.json gpt2-folder/model.safetensors bare
expect 2 convert bare --to gguf --output_dir none
contains err 'there is no tokenizer'
absent none
# New tokens: a folder takes them, and so does a file that is made from one.
expect 0 train --model_name_or_path gpt2-folder --train_file rows.jsonl $flags --add_special_tokens '<|new|>' --max_steps 2 \
  --output_dir new-tokens
expect 0 merge --adapter_name_or_path new-tokens --dtype float32 --to gguf --output_dir new-tokens-file
echo '<|new|>' >one.txt
expect 0 tokenize --model_name_or_path new-tokens-file/model.gguf --input_file one.txt
contains out '"<|new|>"'

# Adapters for others.
expect 0 export --adapter_name_or_path llama_mix --to gguf --output_dir for-llama-cpp
contains out '"exact": true'
present for-llama-cpp/adapter.gguf for-llama-cpp/Modelfile
contains for-llama-cpp/Modelfile "FROM $scratch/llama_mix.gguf"
expect 0 info for-llama-cpp/adapter.gguf --json
contains out '"general.type": "adapter"'
expect 2 generate --model_name_or_path for-llama-cpp/adapter.gguf --prompt x
contains err 'adapter of llama.cpp'
expect 0 export --adapter_name_or_path llama_mix --to mlx --output_dir for-mlx
present for-mlx/adapters.safetensors for-mlx/adapter_config.json
expect 0 predict --model_name_or_path llama_mix.gguf --adapter_name_or_path for-mlx --dtype float32 --input_file rows.jsonl
lines out 8
expect 0 train --model_name_or_path llama_mix.gguf --train_file rows.jsonl $flags --method randlora --max_steps 3 --output_dir rand
expect 2 export --adapter_name_or_path rand --to gguf --output_dir rand-gguf
contains err 'config.no-rank'
expect 0 export --adapter_name_or_path rand --to gguf --rank 4 --output_dir rand-gguf
contains out '"largest_error"'

# Files that are none, and architectures that are not here.
head -c 2000 llama_mix.gguf >cut.gguf
expect 1 info cut.gguf
contains err 'format.truncated'
sed 's/general.architecture/general.architecturx/' llama_mix.gguf >unnamed.gguf
expect 1 generate --model_name_or_path unnamed.gguf --prompt x
contains err 'general.architecture'
expect 2 convert nothing.gguf --output_dir x
expect 2 convert --output_dir x
contains err 'deltaw convert model.gguf'
absent x

python=${DELTAW_ORACLE_PYTHON:-$tests/../.venv/bin/python}
if "$python" -c 'import transformers' 2>/dev/null; then
  "$python" -W ignore - >out 2>err <<'END' || fail 'transformers does not load what convert wrote'
import json
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
for name in ["llama_mix", "gemma2", "gpt2"]:
    model = AutoModelForCausalLM.from_pretrained(f"{name}-folder", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(f"{name}-folder")
    row = tokenizer("the cat 3 sat on the mat", return_tensors="pt")
    with torch.no_grad():
        print(name, model(**row).logits.isfinite().all().item(), row["input_ids"].shape[1] > 3)
END
  for name in llama_mix gemma2 gpt2; do contains out "$name True True"; done
else
  echo 'SKIPPED: transformers reads the converted folders, for want of transformers: scripts/setup --oracle'
fi
finish
