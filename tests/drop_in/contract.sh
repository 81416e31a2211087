# The contract suites have the dropped-in copy of LoRA in all cases that LoRA itself has: contract.sh TESTS
set -eu

cases() { # TESTS METHOD
  "$1" --gtest_list_tests --gtest_filter="Methods/*/$2:Methods/*/$2_?x*" | grep -c '^ ' || true
}

original=$(cases "$1" lora)
copies=$(cases "$1" lora_copy)
printf 'cases of lora: %s, of lora_copy: %s\n' "$original" "$copies"
[ "$copies" -gt 0 ] || exit 1
[ "$copies" = "$original" ] || exit 1
"$1" --gtest_filter='Methods/*/lora_copy*' --gtest_brief=1
