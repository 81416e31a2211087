#include <utility>

#include "deltaw/tokenizer.h"

namespace deltaw {
namespace {

template <class List>
void erase_at(List& list, size_t at) {
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
}

void erase_token(Encoding& encoding, size_t at) {
  erase_at(encoding.ids, at);
  erase_at(encoding.type_ids, at);
  erase_at(encoding.tokens, at);
  erase_at(encoding.offsets, at);
  erase_at(encoding.special, at);
  erase_at(encoding.words, at);
}

/// Whether the token at `at` was added, beside the same one in the text.
bool doubles(const Encoding& encoding, size_t at, size_t beside, std::optional<int64_t> id) {
  return id && encoding.ids[at] == *id && encoding.ids[beside] == *id && encoding.special[at] != 0 &&
         encoding.special[beside] == 0;
}

}  // namespace

Encoding encode_row(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens) {
  Encoding encoding = tokenizer.encode(text, {.add_special_tokens = add_special_tokens});
  if (encoding.ids.size() > 1 && doubles(encoding, 0, 1, tokenizer.bos_id())) erase_token(encoding, 0);
  const size_t last = encoding.ids.size() - 1;
  if (encoding.ids.size() > 1 && doubles(encoding, last, last - 1, tokenizer.eos_id())) erase_token(encoding, last);
  return encoding;
}

}  // namespace deltaw
