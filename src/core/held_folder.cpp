#include "core/held_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "deltaw/error.h"

namespace deltaw {
namespace {

Descriptor opened_folder(const std::filesystem::path& folder) {
  return Descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/// Whether another lock is in the way.
bool is_taken(const Descriptor& folder, int kind) {
  return folder.number() >= 0 && ::flock(folder.number(), kind | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

[[noreturn]] void refuse_busy(const std::filesystem::path& folder) {
  throw Error({.id = "config.output-busy",
               .what = "another process is writing into output_dir",
               .where = folder.string(),
               .fix = "wait until it has ended, or choose another output_dir"});
}

}  // namespace

HeldFolder::HeldFolder(const std::filesystem::path& folder) : lock_(opened_folder(folder)) {
  // Who only looks (refuse_held) is in the way for a moment.
  for (int tries = 0; is_taken(lock_, LOCK_EX); ++tries) {
    if (tries == 20) refuse_busy(folder);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void refuse_held(const std::filesystem::path& folder) {
  if (is_taken(opened_folder(folder), LOCK_SH)) refuse_busy(folder);
}

}  // namespace deltaw
