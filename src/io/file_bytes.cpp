#include "io/file_bytes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "deltaw/error.h"
#include "io/column_error.h"

namespace deltaw::io {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what, bool absent = false) {
  throw Error({.id = absent ? "io.not-found" : "io.unreadable",
               .what = what,
               .where = path.string(),
               .fix = absent ? "correct the path" : "give a file that you may read"});
}

}  // namespace

FileBytes::FileBytes(const std::filesystem::path& path)
    : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (file_.number() < 0) fail(path, std::string("cannot open the file: ") + std::strerror(errno), errno == ENOENT);
  struct stat status = {};
  if (::fstat(file_.number(), &status) != 0 || !S_ISREG(status.st_mode)) fail(path, "this is no regular file");
  size_ = static_cast<uint64_t>(status.st_size);
}

std::string FileBytes::read(uint64_t offset, uint64_t length) const {
  if (offset > size_ || length > size_ - offset) {
    throw ColumnError(fmt::format("{} bytes should stand at {}, and the file has {} bytes", length, offset, size_));
  }
  std::string bytes(static_cast<size_t>(length), '\0');
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count =
        ::pread(file_.number(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path_, std::string("cannot read the file: ") + std::strerror(errno));
    if (count == 0) {
      throw Error({.id = "io.file-cut",
                   .what = fmt::format("the file had {} bytes when it was opened and has fewer now", size_),
                   .where = path_.string(),
                   .fix = "fetch the file again, and leave it alone while it is in use"});
    }
    done += static_cast<size_t>(count);
  }
  return bytes;
}

}  // namespace deltaw::io
