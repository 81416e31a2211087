// What a SentencePiece model file (a protocol buffer) says about a tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw::text {

struct SentencePieceModel {
  enum class Kind { kUnigram = 1, kBpe = 2, kWord = 3, kCharacter = 4 };
  enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

  struct Piece {
    std::string text;
    float score = 0.0f;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;  // by id
  Kind kind = Kind::kUnigram;
  bool byte_fallback = false;
  bool blank_is_suffix = false;
  int64_t unk_id = 0;
  std::string unk_piece = "<unk>";
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string charsmap;  // the precompiled normalization table; empty: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool complete = false;  // holds every token: none that a class has by default is added behind the pieces
};

/// Throws format.sentencepiece where the bytes are no such model; `where` names them in the error.
SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& where);

SentencePieceModel read_sentencepiece(const std::filesystem::path& file);

}  // namespace deltaw::text
