#include "data/dataset_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/file_system_error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/printable.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<fs::path>;
using Strings = std::vector<std::string>;

struct Folder {
  bool whole = false;  // the one split in it is not named
  std::map<std::string, Paths> splits;
};

[[noreturn]] void refuse(const fs::path& where, const std::string& what, const std::string& fix,
                         const char* id = "config.dataset-folder") {
  throw Error{{.id = id, .what = what, .where = where.string(), .fix = fix}};
}

// ---- as save_to_disk writes them ----

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

/// The texts of a list in one of the folder's files.
Strings names_of(const fs::path& file, const char* list, const char* key) {
  const Json json = read_json(file);
  Strings names;
  const Json* items = json.is_object() && json.contains(list) ? &json[list] : nullptr;
  if (items != nullptr && items->is_array()) {
    for (const Json& item : *items) {
      const Json* name = key == nullptr ? &item : item.is_object() && item.contains(key) ? &item[key] : nullptr;
      if (name == nullptr || !name->is_string() || !is_plain_name(name->get<std::string>())) {
        refuse(file, fmt::format("'{}' holds something else than names", list), "Save the data set anew.");
      }
      names.push_back(name->get<std::string>());
    }
  }
  if (names.empty()) refuse(file, fmt::format("it has no names in '{}'", list), "Save the data set anew.");
  return names;
}

Paths saved_files(const fs::path& folder) {
  const fs::path state = folder / "state.json";
  const Json json = read_json(state);
  for (const char* key : {"_indices_files", "_indices_data_files"}) {
    if (json.is_object() && json.contains(key) && !json[key].is_null() && !json[key].empty()) {
      refuse(state, "its rows were chosen or shuffled, and only their numbers are saved",
             "Save it after dataset.flatten_indices().");
    }
  }
  Paths files;
  for (const std::string& name : names_of(state, "_data_files", "filename")) files.push_back(folder / name);
  return files;
}

Folder saved_dataset(const fs::path& folder) {
  const Json state = read_json(folder / "state.json");
  const Json* split = state.is_object() && state.contains("_split") ? &state["_split"] : nullptr;
  const bool named = split != nullptr && split->is_string();
  Folder result{.whole = true, .splits = {}};
  result.splits[named ? split->get<std::string>() : "train"] = saved_files(folder);
  return result;
}

Folder saved_dict(const fs::path& folder) {
  Folder result;
  for (const std::string& name : names_of(folder / "dataset_dict.json", "splits", nullptr)) {
    result.splits[name] = saved_files(folder / name);
  }
  return result;
}

// ---- by the names of files ----

/// Files beside the data that have its endings.
bool is_about_the_data(const std::string& name) {
  static const std::set<std::string> names = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json",
                                              "state.json",        "config.json",        "package.json",
                                              "license.txt",       "readme.txt",         "requirements.txt"};
  std::string small = name;
  std::transform(small.begin(), small.end(), small.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return names.contains(small);
}

/// Relative paths of the data files below a folder, sorted.
Paths data_files(const fs::path& folder) {
  constexpr size_t kMost = 100'000;
  constexpr int kDeepest = 6;
  Paths files;
  std::error_code failed;
  size_t seen = 0;
  for (fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied, failed), end;
       !failed && entry != end; entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (++seen > kMost) refuse(folder, "it holds too many files to be a data set", "Name the files themselves.");
    if (entry->is_directory(ignored)) {
      if (name.starts_with('.') || name.starts_with("__") || entry.depth() >= kDeepest)
        entry.disable_recursion_pending();
      continue;
    }
    if (name.starts_with('.') || is_about_the_data(name) || named_format(name) == Format::unknown) continue;
    files.push_back(entry->path().lexically_relative(folder));
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// The split that a file's or folder's name names: a word of it, between signs, digits or the ends.
std::string split_in(const std::string& name) {
  constexpr const char* kBetween = "-._ 0123456789";
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find_first_of(kBetween, begin), name.size());
    const std::string word = name.substr(begin, end - begin);
    for (const Split split : {Split::train, Split::validation, Split::test}) {
      const Strings& words = split_words(split);
      if (std::find(words.begin(), words.end(), word) != words.end()) return split_name(split);
    }
    begin = end + 1;
  }
  return {};
}

