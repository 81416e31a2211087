// Parts of a file, read as they are asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/descriptor.h"

namespace deltaw::io {

class FileBytes {
 public:
  /// Throws io.not-found, io.unreadable.
  explicit FileBytes(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }

  /// `length` bytes from `offset` on. Throws ColumnError where the file had fewer when it was opened, io.file-cut where
  /// it has fewer by now, io.unreadable.
  std::string read(uint64_t offset, uint64_t length) const;

 private:
  std::filesystem::path path_;
  Descriptor file_;
  uint64_t size_ = 0;
};

}  // namespace deltaw::io
