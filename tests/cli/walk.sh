# walk.sh DELTAW TESTS_FOLDER [SEED [COUNT]]: a random walk of train, resume, merge and export through folders into which
# a user puts files, edits them and takes them away, with kills at random. No file of the user is ever lost or changed.
. "$(dirname "$0")/support.sh"
seed=${3:-1} count=${4:-15}
RANDOM=$seed
prepare_runs
short="$common --method lora --save_strategy steps --save_steps 2 --save_total_limit 2"
expect 0 train $short --max_steps 2 --output_dir a
folders=(run1 run2 merged exported)
names=(notes.txt data/rows.csv notes.md .git/HEAD deep/er/file README.md run.json log.jsonl config.json model.safetensors vocab.txt
  adapter_config.json adapter_model.safetensors 0-lora/file 1-ia3/notes checkpoint-2/notes checkpoint-4/run_state.json
  checkpoint-9/file all_results.json deltaw_manifest.json .deltaw-0123456789abcdef0123456789abcdef/file)
declare -A owned=() # path -> its content

pick() { # NAME...: one of them
  shift $((RANDOM % $#))
  echo "$1"
}
put() { # adds a file, or changes what stands there: from then on it is the user's
  local path
  path=$(pick "${folders[@]}")/$(pick "${names[@]}")
  [ $((RANDOM % 4)) = 0 ] && [ -d "${path%%/*}" ] && path=$(pick "$path" $(find "${path%%/*}" -type f -not -name 'deltaw_manifest.json'))
  [ -d "$path" ] && return
  mkdir -p "${path%/*}" 2>/dev/null || return
  echo "user $RANDOM" >>"$path"
  owned[$path]=$(md5sum <"$path")
  echo "  put $path" >>story
}
take_away() { # the user makes room again
  for path in "${!owned[@]}"; do
    [ $((RANDOM % 4)) = 0 ] && continue
    rm -f "$path"
    unset "owned[$path]"
    echo "  took $path" >>story
  done
}
check() {
  for path in "${!owned[@]}"; do
    [ -f "$path" ] && [ "$(md5sum <"$path")" = "${owned[$path]}" ] && continue
    cat story
    fail "seed $seed: $path was lost by: $*"
    unset "owned[$path]"
  done
}
run() { # ARGS...: perhaps killed
  local pid code
  echo "  deltaw $*" >>story
  "$deltaw" "$@" >out 2>err </dev/null &
  pid=$!
  if [ $((RANDOM % 3)) = 0 ]; then
    sleep "0.$((RANDOM % 10))"
    kill -9 $pid 2>/dev/null
  fi
  wait $pid 2>/dev/null
  code=$?
  echo "  exit code $code" >>story
  [ $code = 0 ] && finished=$((finished + 1))
  [ $code = 0 ] || [ $code = 1 ] || [ $code = 2 ] || [ $code = 137 ] || fail "deltaw $* exited with $code"
  lacks err 'error[internal'
  check "$@"
}

finished=0
for _ in $(seq 1 "$count"); do
  for _ in $(seq 1 $((RANDOM % 2))); do put; done
  [ $((RANDOM % 2)) = 0 ] && take_away
  overwrite=$(pick '' --overwrite_output_dir --overwrite_output_dir)
  case $((RANDOM % 6)) in
    0) run train $short --max_steps $((1 + RANDOM % 9)) --output_dir "$(pick run1 run2)" $overwrite ;;
    1) run train $short --max_steps $((1 + RANDOM % 9)) --beside '[{"method":"ia3"}]' --output_dir run1 $overwrite ;;
    2) run train $short --max_steps 12 --output_dir "$(pick run1 run2)" --resume_from_checkpoint true ;;
    3) run merge --adapter_name_or_path "$(pick a run1)" --output_dir "$(pick merged run2)" $overwrite ;;
    4) run export --adapter_name_or_path "$(pick a run2)" --output_dir "$(pick exported run1)" $overwrite ;;
    5) run train $common --adapter_name_or_path "$(pick a run1)" --max_steps 2 --output_dir "$(pick run1 run2)" $overwrite ;;
  esac
done
echo "$count steps, $finished of them succeeded, ${#owned[@]} files of the user at the end"

finish
