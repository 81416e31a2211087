# Read by the scripts beside it: TOPIC.sh DELTAW TESTS_FOLDER
set -u
deltaw=$1
tests=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 2
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  printf '  stdout: %s\n' "$(head -c 600 out)"
  printf '  stderr: %s\n' "$(head -c 1200 err)"
  failures=$((failures + 1))
}

# Runs the program; its exit code must be CODE. Leaves the streams in the files out and err.
expect() { # CODE ARGS...
  local code=$1
  shift
  "$deltaw" "$@" >out 2>err </dev/null
  local got=$?
  [ "$got" = "$code" ] || fail "deltaw $* exited with $got, not $code"
}

contains() { # FILE TEXT
  grep -qF -- "$2" "$1" || fail "$1 does not contain: $2"
}

lacks() { # FILE TEXT
  ! grep -qF -- "$2" "$1" || fail "$1 contains: $2"
}

empty() { # FILE
  [ ! -s "$1" ] || fail "$1 is not empty"
}

lines() { # FILE COUNT
  [ "$(wc -l <"$1")" = "$2" ] || fail "$1 has $(wc -l <"$1") lines, not $2"
}

present() { # PATH...
  for path in "$@"; do [ -e "$path" ] || fail "$path is missing"; done
}

absent() { # PATH...
  for path in "$@"; do [ ! -e "$path" ] || fail "$path should not be there"; done
}

# A checkpoint with a tokenizer: the fixture's weights and a vocabulary of words.
make_model() { # FIXTURE FOLDER
  mkdir -p "$2"
  cp "$tests/golden/models/$1/config.json" "$tests/golden/models/$1/model.safetensors" "$2/"
  local size words="good bad fine poor great awful film book play song the a was is it this so not very and"
  size=$(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' "$2/config.json")
  { printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' $words
    seq 1 "$size" | sed 's/^/##w/'; } | head -n "$size" >"$2/vocab.txt"
}

# A language model without a start token: a text of one letter has no token with another before it.
make_speaker() { # FOLDER
  make_letters gpt2 "$1"
}

# A language model of the fixture's that reads letters.
make_letters() { # FIXTURE FOLDER
  mkdir -p "$2"
  cp "$tests/golden/models/$1/config.json" "$tests/golden/models/$1/model.safetensors" "$2/"
  { printf '{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, '
    printf '"pre_tokenizer": null, "post_processor": null, "decoder": null, "model": {"type": "BPE", "merges": [], "vocab": {'
    local i=0 sep=
    for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z; do
      printf '%s"%s": %s' "$sep" "$letter" $i && i=$((i + 1)) && sep=', '
    done
    printf '}}}\n'; } >"$2/tokenizer.json"
}

# Rows "text,label" of two kinds.
make_rows() { # FILE COUNT
  { echo 'text,label'
    for i in $(seq 1 "$2"); do
      case $((i % 4)) in
        0) echo "the film was good and it is great,praise" ;;
        1) echo "this book was bad,blame" ;;
        2) echo "a fine song and so very good,praise" ;;
        3) echo "it is poor and awful not fine,blame" ;;
      esac
    done; } >"$1"
}

# A classifier's base in `model`, rows in train.csv and dev.csv, and the flags of a short run on them in $common.
prepare_runs() {
  make_model bert_base model
  make_rows train.csv 32
  make_rows dev.csv 8
  common="--model_name_or_path model --train_file train.csv --validation_file dev.csv --text_column text --dtype float32
    --per_device_train_batch_size 8 --learning_rate 1e-2 --logging_steps 1"
}

finish() {
  [ "$failures" = 0 ] && echo 'all checks passed'
  exit $((failures > 0))
}
