#!/usr/bin/env bash
# foreign_project.sh SOURCES BUILD SCRATCH: `cmake --install` of BUILD, then examples/embed and examples/custom_method
# on the installed copy.
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

try_example() { # NAME [ARGUMENT...]
  local name=$1 build=$scratch/$1 output=$scratch/$1/adapter
  shift
  "$CMAKE" -S "$sources/examples/$name" -B "$build" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER:-}" >"$scratch/configure.log" 2>&1 ||
    { cat "$scratch/configure.log"; stop "$name could not be configured"; }
  "$CMAKE" --build "$build" || stop "$name could not be built"
  if grep -rqF "$sources/include" "$build/CMakeFiles/$name.dir/"; then
    stop "$name was compiled with headers of $sources"
  fi
  "$build/$name" "$checkpoint" "$@" "$output" | tee "$scratch/$name.log"

  [ -s "$output/adapter_config.json" ] && [ -s "$output/adapter_model.safetensors" ] || stop "$name wrote no adapter"
  [ "$(grep -c '^step ' "$scratch/$name.log")" = 10 ] || stop "the number of steps of $name is not ten"
  awk '/^step / { if (!first) first = $4; last = $4 } END { exit !(last < 0.6 * first) }' "$scratch/$name.log" ||
    stop "ten steps of $name did not bring its loss down"
}

try_example embed
grep -q 'are the same$' "$scratch/embed.log" || stop 'reloading changed the logits of embed'
# What it says to a caller's mistake.
if "$scratch/embed/embed" "$scratch/nothing" "$scratch/none" 2>"$scratch/error.log"; then
  stop 'a missing checkpoint passed'
fi
grep -q nothing "$scratch/error.log" || stop 'the error does not name the missing checkpoint'

try_example custom_method "$sources/examples/custom_method/reviews.tsv"
grep -q '"peft_type": "SVFT"' "$scratch/custom_method/adapter/adapter_config.json" || stop 'the adapter is not of SVFT'
# The installed program, which has no such method, says so.
if "$prefix/bin/deltaw" info "$scratch/custom_method/adapter" >"$scratch/info.log" 2>&1; then
  stop 'an unknown method passed'
fi
grep -q 'config.unknown-method' "$scratch/info.log" || stop 'the error does not say that the method is unknown'
