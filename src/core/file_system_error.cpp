#include "core/file_system_error.h"

#include <cerrno>
#include <string>

#include "core/descriptor.h"

namespace deltaw {
namespace {

std::string way_out(int code) {
  switch (code) {
    case EACCES:
    case EPERM:
      return "check that you may enter its folders, and read or write there";
    case ELOOP:
      return "mend the link: it leads to itself";
    default:
      return advice(code);
  }
}

}  // namespace

Error named(const std::filesystem::filesystem_error& error) {
  const int code = error.code().default_error_condition().value();
  const bool between_two = !error.path2().empty();
  return Error({.id = is_full_disk(code) ? "io.full-disk" : "io.unreadable",
                .what = error.code().message(),
                .where = error.path1().string() + (between_two ? " -> " + error.path2().string() : ""),
                .fix = way_out(code)});
}

void refuse_unseen(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code code, ignored;
  const fs::file_type type = fs::status(path, code).type();
  if (type == fs::file_type::none) throw named({"", path, code});
  if (type != fs::file_type::not_found || !fs::is_symlink(path, ignored)) return;
  throw Error({.id = "io.not-found",
               .what = "the link leads to nothing that is there: " + fs::read_symlink(path, ignored).string(),
               .where = path.string(),
               .fix = "fetch what it leads to, or remove the link"});
}

}  // namespace deltaw
