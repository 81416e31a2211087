// The lock that huggingface_hub takes while it downloads a file.
#pragma once

#include <filesystem>
#include <functional>

#include "core/descriptor.h"

namespace deltaw::io::hub {

/// flock on a file, made with its folders, as Python's filelock takes it. Where the file system has no locks it goes
/// without: it saves a second download, and nothing depends on it.
class FileLock {
 public:
  /// Waits; `told` is called once when it must.
  FileLock(const std::filesystem::path& path, const std::function<void()>& told);

 private:
  Descriptor file_;
};

}  // namespace deltaw::io::hub
