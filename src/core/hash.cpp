#include "core/hash.h"

#include <fcntl.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "core/descriptor.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

std::string hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

[[noreturn]] void fail_read(const std::filesystem::path& path) {
  throw Error({.id = "io.unreadable",
               .what = "cannot read the file: " + std::string(std::strerror(errno)),
               .where = path.string(),
               .fix = "check that you may read it"});
}

}  // namespace

std::string xxh128(std::string_view bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

bool is_xxh128(std::string_view text) {
  return text.size() == 2 * sizeof(XXH128_canonical_t) && text.find_first_not_of("0123456789abcdef") == text.npos;
}

FileHash xxh128_of_file(const std::filesystem::path& path, int64_t most) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.number() < 0) fail_read(path);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> room(1 << 18);
  int64_t total = 0;
  while (total < most) {
    const auto wanted = static_cast<size_t>(std::min<int64_t>(most - total, static_cast<int64_t>(room.size())));
    const ssize_t got = ::read(file.number(), room.data(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_read(path);
    if (got == 0) break;
    XXH3_128bits_update(state.get(), room.data(), static_cast<size_t>(got));
    total += got;
  }
  return {hex(XXH3_128bits_digest(state.get())), total};
}

}  // namespace deltaw
