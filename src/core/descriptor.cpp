#include "core/descriptor.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "deltaw/error.h"

namespace deltaw {

namespace fs = std::filesystem;

bool is_full_disk(int code) {
  return code == ENOSPC || code == EDQUOT;
}

std::string advice(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return "free some space there, or choose a folder on another disk";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f)";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose a folder you may write to";
    case ENOENT:
      return "make the folder first, or correct the path";
    case ENOTDIR:
      return "a part of the path is a file; correct the path";
    case EISDIR:
      return "give the name of a file, not of a folder";
    default:
      return "check the disk and the path, then try again";
  }
}

void fail_write(const fs::path& path, const std::string& doing, int code) {
  throw Error({.id = is_full_disk(code) ? "io.full-disk" : "io.unwritable",
               .what = doing + ": " + std::strerror(code),
               .where = path.string(),
               .fix = advice(code)});
}

void flush_to_disk(const fs::path& path) {
  const Descriptor opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (opened.number() < 0) return;  // a folder that may be written but not read
  // EINVAL: the file system has no such operation.
  if (::fsync(opened.number()) != 0 && errno != EINVAL && errno != EROFS) fail_write(path, "cannot flush", errno);
}

}  // namespace deltaw
