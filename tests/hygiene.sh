#!/bin/sh
# Rules of the sources that no compiler checks. Prints every line that breaks one.
#   hygiene.sh REPOSITORY
set -u
cd "$1" || exit 2
failed=0

report() { # rule, offending lines
  [ -n "$2" ] || return 0
  printf '%s\n%s\n\n' "$1" "$2" | sed '2,$s/^/  /'
  failed=1
}

sources=$(find include src cli tests examples -name '*.cpp' -o -name '*.h' | grep -v '^tests/golden/' | sort)
library=$(find include src -name '*.cpp' -o -name '*.h' | sort)

report 'sources are ASCII' "$(LC_ALL=C grep -n '[^ -~	]' $sources /dev/null)"
report 'a file has at most 600 lines' "$(wc -l $sources | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 }')"
report 'headers begin with a comment or #pragma once and have it' \
  "$(for header in $(printf '%s\n' $sources | grep '\.h$'); do grep -q '^#pragma once' "$header" || echo "$header"; done)"
report 'the library neither prints nor ends the program' "$(grep -nE \
  '(^|[^a-zA-Z0-9_:.])(std::)?(abort|exit|_exit|quick_exit|terminate|printf|puts|fprintf) *\(|std::(cout|cerr|clog)\b|fmt::print|std::system *\(' \
  $library)"
report 'numbers of tensors are read through ops/host_read.h' "$(grep -nE \
  '\.(item|cpu|nonzero|is_nonzero|masked_select|allclose|equal)(<[a-zA-Z0-9_:]*>)?\(|at::(equal|allclose|is_nonzero|nonzero|masked_select)\(|\.index\(\{' \
  $library cli/*.cpp cli/*.h | grep -vE '^src/ops/host_read\.cpp:|^src/models/causal\.cpp:.*\.index\(\{at::arange')"
report 'outside ops a tensor is walked to fill it or to write a file; others ask ops/host_read.h' "$(grep -nE \
  '(const_|[^_])data_ptr' $library |
  grep -vE '^src/(ops/|models/loader\.cpp|adapt/(adapter_file|adapter_writer|export_formats|gguf_written)\.cpp)')"
report 'what is known of a batch is asked by models and their attention' "$(grep -nE 'known_(flag|range|places)\(' \
  $library | grep -vE '^src/(models|families|ops/attention)/|^src/ops/host_read\.')"
report 'one place names the device' "$(grep -nE 'at::kCPU|at::kCUDA|at::Device\(' $library cli/*.cpp cli/*.h |
  grep -v '^include/deltaw/model\.h:')"
report 'the library leaves signals to the program' "$(grep -nE \
  '\b(sigaction|sigprocmask|pthread_sigmask) *\(|std::(signal|raise) *\(|#include <(csignal|signal\.h)>' $library)"
report 'no room includes one above it, nor do core, io, image, text and data see a tensor' "$(awk '
  BEGIN {
    rooms = split("core io image text ops methods models families adapt data tasks/common eval tasks train run cli", names, " ")
    for (i = 1; i <= rooms; ++i) rank[names[i]] = i
    rank["image"] = rank["text"] = rank["io"]      # side by side
    plain = " core io image text data "
    plain_headers = " chat data error image options text_data tokenizer version memory "
    count = split("adapter:adapt export:adapt convert:adapt batch:tasks/common slow_rows:tasks/common text_rows:tasks/common " \
      "task:adapt task_reader:tasks/common evaluate:eval landscape:eval generate:eval generate_images:eval noise_scheduler:models denoiser:models autoencoder:models pipeline:models new_model:models train:train run:run family:models gguf:models",
      headers, " ")
    for (i = 1; i <= count; ++i) { split(headers[i], of, ":"); header_rank[of[1]] = rank[of[2]] }
  }
  function room_of(first, second) { return first "/" second in rank ? first "/" second : first }
  FNR == 1 { split(FILENAME, path, "/"); room = room_of(path[2], path[3]) }
  !/^#include/ || !(room in rank) { next }
  { name = $2; gsub(/["<>]/, "", name); split(name, parts, "/"); used = room_of(parts[1], parts[2]) }
  { tensor_free = index(plain, " " room " ") }
  tensor_free && (parts[1] ~ /^(torch|ATen|c10)$/) { print FILENAME ":" FNR ": " $0 }
  tensor_free && parts[1] == "deltaw" {
    header = parts[2]; sub(/\.h$/, "", header)
    if (!index(plain_headers, " " header " ")) print FILENAME ":" FNR ": " $0
  }
  parts[1] == "deltaw" {
    header = parts[2]; sub(/\.h$/, "", header)
    if (header_rank[header] > rank[room]) print FILENAME ":" FNR ": " $0
  }
  (used in rank) && rank[used] > rank[room] { print FILENAME ":" FNR ": " $0 }
  ' $(find src -mindepth 2 -name '*.cpp' -o -mindepth 2 -name '*.h' | sort))"
# Tokenizers are chosen by model_type, as transformers chooses them; other programs have words of their own.
names() { # FOLDER...: what its files define, as an alternation
  ls "$@" | sed -n 's#.*/\(.*\)\.cpp$#\1#p' | paste -sd '|'
}
types=$(sed -n 's/.*\.peft_type = "\([A-Z0-9_]*\)".*/\1/p' src/methods/*.cpp | grep -v '^LORA$' | sort -u | paste -sd '|')
methods=$(names src/methods/*.cpp | tr '|' '\n' | grep -v '^lora$' | paste -sd '|')
report 'no room names a method, the default one apart, or a family' "$(grep -nE \
  "\"($methods|$types|$(names src/families/*.cpp))\"" \
  $(find include src cli -name '*.cpp' -o -name '*.h' | grep -vE '^src/(methods|families|text|core/foreign)/|^src/adapt/mlx') |
  grep -vE '^[^:]*:[0-9]+: *//|// .*"|\.fix = ')"
tasks=$(sed -n 's/.*\.id = "\([A-Za-z_-]*\)".*/\1/p' src/tasks/*.cpp | paste -sd '|')
report 'no verb but generate names a task or asks what a model is for' "$(grep -nE \
  "(is_causal|is_regression|is_multi_label)\(|\"($tasks)\"" cli/*.cpp cli/*.h | grep -v '^cli/generate\.cpp:')"
report 'the program is built on the library, never the other way' "$(grep -nE '#include "(cli|verbs)' $library)"
report 'shell scripts parse' "$(for script in scripts/* .ci/* tests/*.sh tests/*/*.sh; do
  [ -f "$script" ] && ! bash -n "$script" 2>&1; done)"
if command -v clang-format-14 >/dev/null; then
  report 'sources are formatted: clang-format-14 -i FILE' \
    "$(clang-format-14 --dry-run $sources 2>&1 | sed -n 's/: warning: .*//p' | cut -d: -f1 | sort -u)"
elif [ -n "${CI:-}" ]; then
  report 'the format of the sources is checked' 'clang-format-14 is not installed: scripts/setup --oracle'
fi

[ "$failed" = 0 ] && echo "$(printf '%s\n' $sources | wc -l) sources are clean"
exit "$failed"
