// Pieces of a tokenizer.json made from older files.
#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::text {

/// The `added_tokens` of a tokenizer.json: those the configuration lists by id, then what else it names.
class AddedList {
 public:
  /// `vocabulary` is an object from piece to id; it must outlive the list.
  AddedList(const TokenizerJson& vocabulary, const TokenizerConfig& config);

  /// `token` is a string or an object with the fields of an added token. Returns its id. Of a token that is there
  /// already the flags stay; with `renew` they become those of `token` where it was added after settle().
  int64_t add(const TokenizerJson& token, bool special, bool renew = false);

  /// What is in the list now keeps its flags.
  void settle() { settled_ = list_.size(); }

  TokenizerJson take();

 private:
  const TokenizerJson& vocabulary_;
  TokenizerJson list_ = TokenizerJson::array();
  std::unordered_map<std::string, size_t> places_;  // in the list, by content
  size_t settled_ = 0;                              // the first ones of the list
  int64_t next_ = 0;
};

/// Adds the special tokens in the library's order and what else the configuration names; `defaults` names those that
/// the class has without configuration. Returns their ids by name, such as "bos_token".
TokenizerJson add_special_tokens(AddedList& added, const TokenizerConfig& config, const TokenizerJson& defaults);

/// A place in a template: `kind` is "Sequence" or "SpecialToken".
TokenizerJson place(const char* kind, const std::string& id, int64_t type_id);

/// The `special_tokens` of a template from tokens and their ids.
TokenizerJson marks(const std::vector<std::pair<std::string, TokenizerJson>>& tokens);

/// A token that a template puts before or after each text.
using Mark = std::optional<std::pair<std::string, int64_t>>;

/// The template of decoder models: the texts, each between `bos` and `eos` where there are such.
TokenizerJson plain_template(const Mark& bos, const Mark& eos);

}  // namespace deltaw::text
