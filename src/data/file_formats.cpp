#include "data/file_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/ascii.h"
#include "core/file_system_error.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "io/column_error.h"
#include "io/file_bytes.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;

void check_file(const fs::path& file) {
  refuse_unseen(file);
  std::error_code ignored;
  const fs::file_status status = fs::status(file, ignored);
  if (status.type() == fs::file_type::not_found) {
    throw Error{{.id = "config.not-found",
                 .what = "there is no such file",
                 .where = file.string(),
                 .fix = "Correct the path."}};
  }
  if (fs::is_directory(status)) {
    throw Error{{.id = "config.file-format",
                 .what = "this is a folder, and rows are read from one file",
                 .where = file.string(),
                 .fix = "Give the file in it."}};
  }
}

Format format_by_bytes(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return Format::unknown;  // a pipe cannot be read twice
  const io::FileBytes bytes(file);
  constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
  const std::string begin = bytes.read(0, std::min<uint64_t>(bytes.size(), kPointer.size()));
  if (begin == kPointer) {
    throw Error{{.id = "format.lfs-pointer",
                 .what = "this is not the file but the note that Git LFS leaves in its place",
                 .where = file.string(),
                 .fix = "Fetch the file: git lfs pull, or download it."}};
  }
  if (begin.starts_with(std::string_view("ARROW1\0\0", 8))) return Format::arrow;
  const bool ends = begin.starts_with("PAR1") && bytes.size() >= 12 && bytes.read(bytes.size() - 4, 4) == "PAR1";
  return ends ? Format::parquet : Format::unknown;
}

}  // namespace

std::string ending_of(const fs::path& file) {
  std::string ending = lower(file.extension().string());
  if (ending == ".gz" || ending == ".zst" || ending == ".zstd") ending = lower(file.stem().extension().string());
  return ending;
}

Format named_format(const fs::path& file) {
  const std::string ending = ending_of(file);
  if (ending == ".tsv") return Format::tsv;
  if (ending == ".csv") return Format::csv;
  if (ending == ".json" || ending == ".jsonl" || ending == ".ndjson") return Format::json;
  if (ending == ".txt") return Format::text;
  for (const char* tagged : {".conll", ".iob", ".iob2", ".bio", ".iobes", ".bioes", ".bilou"}) {
    if (ending == tagged) return Format::tagged;
  }
  if (ending == ".parquet" || ending == ".pq") return Format::parquet;
  if (ending == ".arrow" || ending == ".feather" || ending == ".ipc" || ending == ".arrows") return Format::arrow;
  return Format::unknown;
}

Format format_of(const fs::path& file) {
  check_file(file);
  const Format format = format_by_bytes(file);
  return format == Format::unknown ? named_format(file) : format;
}

bool is_of_columns(Format format) {
  return format == Format::parquet || format == Format::arrow;
}

bool holds_rows(const fs::path& file) {
  const Format format = format_of(file);
  return format != Format::text && format != Format::unknown;
}

void refuse_format(const fs::path& file, const std::string& fix) {
  const std::string ending = ending_of(file);
  throw Error{{.id = "config.file-format",
               .what = ending.empty() ? "the file has no ending"
                                      : fmt::format("files ending in '{}' are not read", printable(ending)),
               .where = file.string(),
               .fix = fix}};
}

}  // namespace deltaw::data