/// "train_sft" of data/train_sft-00000-of-00002.parquet.
std::string split_of_shard(const fs::path& file) {
  const std::string name = file.filename().string();
  if (file.parent_path() != "data") return {};
  const size_t of = name.rfind("-of-");
  const auto digits = [&](size_t begin, size_t end) {
    return end > begin &&
           std::all_of(name.begin() + static_cast<std::ptrdiff_t>(begin),
                       name.begin() + static_cast<std::ptrdiff_t>(end), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (of == std::string::npos || of < 7 || name[of - 6] != '-' || !digits(of - 5, of)) return {};
  return digits(of + 4, std::min(name.find('.', of), name.size())) ? name.substr(0, of - 6) : std::string();
}

std::string split_of_folder(const fs::path& file) {
  for (const fs::path& part : file.parent_path()) {
    if (const std::string split = split_in(part.string()); !split.empty()) return split;
  }
  return {};
}

std::string split_of_name(const fs::path& file) {
  fs::path name = file.filename();
  while (name.has_extension() && (named_format(name) != Format::unknown)) name = name.stem();
  return split_in(name.string());
}

/// Files of several kinds are several things; so are those of one name in several folders.
void check_alike(const fs::path& folder, const std::string& split, const Paths& files) {
  std::set<std::string> endings, folders;
  for (const fs::path& file : files) {
    endings.insert(ending_of(file));
    folders.insert(file.parent_path().string());
  }
  const std::string fix =
      fmt::format("Name the files of one of them: --train_file '{}'.",
                  printable((folder / files.front()).parent_path().string() + "/*" + ending_of(files.front())));
  if (endings.size() > 1) {
    refuse(folder, fmt::format("its files of split {} are of several kinds: {}", split, fmt::join(endings, ", ")), fix);
  }
  if (folders.size() > 1) {
    Strings shown;
    for (const std::string& name : folders) shown.push_back(name.empty() ? "." : printable(name));
    refuse(folder, fmt::format("its files of split {} lie in several folders: {}", split, fmt::join(shown, ", ")), fix);
  }
}

Folder by_names(const fs::path& folder) {
  Paths files = data_files(folder);
  // A text beside a table is about it.
  const bool tables =
      std::any_of(files.begin(), files.end(), [](const fs::path& file) { return named_format(file) != Format::text; });
  if (tables) std::erase_if(files, [](const fs::path& file) { return named_format(file) == Format::text; });
  Folder result;
  for (const auto split_of : {split_of_shard, split_of_folder, split_of_name}) {
    for (const fs::path& file : files) {
      if (const std::string split = split_of(file); !split.empty()) result.splits[split].push_back(file);
    }
    if (!result.splits.empty()) break;
  }
  if (result.splits.empty() && !files.empty()) {
    result.whole = true;
    result.splits["train"] = files;
  }
  for (auto& [split, paths] : result.splits) {
    check_alike(folder, split, paths);
    for (fs::path& path : paths) path = folder / path;
  }
  return result;
}

Folder read_folder(const fs::path& folder) {
  std::error_code ignored;
  refuse_unseen(folder);
  if (!fs::is_directory(folder, ignored)) {
    refuse(folder, "there is no such folder", "Correct the path.", "config.no-files");
  }
  Folder result = fs::exists(folder / "dataset_dict.json", ignored) ? saved_dict(folder)
                  : fs::exists(folder / "state.json", ignored)      ? saved_dataset(folder)
                                                                    : by_names(folder);
  if (result.splits.empty()) {
    refuse(folder, "this folder holds no files of data",
           "Give a folder of .parquet, .arrow, .jsonl, .csv files, or a file.", "config.no-files");
  }
  return result;
}

const Paths* find_split(const Folder& folder, Split split) {
  for (const std::string& word : split_words(split)) {
    if (const auto found = folder.splits.find(word); found != folder.splits.end()) return &found->second;
  }
  return nullptr;
}

[[noreturn]] void refuse_split(const fs::path& path, const Folder& folder, const std::string& what) {
  Strings names;
  for (const auto& [name, files] : folder.splits) names.push_back(printable(name));
  refuse(path, fmt::format("{}; its splits are {}", what, fmt::join(names, ", ")),
         fmt::format("Name the files of one of them: --train_file '{}'.",
                     printable(folder.splits.begin()->second.front().string())),
         "config.no-files");
}

}  // namespace

const Strings& split_words(Split split) {
  static const Strings train = {"train", "training"}, validation = {"validation", "valid", "dev", "val"},
                       test = {"test", "testing", "eval", "evaluation"};
  return split == Split::train ? train : split == Split::validation ? validation : test;
}

Paths files_below(const fs::path& path, std::optional<Split> split, bool as_dataset) {
  const Folder folder = read_folder(path);
  const bool only = folder.splits.size() == 1;
  if ((folder.whole && !as_dataset) || (!split && only)) return folder.splits.begin()->second;
  if (!split) refuse_split(path, folder, "this folder holds several splits");
  if (const Paths* files = find_split(folder, *split)) return *files;
  refuse_split(path, folder, fmt::format("this folder has no {} split", split_name(*split)));
}

bool has_split(const fs::path& path, Split split) {
  return find_split(read_folder(path), split) != nullptr;
}

}  // namespace deltaw::data
