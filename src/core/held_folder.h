// A folder that one process at a time works in.
#pragma once

#include <filesystem>

#include "core/descriptor.h"

namespace deltaw {

/// Holds a folder, which must exist, as long as this lives, and no longer than the process does, however that ends.
/// Where the file system has no locks, everybody may hold it.
class HeldFolder {
 public:
  /// Throws config.output-busy where another one holds it.
  explicit HeldFolder(const std::filesystem::path& folder);

 private:
  Descriptor lock_;
};

/// Throws config.output-busy where somebody holds the folder, this process too; a folder that is not there is free.
void refuse_held(const std::filesystem::path& folder);

}  // namespace deltaw
