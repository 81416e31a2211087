#!/usr/bin/env bash
# foreign_project.sh SOURCES BUILD SCRATCH: `cmake --install` of BUILD, then the examples on the installed copy.
set -euo pipefail
sources=$1 build=$2 scratch=$3
prefix=$scratch/prefix checkpoint=$scratch/checkpoint
rm -rf "$scratch"
mkdir -p "$scratch"

stop() {
  printf 'FAILED: %s\n' "$1"
  exit 1
}

"$CMAKE" --install "$build" --prefix "$prefix" >"$scratch/install.log"
# Moved, so that nothing can rest on where it was installed first; and run with no library path set.
mv "$prefix" "$scratch/moved"
prefix=$scratch/moved
unset LD_LIBRARY_PATH
"$prefix/bin/deltaw" methods | grep -q lora || stop 'the installed program does not run'

# The fixture's weights with a vocabulary of words.
mkdir "$checkpoint"
cp "$sources"/tests/golden/models/bert_cls/{config.json,model.safetensors} "$sources/tests/install/vocab.txt" "$checkpoint"

build_example() { # NAME
  local name=$1 build=$scratch/$1
  "$CMAKE" -S "$sources/examples/$name" -B "$build" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER:-}" >"$scratch/configure.log" 2>&1 ||
    { cat "$scratch/configure.log"; stop "$name could not be configured"; }
  "$CMAKE" --build "$build" || stop "$name could not be built"
  if grep -rqF "$sources/include" "$build/CMakeFiles/$name.dir/"; then
    stop "$name was compiled with headers of $sources"
  fi
}

try_example() { # NAME [ARGUMENT...]
  local name=$1 output=$scratch/$1/adapter
  shift
  build_example "$name"
  "$scratch/$name/$name" "$checkpoint" "$@" "$output" | tee "$scratch/$name.log"

  [ -s "$output/adapter_config.json" ] && [ -s "$output/adapter_model.safetensors" ] || stop "$name wrote no adapter"
  [ "$(grep -c '^step ' "$scratch/$name.log")" = 10 ] || stop "the number of steps of $name is not ten"
  awk '/^step / { if (!first) first = $4; last = $4 } END { exit !(last < 0.6 * first) }' "$scratch/$name.log" ||
    stop "ten steps of $name did not bring its loss down"
}

try_example embed
grep -q 'are the same$' "$scratch/embed.log" || stop 'reloading changed the logits of embed'
# From keys: what the installed program makes of the run.json that it leaves, to the byte.
printf 'text,label\na dull film,negative\nnot good,negative\nthe film is one,neutral\na fine film,positive\n' >"$scratch/rows.csv"
"$scratch/embed/train_keys" "$checkpoint" "$scratch/rows.csv" "$scratch/embed/keys" || stop 'train_keys failed'
"$prefix/bin/deltaw" train "$scratch/embed/keys/run.json" --output_dir "$scratch/program" >/dev/null 2>"$scratch/train.log" ||
  { cat "$scratch/train.log"; stop 'the installed program cannot run the run.json of train_keys'; }
cmp "$scratch/embed/keys/adapter_model.safetensors" "$scratch/program/adapter_model.safetensors" ||
  stop 'train_keys trains another adapter than the program'
diff <(ls -A "$scratch/embed/keys") <(ls -A "$scratch/program") || stop 'train_keys leaves other files than the program'
if "$scratch/embed/train_keys" "$checkpoint" "$scratch/rows.csv" "$scratch/embed/keys" 2>"$scratch/error.log"; then
  stop 'train_keys replaced a finished run'
fi
grep -q 'config.output-exists' "$scratch/error.log" || stop 'the error does not say that there is a finished run'
# What it says to a caller's mistake.
if "$scratch/embed/embed" "$scratch/nothing" "$scratch/none" 2>"$scratch/error.log"; then
  stop 'a missing checkpoint passed'
fi
grep -q nothing "$scratch/error.log" || stop 'the error does not name the missing checkpoint'

# The program of README.md, word for word, asks that adapter.
mkdir "$scratch/app"
block() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/!p}" "$sources/README.md"; }
block cmake >"$scratch/app/CMakeLists.txt"
block cpp >"$scratch/app/app.cpp"
[ -s "$scratch/app/app.cpp" ] || stop 'README.md has lost its program'
"$CMAKE" -S "$scratch/app" -B "$scratch/app/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER:-}" >"$scratch/configure.log" 2>&1 ||
  { cat "$scratch/configure.log"; stop "README.md's program could not be configured"; }
"$CMAKE" --build "$scratch/app/build" || stop "README.md's program could not be built"
"$scratch/app/build/app" "$checkpoint" "$scratch/embed/adapter" 'a good film' | grep -qE '^(negative|neutral|positive)$' ||
  stop "README.md's program says no label"

try_example custom_method "$sources/examples/custom_method/reviews.tsv"
grep -q '"peft_type": "SVFT"' "$scratch/custom_method/adapter/adapter_config.json" || stop 'the adapter is not of SVFT'
# The installed program, which has no such method, says so.
if "$prefix/bin/deltaw" info "$scratch/custom_method/adapter" >"$scratch/info.log" 2>&1; then
  stop 'an unknown method passed'
fi
grep -q 'config.unknown-method' "$scratch/info.log" || stop 'the error does not say that the method is unknown'

try_example custom_task "$sources/examples/custom_task/pairs.tsv"
grep -q 'find their partner$' "$scratch/custom_task.log" || stop 'custom_task was not scored'

# A checkpoint of the family, which says nothing of attention_bias and holds biases.
build_example custom_family
mkdir "$scratch/internlm"
cp "$sources"/tests/golden/models/llama_biases/{config.json,model.safetensors} "$scratch/internlm"
sed -i '/"attention_bias"/d; s/"model_type": "llama"/"model_type": "internlm"/' "$scratch/internlm/config.json"
"$scratch/custom_family/custom_family" "$scratch/internlm" "$scratch/custom_family/adapter" | tee "$scratch/custom_family.log"
[ "$(grep -c '^adapted .*[qv]_proj$' "$scratch/custom_family.log")" = 4 ] || stop 'custom_family adapted other layers'
grep -q '^InternLMForCausalLM: logits \[1, 6, 61\]$' "$scratch/custom_family.log" || stop 'custom_family has other logits'
[ -s "$scratch/custom_family/adapter/adapter_model.safetensors" ] || stop 'custom_family wrote no adapter'
# The installed program, which has no such family, says so.
if "$prefix/bin/deltaw" eval --model_name_or_path "$scratch/internlm" --validation_file none.csv >"$scratch/eval.log" 2>&1; then
  stop 'an unknown family passed'
fi
grep -q "model_type 'internlm' is not implemented" "$scratch/eval.log" || stop 'the error does not name the family'
