// Words already split into tokens. Each thread that encodes has its own, so that it needs no lock.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/parts.h"

namespace deltaw::text {

class WordCache {
 public:
  /// The model's tokens of `word`, valid until the next call.
  std::span<const WordToken> tokens(const Model& model, std::string_view word) {
    if (word.size() > kLongestWord) {
      long_word_.clear();
      model.tokenize(word, long_word_);
      return long_word_;
    }
    if (slots_.empty() || words_.size() > kMostBytes || tokens_.size() > kMostTokens || used_ * 2 > kSlots) clear();
    const size_t hash = std::hash<std::string_view>{}(word);
    size_t i = hash % kSlots;
    for (; slots_[i].bytes > 0; i = (i + 1) % kSlots) {
      const Slot& slot = slots_[i];
      if (slot.hash == hash && std::string_view(words_).substr(slot.word, slot.bytes) == word) return view(slot);
    }
    const auto first = static_cast<uint32_t>(tokens_.size());
    model.tokenize(word, tokens_);
    slots_[i] = {hash, static_cast<uint32_t>(words_.size()), static_cast<uint32_t>(word.size()), first,
                 static_cast<uint32_t>(tokens_.size()) - first};
    words_ += word;
    ++used_;
    return view(slots_[i]);
  }

 private:
  static constexpr size_t kLongestWord = 128;
  static constexpr size_t kSlots = size_t{1} << 16;
  static constexpr size_t kMostBytes = size_t{1} << 20;
  static constexpr size_t kMostTokens = size_t{1} << 18;

  struct Slot {
    size_t hash = 0;
    uint32_t word = 0;
    uint32_t bytes = 0;  // 0: free
    uint32_t first = 0;
    uint32_t count = 0;
  };

  std::span<const WordToken> view(const Slot& slot) const { return {tokens_.data() + slot.first, slot.count}; }

  void clear() {
    slots_.assign(kSlots, {});
    words_.clear();
    tokens_.clear();
    used_ = 0;
  }

  std::vector<Slot> slots_;
  std::string words_;
  std::vector<WordToken> tokens_;
  std::vector<WordToken> long_word_;
  size_t used_ = 0;
};

}  // namespace deltaw::text
