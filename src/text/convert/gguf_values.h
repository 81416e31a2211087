// The tokenizer of a Hugging Face folder as the values of a GGUF file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "deltaw/tokenizer.h"
#include "io/gguf_writer.h"
#include "text/tokenizer/tokenizer_value.h"

namespace deltaw::text {

struct TokenizerToWrite {
  std::filesystem::path folder;       // of its files
  std::filesystem::path pieces = {};  // of a tokenizer.model whose scores are taken where it is the same
  Json config = Json::object();       // config.json: ids of special tokens that its files do not name
  int64_t rows = 0;                   // of the word embeddings; a token for each
  std::string pre_tokenizer = {};     // llama.cpp's name; empty: the one that follows
};

struct GgufTokenizer {
  std::vector<io::GgufValue> values;
  std::vector<std::vector<int64_t>> ids;  // of some texts, as the folder's tokenizer has them
};

/// As llama.cpp's converter writes it: "gpt2" for BPE over bytes, "llama" for SentencePiece's BPE, of which a
/// tokenizer.json without scores has them by the order of its merges. Throws config.unsupported for other kinds and for
/// a way of cutting words that llama.cpp has no name for, format.vocabulary for tokens beyond the rows, and what
/// reading a tokenizer throws.
GgufTokenizer gguf_tokenizer(const TokenizerToWrite& wanted);

/// Throws config.unsupported where the file's tokenizer, as llama.cpp has it, makes other ids of the texts.
void check_gguf_tokenizer(const std::filesystem::path& file, const GgufTokenizer& tokenizer);

/// The text whose ids tell llama.cpp's converter how a tokenizer cuts words.
extern const std::string kCheckedText;

/// llama.cpp's name for how a BPE over bytes cuts words; `json` is its tokenizer.json. Throws config.unsupported.
std::string gguf_words_name(const Tokenizer& tokenizer, const TokenizerJson& json, const std::string& where);

}  // namespace deltaw::text
