// The tokens that a tokenizer's configuration files name, beside those of the vocabulary and of tokenizer.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::text {

struct NamedToken {
  TokenizerJson token;        // an entry of added_tokens without its id
  std::optional<int64_t> id;  // that the file gives it
  std::string where;          // file and key, for errors
  bool settles = false;       // how it is found in a text, whatever tokenizer.json says

  std::string content() const { return token["content"].get<std::string>(); }
};

/// In the order in which transformers 5 gives ids to those that are new: added_tokens_decoder, or where there is none
/// added_tokens.json, by id; then the seven special tokens in its order, other keys that end in "_token",
/// extra_special_tokens and additional_special_tokens. With added_tokens_decoder, special_tokens_map.json counts for
/// nothing; else it wins over tokenizer_config.json. Throws format.tokenizer naming file and key.
std::vector<NamedToken> named_tokens(const TokenizerConfig& config);

/// Adds those that `json`, a tokenizer.json, lacks to its added_tokens. Throws format.vocabulary, naming file and
/// token, where one has no id: its file says another than the next free one, or that is a piece's. A file that is no
/// tokenizer.json stays as it is.
void add_named_tokens(TokenizerJson& json, const TokenizerConfig& config);

/// Throws that error where `named` says another id than `id`.
void check_id(const NamedToken& named, int64_t id);

}  // namespace deltaw::text
