#!/usr/bin/env bash
# Runs the tests of one source file in one process: loading libtorch takes longer than most tests do.
#   run_file.sh BINARY SOURCE            ends with 77 where some were skipped and none failed
#   run_file.sh --rest BINARY SOURCE...  fails where the binary has a test that is in none of the sources
set -u

# What gtest calls the tests of these files, and those with parameters.
filter_of() { # SOURCE...
  sed -n -E 's/^TEST(_F|_P)?\(([A-Za-z0-9_]+), *([A-Za-z0-9_]+)\).*/\2.\3/p' "$@" | sed 's/.*/&:&\/*:*\/&\/*/' | paste -s -d :
}

if [ "$1" = --rest ]; then
  rest=$("$2" --gtest_list_tests --gtest_filter="-$(filter_of "${@:3}")" | sed -e '/^Running main/d; s/ *# GetParam.*//')
  [ -n "$rest" ] || exit 0
  printf 'tests that no entry of ctest runs; write TEST(Suite, Name) on one line:\n%s\n' "$rest"
  exit 1
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
"$1" --gtest_filter="$(filter_of "$2")" 2>&1 | tee "$output"
code=${PIPESTATUS[0]}
[ "$code" = 0 ] || exit "$code"
grep -qE '^\[==========\] [1-9][0-9]* tests? .*ran' "$output" || { echo "no test of $2 ran" && exit 1; }
! grep -q '^\[  SKIPPED \]' "$output" || exit 77
