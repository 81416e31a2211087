// One column of one batch of an Arrow file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/arrow_schema.h"

namespace deltaw::io {

class ArrowArray;

/// The values of each dictionary, in the order in which its batches came.
using ArrowDictionaries = std::map<int64_t, std::vector<std::shared_ptr<const ArrowArray>>>;

/// Nodes and buffers of a batch in the order in which its columns take them.
class ArrowBatch {
 public:
  /// `body` must outlive what is made of the batch. Throws ColumnError.
  ArrowBatch(const FlatTable& batch, std::string_view body);

  int64_t length() const { return length_; }
  uint64_t next_length();  // of the next node
  std::string_view next_buffer();
  uint64_t next_variadic_count();
  /// What was unpacked, for who keeps the arrays.
  std::vector<std::unique_ptr<std::string>> take_unpacked() { return std::move(unpacked_); }

 private:
  int64_t length_ = 0;
  FlatVector nodes_, buffers_, variadic_;
  uint64_t node_ = 0, buffer_ = 0, variadic_at_ = 0;
  bool packed_ = false;
  std::string_view body_;
  uint64_t may_unpack_;
  std::vector<std::unique_ptr<std::string>> unpacked_;
};

class ArrowArray {
 public:
  /// Takes the nodes and buffers of `field`, which must outlive it. Throws ColumnError where they are too short.
  ArrowArray(const ArrowField& field, ArrowBatch& batch, const ArrowDictionaries& dictionaries);

  uint64_t length() const { return length_; }
  /// Throws ColumnError where offsets lead outside of the buffers.
  Json value(uint64_t row, Allowance& allowance) const;

 private:
  Json content(uint64_t row, Allowance& allowance) const;
  Json from_dictionary(uint64_t row, Allowance& allowance) const;
  Json number(uint64_t row) const;
  Json run_value(uint64_t row, Allowance& allowance) const;
  Json items(uint64_t begin, uint64_t end, Allowance& allowance) const;
  std::string_view text(uint64_t row) const;
  std::string_view view(uint64_t row) const;
  std::pair<uint64_t, uint64_t> range(uint64_t row) const;
  std::string_view at(uint64_t row, uint64_t width) const;
  [[noreturn]] void refuse(const std::string& what) const;

  const ArrowField& field_;
  const ArrowDictionaries& dictionaries_;
  uint64_t length_ = 0;
  std::string_view validity_, first_, data_;  // first_: numbers, offsets, truth values, views
  std::vector<std::string_view> views_;       // what views lead into
  std::vector<ArrowArray> children_;
};

}  // namespace deltaw::io
