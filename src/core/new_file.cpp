#include "core/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <streambuf>
#include <string>
#include <vector>

#include "core/descriptor.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// A name in the same folder that no other writer of this or another process takes.
fs::path temporary_name(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  const std::string mark = ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
  return path.parent_path() / ("." + path.filename().string() + mark);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// Pipes and devices are written as they are: there is nothing to rename onto.
bool is_special(const fs::path& path, struct stat& status) {
  if (::stat(path.c_str(), &status) != 0) return false;
  if (S_ISDIR(status.st_mode)) fail_write(path, "cannot write", EISDIR);
  return !S_ISREG(status.st_mode);
}

}  // namespace

/// Buffers what a stream writes to a file descriptor and keeps the first reason of a failure.
class NewFile::Buffer : public std::streambuf {
 public:
  explicit Buffer(int descriptor) : descriptor_(descriptor), room_(1 << 16) {
    setp(room_.data(), room_.data() + room_.size());
  }

  int failure() const { return failure_; }

 protected:
  int_type overflow(int_type symbol) override {
    if (!drain()) return traits_type::eof();
    if (!traits_type::eq_int_type(symbol, traits_type::eof())) sputc(traits_type::to_char_type(symbol));
    return traits_type::not_eof(symbol);
  }

  std::streamsize xsputn(const char* text, std::streamsize count) override {
    if (count <= 0) return 0;
    if (count <= epptr() - pptr()) {
      std::memcpy(pptr(), text, static_cast<size_t>(count));
      pbump(static_cast<int>(count));
      return count;
    }
    return drain() && send(text, static_cast<size_t>(count)) ? count : 0;
  }

  int sync() override { return drain() ? 0 : -1; }

 private:
  bool drain() {
    const bool sent = send(pbase(), static_cast<size_t>(pptr() - pbase()));
    setp(room_.data(), room_.data() + room_.size());
    return sent;
  }

  bool send(const char* text, size_t count) {
    while (count > 0 && failure_ == 0) {
      const ssize_t done = ::write(descriptor_, text, count);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) {
        failure_ = errno;
      } else {
        text += done;
        count -= static_cast<size_t>(done);
      }
    }
    return failure_ == 0;
  }

  int descriptor_;
  int failure_ = 0;
  std::vector<char> room_;
};

struct NewFile::Parts {
  fs::path shown, path, temporary;  // as it was asked for; where it will be; no temporary one beside a pipe or device
  Descriptor file;
  Buffer buffer;
  std::ostream stream;

  Parts(fs::path shown, fs::path path, fs::path temporary, Descriptor opened)
      : shown(std::move(shown)),
        path(std::move(path)),
        temporary(std::move(temporary)),
        file(std::move(opened)),
        buffer(file.number()),
        stream(&buffer) {}

  void check() const {
    if (buffer.failure() != 0) fail_write(shown, "cannot write", buffer.failure());
    if (stream) return;
    throw Error({.id = "io.unwritable",
                 .what = "the stream failed while the file was written",
                 .where = shown.string(),
                 .fix = "check the disk and the path, then try again"});
  }
};

NewFile::NewFile(const fs::path& given) {
  struct stat status = {};
  if (is_special(given, status)) {
    Descriptor device(::open(given.c_str(), O_WRONLY | O_CLOEXEC));
    if (device.number() < 0) fail_write(given, "cannot open", errno);
    parts_ = std::make_unique<Parts>(given, given, fs::path(), std::move(device));
    return;
  }
  std::error_code ignored;
  const fs::path path = fs::is_symlink(given, ignored) && status.st_nlink > 0 ? fs::canonical(given) : given;
  const fs::path temporary = temporary_name(path);
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file.number() < 0) fail_write(given, "cannot create the file", errno);
  if (status.st_nlink > 0) ::fchmod(file.number(), status.st_mode & 07777);
  parts_ = std::make_unique<Parts>(given, path, temporary, std::move(file));
}

NewFile::~NewFile() {
  if (!parts_->temporary.empty()) ::unlink(parts_->temporary.c_str());
}

void NewFile::write(std::string_view piece) {
  parts_->stream.write(piece.data(), static_cast<std::streamsize>(piece.size()));
  parts_->check();
}

std::ostream& NewFile::stream() {
  return parts_->stream;
}

void NewFile::finish() {
  Parts& parts = *parts_;
  parts.stream.flush();
  parts.check();
  if (::fsync(parts.file.number()) != 0 && errno != EINVAL && errno != EROFS)
    fail_write(parts.shown, "cannot flush", errno);
  if (!parts.file.close()) fail_write(parts.shown, "cannot close", errno);
  if (parts.temporary.empty()) return;
  if (std::rename(parts.temporary.c_str(), parts.path.c_str()) != 0)
    fail_write(parts.shown, "cannot put the file in its place", errno);
  parts.temporary.clear();
  flush_to_disk(folder_of(parts.path));
}

}  // namespace deltaw
