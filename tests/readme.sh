#!/usr/bin/env bash
# readme.sh REPOSITORY DELTAW SCRATCH: README.md's table of methods and docs/cli.md are what the program prints, and
# README.md's commands run as they stand, in order. Its C++ is compiled by tests/install.
set -eu
repository=$1 deltaw=$2 scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch/clone/build/release" "$scratch/clone/.cache/demo"
sed -n '/<!-- methods: begin -->/,/<!-- methods: end -->/p' "$repository/README.md" | sed '1d;$d' | sed '/^$/d' >"$scratch/readme"
"$deltaw" methods --markdown | sed '/^$/d' >"$scratch/program"
[ -s "$scratch/program" ]
diff -u "$scratch/readme" "$scratch/program"
"$deltaw" help --markdown >"$scratch/cli.md"
diff -u "$repository/docs/cli.md" "$scratch/cli.md"

# What somebody who opens the page sees.
for word in 'Models: ' 'Device: ' 'Time, '; do
  head -n 40 "$repository/README.md" | grep -qF -- "- $word" || { echo "FAILED: the first screen lacks '$word'"; exit 1; }
done

# A clone after scripts/demo, with fewer rows. What builds, tests or installs runs elsewhere.
clone=$scratch/clone
cp -r "$repository/examples" "$clone/"
ln -s "$deltaw" "$clone/build/release/deltaw"
for model in minilm smollm2; do ln -s "$repository/.cache/$model" "$clone/.cache/$model"; done
"$repository/scripts/fortunes" "$scratch/rows"
for name in train held_out; do
  awk 'NR % 12 == 1' "$scratch/rows/$name.tsv" >"$clone/.cache/demo/$name.tsv"
done
sed -n '/^```sh$/,/^```$/{/^```/!p}' "$repository/README.md" | grep -vE '^(scripts/|cmake |build/embed/)' >"$scratch/commands"
sed -i 's/--num_train_epochs 12/--num_train_epochs 1/' "$scratch/commands"  # real.smollm2 learns all of it
[ "$(grep -c '^deltaw ' "$scratch/commands")" -ge 15 ] || { echo 'FAILED: README.md has lost its commands'; exit 1; }

cd "$clone"
bash -eux "$scratch/commands" >"$scratch/out" 2>"$scratch/err" </dev/null || {
  echo 'FAILED: a command of README.md'
  tail -n 30 "$scratch/err"
  exit 1
}
echo 'all commands of README.md ran'
