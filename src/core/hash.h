// XXH3-128: names a content among others. No protection against somebody who makes two of one hash.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace deltaw {

/// 32 hexadecimal digits.
std::string xxh128(std::string_view bytes);
/// Whether `text` is written as one.
bool is_xxh128(std::string_view text);

struct FileHash {
  std::string hash;
  int64_t bytes = 0;  // read
};

/// Of the file's first `most` bytes, or of all where it is shorter. Follows no link. Throws io.unreadable.
FileHash xxh128_of_file(const std::filesystem::path& path, int64_t most = INT64_MAX);

}  // namespace deltaw
