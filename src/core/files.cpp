#include "core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

#include "core/descriptor.h"
#include "core/json.h"
#include "core/new_file.h"
#include "core/text_file.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

Json sorted_outside(const Json& value) {
  std::map<std::string, const Json*> members;
  for (const auto& [key, member] : value.items()) members.emplace(key, &member);
  Json result = Json::object();
  for (const auto& [key, member] : members) result[key] = *member;
  return result;
}

}  // namespace

void write_file(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  NewFile file(path);
  write(file.stream());
  file.finish();
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
