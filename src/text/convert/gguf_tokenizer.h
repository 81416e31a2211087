// The tokenizer that a GGUF file holds among its values, as the files of a Hugging Face folder.
#pragma once

#include <string>
#include <vector>

#include "io/gguf.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::text {

/// The tokenizer_config.json that such a folder would have: special tokens by name, what is put around a text, the chat
/// template, the longest text. Throws format.tokenizer naming file and key.
TokenizerConfig gguf_tokenizer_config(const io::GgufFile& file);

/// Its tokenizer.json, for the kinds "gpt2" (BPE over bytes) and "llama" (SentencePiece's BPE). Every token is a piece
/// of the vocabulary, so that no reader numbers them anew; places that only fill up the embedding behind the last token
/// are left out. Throws format.tokenizer for values that cannot be, format.unsupported for other kinds and for a
/// pre-tokenizer that is not known, with the names of those that are.
TokenizerJson from_gguf(const io::GgufFile& file, const TokenizerConfig& config);

/// How words are cut out of a text before BPE joins their bytes: GGUF has no more of it than a name.
struct GgufWords {
  TokenizerJson pre_tokenizer;
  TokenizerJson normalizer;      // null: none
  bool whole_words = false;      // a word that is a token stays whole, whatever the merges say
  bool begins_with_bos = false;  // where no value says so
};
/// By llama.cpp's name. Throws format.unsupported with the names that are known.
GgufWords gguf_words(const std::string& name, const std::string& where);

}  // namespace deltaw::text
