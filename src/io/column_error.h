// What is wrong inside a file of columns, before it is known which file and row that is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "deltaw/error.h"

namespace deltaw::io {

/// Thrown by the parts of the readers; who opened the file adds its name and makes it an Error.
class ColumnError : public std::runtime_error {
 public:
  enum class Kind { damaged, unsupported, text };

  explicit ColumnError(const std::string& what, Kind kind = Kind::damaged) : std::runtime_error(what), kind_(kind) {}

  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

struct ColumnPlace {
  const char* id;    // of the error: "format.parquet"
  const char* name;  // of the format: "Parquet file"
  const std::filesystem::path& path;
  int64_t row;  // that was being read, from 1; 0 before the first
};

/// The error as it leaves the reader: format.encoding for a text, else of the place's id.
Error column_file_error(const ColumnError& error, const ColumnPlace& place);

}  // namespace deltaw::io
