// One column of one row group of a Parquet file, entry by entry.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/file_bytes.h"
#include "io/parquet_schema.h"

namespace deltaw::io {

/// An entry is a value, or a null or empty list somewhere above it, with the levels that say which.
class ParquetColumn {
 public:
  /// `chunk` is the file's description of the column in the row group. Throws ColumnError.
  ParquetColumn(const FileBytes& file, const ParquetNode& leaf, const ThriftValue& chunk);

  bool at_end() const { return at_end_; }
  int definition() const { return definition_; }  // of the entry that is next
  int repetition() const { return at_end_ ? 0 : repetition_; }
  /// The value of the entry, which must be defined; once.
  RawValue value();
  void advance();

 private:
  struct Page {
    std::string_view packed, levels;
    int64_t size = 0;  // unpacked
    int64_t entries = 0;
    Encoding encoding = Encoding::plain;
  };

  void load_entry();
  bool load_page();
  void load_dictionary(const ThriftValue& header, std::string_view body, int64_t size);
  void load_old_page(const ThriftValue& header, std::string_view body, int64_t size);
  void load_new_page(const ThriftValue& header, std::string_view body, int64_t size);
  std::string unpacked(std::string_view body, int64_t size) const;
  HybridReader levels(std::string_view bytes, int most) const;

  const ParquetNode& leaf_;
  std::string chunk_;      // as it lies in the file
  std::string_view rest_;  // of it
  int codec_ = 0;
  int64_t left_ = 0;  // entries that no page was read of
  std::string dictionary_bytes_;
  std::vector<RawValue> dictionary_;
  bool has_dictionary_ = false;

  std::string page_;  // unpacked
  std::string_view value_bytes_;
  Encoding encoding_ = Encoding::plain;
  std::unique_ptr<RawValues> values_;
  HybridReader repetitions_, definitions_;
  int64_t page_left_ = 0;
  int repetition_ = 0, definition_ = 0;
  bool at_end_ = false;
};

}  // namespace deltaw::io
