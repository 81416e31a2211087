#!/bin/sh
# readme.sh REPOSITORY DELTAW: the table of methods in README.md and docs/cli.md are what the program prints.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sed -n '/<!-- methods: begin -->/,/<!-- methods: end -->/p' "$1/README.md" | sed '1d;$d' | sed '/^$/d' >"$scratch/readme"
"$2" methods --markdown | sed '/^$/d' >"$scratch/program"
[ -s "$scratch/program" ]
diff -u "$scratch/readme" "$scratch/program"
"$2" help --markdown >"$scratch/cli.md"
diff -u "$1/docs/cli.md" "$scratch/cli.md"
