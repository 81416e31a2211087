#include "core/scratch_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <random>

#include "core/manifest.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr const char* kScratch = ".deltaw-";
constexpr size_t kDigits = 32;

bool has_scratch_name(const fs::path& path) {
  const std::string name = path.filename().string(), prefix = kScratch;
  return name.size() == prefix.size() + kDigits && name.starts_with(prefix) &&
         name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
}

std::string random_name() {
  std::random_device random;
  std::string name = kScratch;
  while (name.size() < std::char_traits<char>::length(kScratch) + kDigits) name += "0123456789abcdef"[random() % 16];
  return name;
}

bool has_mark(const fs::path& path) {
  struct stat status = {};
  return ::lstat((path / kScratchMark).c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0;
}

bool is_empty_folder(const fs::path& path) {
  std::error_code failed;
  return fs::is_empty(path, failed) && !failed;
}

Descriptor open_folder(const fs::path& path) {
  return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

bool lock(const Descriptor& folder) {
  return folder.number() >= 0 && ::flock(folder.number(), LOCK_EX | LOCK_NB) == 0;
}

}  // namespace

ScratchFolder::ScratchFolder(const fs::path& parent) : lock_(-1) {
  remove_old_scratch(parent);
  // Another process may take a new folder, still empty and without a lock, for an old one.
  int code = EBUSY;
  for (int tries = 0; tries < 100; ++tries) {
    path_ = parent / random_name();
    if (::mkdir(path_.c_str(), 0777) != 0) fail_write(parent, "cannot create a folder in it", errno);
    lock_ = open_folder(path_);
    if (!lock(lock_) && (lock_.number() < 0 || errno == EWOULDBLOCK))
      continue;  // other errors: there are no locks here
    const Descriptor mark(::open((path_ / kScratchMark).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (mark.number() >= 0) return;
    code = errno;
    ::rmdir(path_.c_str());
    if (code != ENOENT) break;
  }
  fail_write(parent, "cannot create a file in it", code);
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (has_scratch_name(path_)) fs::remove_all(path_, ignored);
}

void ScratchFolder::unmark() {
  ::unlink((path_ / kScratchMark).c_str());
}

bool is_scratch(const fs::path& path) {
  std::error_code ignored;
  if (!has_scratch_name(path) || fs::symlink_status(path, ignored).type() != fs::file_type::directory) return false;
  return has_mark(path) || is_empty_folder(path);
}

bool is_in_scratch(const fs::path& path) {
  return std::any_of(path.begin(), path.end(), [](const fs::path& part) { return has_scratch_name(part); });
}

void remove_old_scratch(const fs::path& parent) {
  std::error_code failed;
  for (fs::directory_iterator entry(parent, failed), end; !failed && entry != end; entry.increment(failed)) {
    const fs::path& path = entry->path();
    std::error_code ignored;
    if (!has_scratch_name(path) || fs::symlink_status(path, ignored).type() != fs::file_type::directory) continue;
    const Descriptor opened = open_folder(path);
    if (!lock(opened)) continue;
    if (has_mark(path)) {
      fs::remove_all(path, ignored);
    } else if (is_empty_folder(path)) {
      ::rmdir(path.c_str());
    } else if (is_wholly_own(path)) {  // complete, but for its name
      remove_wholly_own(path);
    }
  }
}

}  // namespace deltaw
