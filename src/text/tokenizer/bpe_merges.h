// The merges of a BPE model and the search for the ones that apply.
#pragma once

#include <cstdint>
#include <vector>

#include "text/tokenizer/parts.h"

namespace deltaw::text {

struct Merge {
  int32_t rank = -1;  // -1: there is no such merge
  int32_t id = -1;    // of the joined piece
};

/// From a pair of ids to its merge: open addressing, filled once.
class Merges {
 public:
  /// Later merges of the same pair replace earlier ones.
  void reserve(size_t count);
  void set(int32_t left, int32_t right, Merge merge);

  Merge find(int32_t left, int32_t right) const {
    if (slots_.empty()) return {};
    const uint64_t key = key_of(left, right);
    for (size_t i = hash(key) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].merge.rank < 0 || slots_[i].key == key) return slots_[i].merge;
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static size_t hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15ull;
    return static_cast<size_t>(key >> 29);
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

/// Applies merges by rank, leftmost first, until none is left. `symbols` are the characters of one word.
void merge_all(const Merges& merges, std::vector<WordToken>& symbols);

}  // namespace deltaw::text
