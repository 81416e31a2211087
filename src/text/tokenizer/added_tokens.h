// Tokens beside the model's vocabulary: found in the text before the model sees it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/parts.h"

namespace deltaw::text {

struct AddedToken {
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;
  bool normalized = false;  // searched in the normalized text, in normalized form
  bool special = false;
};

class AddedTokens {
 public:
  /// Reads `added_tokens`. Ids go to tokens as the library gives them: that of the model's piece, else the next free
  /// one. Throws format.vocabulary where the file says another id.
  AddedTokens(const TokenizerValue& part, const Vocabulary& vocabulary, const Normalizer* normalizer);

  /// Adds `token`, or puts it in the place of the one with the same content. `id` is its content's.
  void add(const AddedToken& token, int64_t id, const Normalizer* normalizer);

  /// Pieces of the normalized text with the added tokens cut out.
  Pieces extract(std::string text, const Normalizer* normalizer) const;

  std::optional<int64_t> id(std::string_view content) const;
  const AddedToken* find(int64_t id) const;
  const std::string& decoding_form(int64_t id) const;  // `id` is of an added token
  bool is_special(std::string_view content) const;
  int64_t bound() const { return tokens_.empty() ? 0 : tokens_.rbegin()->first + 1; }
  const std::map<int64_t, AddedToken>& all() const { return tokens_; }

 private:
  /// Finds the longest of some texts at each place, from left to right.
  class Trie {
   public:
    Trie() { nodes_.emplace_back(); }
    void insert(std::string_view text, int64_t id);
    bool empty() const { return nodes_.size() == 1; }
    /// Bytes of the longest text that begins at `at`, or 0.
    size_t match(std::string_view text, size_t at, int64_t& id) const;
    bool may_start(char c) const { return starts_[static_cast<unsigned char>(c)]; }

   private:
    struct Node {
      std::map<char, int32_t> next;
      int64_t id = -1;
    };
    std::vector<Node> nodes_;
    std::array<bool, 256> starts_{};
  };

  void set(AddedToken token, int64_t id, const Normalizer* normalizer);
  void build_tries();
  void cut(const Aligned& text, const Trie& trie, std::vector<Piece>& out) const;

  std::map<int64_t, AddedToken> tokens_;
  std::map<int64_t, std::string> normalized_;  // where the normalized form differs
  std::unordered_map<std::string, int64_t> ids_;
  Trie raw_;
  Trie normal_;
};

}  // namespace deltaw::text
