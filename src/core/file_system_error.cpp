#include "core/file_system_error.h"

#include <string>

namespace deltaw {
namespace {

std::string way_out(std::errc code) {
  switch (code) {
    case std::errc::permission_denied:
    case std::errc::operation_not_permitted:
      return "check that you may enter its folders, and read or write there";
    case std::errc::read_only_file_system:
      return "choose a folder you may write to";
    case std::errc::too_many_symbolic_link_levels:
      return "mend the link: it leads to itself";
    case std::errc::no_space_on_device:
      return "free some space there, or choose a folder on another disk";
    case std::errc::not_a_directory:
      return "a part of the path is a file; correct the path";
    default:
      return "correct the path, or check the disk";
  }
}

}  // namespace

Error named(const std::filesystem::filesystem_error& error) {
  const auto code = static_cast<std::errc>(error.code().default_error_condition().value());
  const bool between_two = !error.path2().empty();
  return Error({.id = code == std::errc::no_space_on_device ? "io.full-disk" : "io.unreadable",
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
