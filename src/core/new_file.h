// A file that is written piece by piece, and is complete or absent.
#pragma once

#include <filesystem>
#include <memory>
#include <ostream>
#include <string_view>

namespace deltaw {

/// Pieces go to a temporary file in the same folder, which takes the place of `path` at the end. What a link leads to
/// is replaced, not the link; pipes and devices get the pieces themselves. A file that is replaced keeps its mode.
class NewFile {
 public:
  /// Throws io.unwritable, io.full-disk, naming the file and the system's reason, as all of these.
  explicit NewFile(const std::filesystem::path& path);
  ~NewFile();  // without finish() `path` is as it was

  void write(std::string_view piece);
  /// For what writes to streams; finish() tells whether that went well.
  std::ostream& stream();
  /// Flushes all to disk and puts the file in its place.
  void finish();

 private:
  class Buffer;
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace deltaw
