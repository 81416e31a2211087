#include "temporary_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "deltaw/error.h"

namespace deltaw::cli {

TemporaryFolder::TemporaryFolder() {
  std::error_code ignored;
  const std::filesystem::path parent = std::filesystem::temp_directory_path(ignored);
  std::string name = (parent / "deltaw-XXXXXX").string();
  if (!::mkdtemp(name.data())) {
    throw Error({.id = "io.unwritable",
                 .what = std::string("no temporary folder can be made: ") + std::strerror(errno),
                 .where = parent.empty() ? "TMPDIR" : parent.string(),
                 .fix = "set TMPDIR to a folder you may write to"});
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace deltaw::cli
