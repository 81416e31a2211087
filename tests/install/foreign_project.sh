#!/usr/bin/env bash
# foreign_project.sh SOURCES BUILD SCRATCH: `cmake --install` of BUILD, then examples/embed on the installed copy.
set -euo pipefail
sources=$1 build=$2 scratch=$3
prefix=$scratch/prefix checkpoint=$scratch/checkpoint output=$scratch/adapter
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

"$CMAKE" -S "$sources/examples/embed" -B "$scratch/embed" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER:-}" >"$scratch/configure.log" 2>&1 ||
  { cat "$scratch/configure.log"; stop 'the foreign project could not be configured'; }
"$CMAKE" --build "$scratch/embed"
if grep -rqF "$sources/include" "$scratch/embed/CMakeFiles/embed.dir/"; then
  stop "the foreign project was compiled with headers of $sources"
fi

mkdir "$checkpoint"
cp "$sources"/tests/golden/models/bert_cls/{config.json,model.safetensors} "$sources/tests/install/vocab.txt" "$checkpoint"
"$scratch/embed/embed" "$checkpoint" "$output" | tee "$scratch/embed.log"

[ -s "$output/adapter_config.json" ] && [ -s "$output/adapter_model.safetensors" ] || stop 'there is no adapter'
[ "$(grep -c '^step ' "$scratch/embed.log")" = 10 ] || stop 'the number of steps is not ten'
grep -q 'are the same$' "$scratch/embed.log" || stop 'reloading changed the logits'
awk '/^loss on all rows/ { exit !($7 < $5 / 2) }' "$scratch/embed.log" || stop 'ten steps did not halve the loss'

# What it says to a caller's mistake.
if "$scratch/embed/embed" "$scratch/nothing" "$output" 2>"$scratch/error.log"; then stop 'a missing checkpoint passed'; fi
grep -q nothing "$scratch/error.log" || stop 'the error does not name the missing checkpoint'
