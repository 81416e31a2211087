#include "io/hub/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace deltaw::io::hub {
namespace {

constexpr auto kBetweenTries = std::chrono::milliseconds(100);
constexpr mode_t kMode = 0664;  // users who share a cache wait for each other

/// Whether the file is still the one of that name: whoever held it may have removed it.
bool is_in_place(int number, const std::filesystem::path& path) {
  struct stat opened = {}, named = {};
  return ::fstat(number, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& path, const std::function<void()>& told) : file_(-1) {
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  for (bool waiting = false;;) {
    file_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kMode));
    if (file_.number() < 0) return;
    if (::flock(file_.number(), LOCK_EX | LOCK_NB) == 0) {
      if (is_in_place(file_.number(), path)) return;
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) return;
    if (!waiting) told();
    waiting = true;
    std::this_thread::sleep_for(kBetweenTries);
  }
}

}  // namespace deltaw::io::hub
