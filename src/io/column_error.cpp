#include "io/column_error.h"

#include <fmt/format.h>

#include "core/printable.h"

namespace deltaw::io {

Error column_file_error(const ColumnError& error, const ColumnPlace& place) {
  const std::string what = printable(error.what());
  const std::string file = place.path.string();
  if (error.kind() == ColumnError::Kind::text) {
    return Error({.id = "format.encoding",
                  .what = what,
                  .where = fmt::format("{}, row {}", file, place.row),
                  .fix = "write the column as UTF-8, or as bytes if it holds none of the texts"});
  }
  const bool damaged = error.kind() == ColumnError::Kind::damaged;
  return Error({.id = place.id,
                .what = damaged ? fmt::format("this is no whole {}: {}", place.name, what)
                                : fmt::format("this {} cannot be read: {}", place.name, what),
                .where = place.row > 0 ? fmt::format("{}, row {}", file, place.row) : file,
                .fix = damaged ? "write the file anew, or copy or download it again"
                               : "write it with zstd, snappy or no compression, unencrypted and in one file"});
}

}  // namespace deltaw::io
