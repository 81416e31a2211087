// A folder below the system's one for temporary files, there until the object ends.
#pragma once

#include <filesystem>

namespace deltaw::cli {

class TemporaryFolder {
 public:
  TemporaryFolder();  // throws io.unwritable
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace deltaw::cli
