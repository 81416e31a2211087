// Files that hold rows column by column: Parquet, and Arrow's files and streams.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "deltaw/options.h"

namespace deltaw::io {

/// Takes a row and its number in the file, from 1.
using TakeColumnRow = std::function<void(Json& row, int64_t number)>;

/// Calls `take` with every row of a Parquet file as an object, in order. Lists and structs become lists and objects,
/// numbers, truth values, texts and nulls themselves; decimals, dates, times and UUIDs are texts; bytes that are no
/// UTF-8 are JSON's binary type, empty. All of Parquet's encodings but the old BIT_PACKED, without compression or with
/// snappy, gzip or zstd. One row group's columns, as they lie in the file, and one page of each are in memory at a
/// time. Source: https://parquet.apache.org/docs/file-format/ Throws io.*; format.parquet for a damaged or hostile file
/// and for what is not read (naming it), format.encoding for a text that is no UTF-8.
void each_parquet_row(const std::filesystem::path& file, const TakeColumnRow& take);

/// The same of an Arrow file ("ARROW1", Feather's second version) or stream, as `datasets` writes it; bodies as they
/// are or packed by zstd. One batch and the dictionaries are in memory at a time. Source:
/// https://arrow.apache.org/docs/format/Columnar.html Throws io.*; format.arrow, format.encoding.
void each_arrow_row(const std::filesystem::path& file, const TakeColumnRow& take);

}  // namespace deltaw::io
