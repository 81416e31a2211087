// Bytes as pieces of a vocabulary: "<0x00>" to "<0xFF>", for characters that it lacks.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "text/tokenizer/vocabulary.h"

namespace deltaw::text {

class BytePieces {
 public:
  BytePieces() { ids_.fill(-1); }
  explicit BytePieces(const Vocabulary& vocabulary);

  /// Whether every byte of `text` has a piece.
  bool cover(std::string_view text) const;
  int32_t id(char byte) const { return ids_[static_cast<unsigned char>(byte)]; }

 private:
  std::array<int32_t, 256> ids_{};
};

/// The byte that a piece such as "<0x0A>" stands for.
std::optional<char> byte_of_piece(std::string_view piece);

}  // namespace deltaw::text
