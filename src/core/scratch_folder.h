// Folders in which files are made before they take their places.
#pragma once

#include <filesystem>

#include "core/descriptor.h"

namespace deltaw {

/// An empty file in a scratch folder, as long as that is one.
inline constexpr const char* kScratchMark = ".deltaw-scratch";

/// A hidden folder of a random name in `parent`, removed with all that is in it. One whose process was killed is
/// removed when the next is made in the same parent: its mark says what it is, and a lock that its process is gone.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::filesystem::path& parent);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Takes the mark away, so that the folder can take another name.
  void unmark();

 private:
  std::filesystem::path path_;
  Descriptor lock_;
};

/// Whether `path` is such a folder: by its name, and by its mark or for being empty.
bool is_scratch(const std::filesystem::path& path);

/// Whether `path` lies in one.
bool is_in_scratch(const std::filesystem::path& path);

/// Removes those of `parent` whose process is gone.
void remove_old_scratch(const std::filesystem::path& parent);

}  // namespace deltaw
