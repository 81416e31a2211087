#include "text/tokenizer/byte_pieces.h"

#include <algorithm>

#include <fmt/format.h>

namespace deltaw::text {

BytePieces::BytePieces(const Vocabulary& vocabulary) {
  for (size_t byte = 0; byte < ids_.size(); ++byte) ids_[byte] = vocabulary.id(fmt::format("<0x{:02X}>", byte));
}

bool BytePieces::cover(std::string_view text) const {
  return std::all_of(text.begin(), text.end(), [this](char byte) { return id(byte) >= 0; });
}

std::optional<char> byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
    if (!digit && !letter) return std::nullopt;
    value = value * 16 + (digit ? c - '0' : (c & 0x5F) - 'A' + 10);
  }
  return static_cast<char>(value);
}

}  // namespace deltaw::text
