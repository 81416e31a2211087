#include "data/find_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glob.h>

#include <algorithm>

#include "core/file_system_error.h"
#include "core/printable.h"

#include "data/dataset_folder.h"
#include "deltaw/error.h"

namespace deltaw {

DataFiles::DataFiles(std::string name) {
  if (!name.empty()) names_.push_back(std::move(name));
}

std::string DataFiles::text() const {
  if (names_.empty()) return {};
  const size_t more = names_.size() - 1;
  return more == 0 ? names_[0] : fmt::format("{} and {} more", names_[0], more);
}

namespace data {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_pattern(const std::string& name) {
  return name.find_first_of("*?[") != std::string::npos;
}

/// Sorted by their bytes, which is how shards are numbered.
std::vector<fs::path> matches(const std::string& pattern) {
  glob_t found = {};
  std::vector<fs::path> files;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) {
      std::error_code ignored;
      if (!fs::is_directory(found.gl_pathv[i], ignored)) files.emplace_back(found.gl_pathv[i]);
    }
  }
  ::globfree(&found);
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(printable(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 10;
  if (names.empty()) return "nothing";
  if (names.size() <= kShown) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + kShown, ", "), names.size() - kShown);
}

[[noreturn]] void refuse_pattern(const std::string& pattern) {
  fs::path folder = fs::path(pattern).parent_path();
  while (is_pattern(folder.string())) folder = folder.parent_path();
  if (folder.empty()) folder = ".";
  const bool there = is_there(folder);
  throw Error{
      {.id = "config.no-files",
       .what = there ? fmt::format("no file is called so; {} holds {}", folder.string(), some_of(names_in(folder)))
                     : fmt::format("no file is called so: there is no folder {}", folder.string()),
       .where = pattern,
       .fix = "Correct the pattern; put it in quotes, so that the shell leaves it as it is."}};
}

[[noreturn]] void refuse_missing(const std::string& name) {
  const fs::path path = name;
  refuse_unseen(path);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string last = path.filename().string();
  const bool near = !last.empty() && !nearest_names(last, names_in(folder)).empty();
  throw Error{{.id = "config.not-found",
               .what = "there is no such file",
               .where = name,
               .fix = near ? suggest_names(last, names_in(folder)) : "Correct the path."}};
}

/// "a.jsonl,b.jsonl" where that is no file itself.
std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= name.size()) {
    const size_t end = std::min(name.find(',', begin), name.size());
    if (end > begin) parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

void add_named(const std::string& name, std::optional<Split> split, std::vector<fs::path>& files) {
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) {
    for (fs::path& file : files_below(name, split)) files.push_back(std::move(file));
    return;
  }
  if (is_there(name)) {
    files.emplace_back(name);
    return;
  }
  const std::vector<std::string> parts = parts_of(name);
  if (parts.size() > 1 && (is_there(parts[0]) || is_pattern(parts[0]))) {
    for (const std::string& part : parts) add_named(part, split, files);
    return;
  }
  if (!is_pattern(name)) refuse_missing(name);
  std::vector<fs::path> found = matches(name);
  if (found.empty()) refuse_pattern(name);
  for (fs::path& file : found) files.push_back(std::move(file));
}

DataFiles as_option(const std::vector<fs::path>& files) {
  std::vector<std::string> names;
  for (const fs::path& file : files) names.push_back(file.string());
  return names;
}

}  // namespace

std::vector<fs::path> find_files(const DataFiles& files, std::optional<Split> split) {
  if (files.empty()) {
    throw Error{{.id = "config.not-found",
                 .what = "the name of the file is empty",
                 .where = "the files of rows",
                 .fix = "Give a path."}};
  }
  std::vector<fs::path> found;
  for (const std::string& name : files.names()) add_named(name, split, found);
  return found;
}

DataFiles found_files(const DataFiles& files, Split split) {
  return as_option(find_files(files, split));
}

std::vector<fs::path> paths_of(const DataFiles& files) {
  std::vector<fs::path> paths;
  for (const std::string& name : files.names()) {
    if (is_there(name)) {
      paths.emplace_back(name);
      continue;
    }
    for (const std::string& part : parts_of(name)) {
      if (!is_pattern(part)) paths.emplace_back(part);
      for (fs::path& file : is_pattern(part) ? matches(part) : std::vector<fs::path>())
        paths.push_back(std::move(file));
    }
  }
  return paths;
}

fs::path name_of(const std::vector<fs::path>& files) {
  return as_option(files).text();
}

const DataFiles& files_option(const DataOptions& options, Split split) {
  switch (split) {
    case Split::train:
      return options.train_file;
    case Split::validation:
      return options.validation_file;
    default:
      return options.test_file;
  }
}

const char* option_name(Split split) {
  return split == Split::train ? "train_file" : split == Split::validation ? "validation_file" : "test_file";
}

const char* split_name(Split split) {
  return split == Split::train ? "train" : split == Split::validation ? "validation" : "test";
}

std::optional<DataFiles> files_of_folder(const fs::path& folder, Split split) {
  try {
    if (!has_split(folder, split) && split != Split::train) return std::nullopt;
    return as_option(files_below(folder, split, /*as_dataset=*/true));
  } catch (const Error& error) {
    if (!error.id().starts_with("config.")) throw;
    ErrorParts parts = error.parts();
    parts.id = "config.dataset-dir";
    parts.where = "dataset_dir: " + parts.where;
    parts.fix += " Set task_name where it holds the files of a set known by name.";
    throw Error(std::move(parts));
  }
}

}  // namespace data
}  // namespace deltaw
