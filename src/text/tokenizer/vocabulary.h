// Pieces and their ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/tokenizer_value.h"

namespace deltaw::text {

class Vocabulary {
 public:
  Vocabulary() = default;

  /// `part` is an object from piece to id; ids may be left out. Throws format.vocabulary for an empty one, for an id
  /// that two pieces share, and for one far beyond the number of pieces.
  explicit Vocabulary(const TokenizerValue& part);

  /// Pieces by id; the last id of a piece that is there twice counts. Throws format.vocabulary, naming `part`, where
  /// there are none.
  Vocabulary(std::vector<std::string> pieces, const TokenizerValue& part);

  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  int32_t id(std::string_view piece) const {  // -1 when absent
    const auto found = ids_.find(piece);
    return found == ids_.end() ? -1 : found->second;
  }
  bool has(int64_t id) const { return id >= 0 && id < bound() && present_[static_cast<size_t>(id)]; }
  const std::string& piece(int64_t id) const { return pieces_[static_cast<size_t>(id)]; }

  int64_t size() const { return size_; }                                  // pieces
  int64_t bound() const { return static_cast<int64_t>(pieces_.size()); }  // every id is less
  size_t longest() const { return longest_; }                             // bytes of the longest piece

 private:
  void index();

  std::vector<std::string> pieces_;  // by id; never resized after construction, ids_ points into it
  std::vector<bool> present_;        // which ids have a piece
  std::unordered_map<std::string_view, int32_t> ids_;
  int64_t size_ = 0;
  size_t longest_ = 0;
};

}  // namespace deltaw::text
