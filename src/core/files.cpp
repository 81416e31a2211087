#include "core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <streambuf>
#include <vector>

#include "core/descriptor.h"
#include "core/json.h"
#include "core/text_file.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// Buffers what a stream writes to a file descriptor and keeps the first reason of a failure.
class DescriptorBuffer : public std::streambuf {
 public:
  explicit DescriptorBuffer(int descriptor) : descriptor_(descriptor), room_(1 << 16) {
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

/// A name in the same folder that no other writer of this or another process takes.
fs::path temporary_name(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  const std::string mark = ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
  return path.parent_path() / ("." + path.filename().string() + mark);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void write_through(Descriptor& file, const fs::path& shown, const std::function<void(std::ostream&)>& write) {
  DescriptorBuffer buffer(file.number());
  std::ostream stream(&buffer);
  write(stream);
  stream.flush();
  if (buffer.failure() != 0) fail_write(shown, "cannot write", buffer.failure());
  if (!stream) {
    throw Error({.id = "io.unwritable",
                 .what = "the stream failed while the file was written",
                 .where = shown.string(),
                 .fix = "check the disk and the path, then try again"});
  }
  if (::fsync(file.number()) != 0 && errno != EINVAL && errno != EROFS) fail_write(shown, "cannot flush", errno);
  if (!file.close()) fail_write(shown, "cannot close", errno);
}

Json sorted_outside(const Json& value) {
  std::map<std::string, const Json*> members;
  for (const auto& [key, member] : value.items()) members.emplace(key, &member);
  Json result = Json::object();
  for (const auto& [key, member] : members) result[key] = *member;
  return result;
}

/// Pipes and devices are written as they are: there is nothing to rename onto.
bool is_special(const fs::path& path, struct stat& status) {
  if (::stat(path.c_str(), &status) != 0) return false;
  if (S_ISDIR(status.st_mode)) fail_write(path, "cannot write", EISDIR);
  return !S_ISREG(status.st_mode);
}

}  // namespace

void write_file(const fs::path& given, const std::function<void(std::ostream&)>& write) {
  struct stat status = {};
  if (is_special(given, status)) {
    Descriptor device(::open(given.c_str(), O_WRONLY | O_CLOEXEC));
    if (device.number() < 0) fail_write(given, "cannot open", errno);
    return write_through(device, given, write);
  }
  // A link stays a link; the file it leads to is replaced.
  std::error_code ignored;
  const fs::path path = fs::is_symlink(given, ignored) && status.st_nlink > 0 ? fs::canonical(given) : given;
  const fs::path temporary = temporary_name(path);
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file.number() < 0) fail_write(given, "cannot create the file", errno);
  try {
    if (status.st_nlink > 0) ::fchmod(file.number(), status.st_mode & 07777);
    write_through(file, given, write);
    if (std::rename(temporary.c_str(), path.c_str()) != 0) fail_write(given, "cannot put the file in its place", errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  flush_to_disk(folder_of(path));
}

void write_file(const fs::path& path, std::string_view text) {
  write_file(path, [text](std::ostream& out) { out.write(text.data(), static_cast<std::streamsize>(text.size())); });
}

void write_json(const fs::path& path, const Json& value, KeyOrder order) {
  std::string text;
  try {
    // nlohmann::json keeps its keys sorted, on every level.
    text = order == KeyOrder::sorted             ? nlohmann::json(value).dump(2)
           : order == KeyOrder::outermost_sorted ? sorted_outside(value).dump(2)
                                                 : value.dump(2);
  } catch (const nlohmann::json::exception& cause) {
    throw Error({.id = "internal.utf8",
                 .what = std::string("a text for the file is not UTF-8: ") + cause.what(),
                 .where = path.string(),
                 .fix = "report this as a bug"});
  }
  write_file(path, text + '\n');
}

std::string read_file(const fs::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) {
    const int code = errno;
    const bool absent = code == ENOENT || code == ENOTDIR;
    throw Error({.id = absent ? "io.not-found" : "io.unreadable",
                 .what = std::string("cannot read the file: ") + std::strerror(code),
                 .where = path.string(),
                 .fix = absent ? "correct the path" : "check that you may read it"});
  }
  if (S_ISDIR(status.st_mode)) {
    throw Error({.id = "io.unreadable",
                 .what = "this is a folder, a file was expected",
                 .where = path.string(),
                 .fix = "give the name of a file in it"});
  }
  std::string text;
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ssize_t got = file.number() < 0 ? -1 : 1;
  text.reserve(static_cast<size_t>(status.st_size));
  std::vector<char> room(1 << 16);
  while (got > 0) {
    got = ::read(file.number(), room.data(), room.size());
    if (got < 0 && errno == EINTR)
      got = 1;
    else if (got > 0)
      text.append(room.data(), static_cast<size_t>(got));
  }
  if (got == 0) return text;
  throw Error({.id = "io.unreadable",
               .what = std::string("cannot read the file: ") + std::strerror(errno),
               .where = path.string(),
               .fix = "check that you may read it"});
}

Json read_json(const fs::path& path) {
  return parse_json(read_utf8(path), path.string());
}

}  // namespace deltaw
