// From a model's name to its folder.
#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "core/files.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"
#include "io/gguf.h"

namespace deltaw::io {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// "~" and "~/..." as a shell expands them, for names that come from a file.
fs::path expanded(const std::string& name) {
  if (name != "~" && !name.starts_with("~/")) return name;
  return fs::path(variable("HOME")) / fs::path(name.size() > 2 ? name.substr(2) : "");
}

fs::path cache_folder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string folder = variable(name); !folder.empty()) return expanded(folder);
  }
  if (const std::string home = variable("HF_HOME"); !home.empty()) return expanded(home) / "hub";
  const std::string general = variable("XDG_CACHE_HOME");
  return (general.empty() ? expanded("~/.cache") : fs::path(general)) / "huggingface" / "hub";
}

/// "name" or "organisation/name", with the letters that the hub allows.
bool is_hub_name(const std::string& name) {
  size_t start = 0;
  for (int part = 0; part < 2; ++part) {
    const size_t slash = name.find('/', start);
    const std::string word = name.substr(start, slash == std::string::npos ? slash : slash - start);
    const bool letters = std::all_of(word.begin(), word.end(), [](unsigned char symbol) {
      return std::isalnum(symbol) || symbol == '-' || symbol == '_' || symbol == '.';
    });
    if (word.empty() || word[0] == '.' || !letters) return false;
    if (slash == std::string::npos) return true;
    start = slash + 1;
  }
  return false;
}

std::string folder_name(std::string name) {
  const size_t slash = name.find('/');
  if (slash != std::string::npos) name.replace(slash, 1, "--");
  return "models--" + name;
}

/// Hub names that the cache holds.
std::vector<std::string> cached_names(const fs::path& cache) {
  std::vector<std::string> names;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(cache, code)) {
    std::string name = entry.path().filename().string();
    if (!name.starts_with("models--")) continue;
    name = name.substr(8);
    const size_t dashes = name.find("--");
    if (dashes != std::string::npos) name.replace(dashes, 2, "/");
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The folder of the revision that refs/main names, or of the only one there is; empty where neither holds.
fs::path snapshot(const fs::path& model) {
  const fs::path snapshots = model / "snapshots";
  std::error_code code;
  if (fs::exists(model / "refs" / "main", code)) {
    std::string revision = read_file(model / "refs" / "main");
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) revision.pop_back();
    const bool plain = !revision.empty() && revision[0] != '.' && revision.find('/') == std::string::npos;
    if (plain && fs::is_directory(snapshots / revision, code)) return snapshots / revision;
  }
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(snapshots, code)) folders.push_back(entry.path());
  return folders.size() == 1 ? folders[0] : fs::path();
}

[[noreturn]] void fail(const std::string& what, const std::string& where, const std::string& fix) {
  throw Error({.id = "config.model-not-found", .what = what, .where = where, .fix = fix});
}

[[noreturn]] void fail_no_folder(const fs::path& path) {
  std::vector<std::string> siblings;
  std::error_code code;
  const fs::path given = path.has_filename() ? path : path.parent_path();
  const fs::path parent = given.has_parent_path() ? given.parent_path() : fs::path(".");
  for (const auto& entry : fs::directory_iterator(parent, code)) {
    const std::string name = entry.path().filename().string();
    const bool model = entry.path().extension() == ".gguf" || fs::exists(entry.path() / "config.json", code);
    if (!name.starts_with('.') && model) siblings.push_back(name);
  }
  std::sort(siblings.begin(), siblings.end());
  const std::string hint = suggest_names(given.filename().string(), siblings);
  fail(path.extension() == ".gguf" ? "there is no such file" : "there is no such folder", path.string(),
       hint.empty() ? "correct the path" : hint);
}

/// Whether `folder` is one of Hugging Face: an adapter's, or a model's with its weights.
bool is_checkpoint(const fs::path& folder) {
  std::error_code code;
  if (fs::exists(folder / "adapter_config.json", code)) return true;
  return fs::exists(folder / "config.json", code) &&
         std::any_of(std::begin(kWeights), std::end(kWeights), [&](const std::string weights) {
           return fs::exists(folder / weights, code) || fs::exists(folder / (weights + kIndexSuffix), code);
         });
}

/// The only GGUF file of a folder that holds no checkpoint; else the folder. Throws where there are several.
fs::path model_in(const fs::path& folder) {
  if (is_checkpoint(folder)) return folder;
  std::vector<std::string> files;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    if (is_gguf(entry.path())) files.push_back(entry.path().filename().string());
  }
  if (files.empty()) return folder;
  if (files.size() == 1) return folder / files[0];
  std::sort(files.begin(), files.end());
  std::string list;
  for (const std::string& file : files) list += (list.empty() ? "" : ", ") + file;
  fail("the folder holds " + std::to_string(files.size()) + " GGUF files: " + list, folder.string(),
       "give one of them: model_name_or_path: " + (folder / files[0]).string());
}

}  // namespace

fs::path resolve_model(const std::string& model_name_or_path) {
  if (model_name_or_path.empty()) {
    fail("the name of the model is empty", "key 'model_name_or_path'", "give a folder or a name from the hub");
  }
  const fs::path path = expanded(model_name_or_path);
  std::error_code code;
  if (fs::is_directory(path, code)) return model_in(path);
  if (fs::exists(path, code)) {
    if (is_gguf(path)) return path;
    fail("this is a file; a model is a folder or a GGUF file", path.string(), "give the folder that holds config.json");
  }
  if (!is_hub_name(model_name_or_path)) fail_no_folder(path);

  const fs::path cache = cache_folder();
  const fs::path model = cache / folder_name(model_name_or_path);
  const fs::path found = snapshot(model);
  if (found.empty() && path.extension() == ".gguf") fail_no_folder(path);
  const std::string download = "download it: hf download " + model_name_or_path;
  for (const char* config : {"config.json", "adapter_config.json"}) {
    if (!found.empty() && fs::exists(found / config, code)) return model_in(found);
  }
  if (!found.empty() && model_in(found) != found) return model_in(found);
  if (!found.empty()) fail("the copy in the cache is not whole: it has no config.json", found.string(), download);
  const auto near = nearest_names(model_name_or_path, cached_names(cache));
  fail("'" + model_name_or_path + "' is neither a folder nor a model in the local cache", cache.string(),
       near.empty() ? download : suggest_names(model_name_or_path, near) + " or " + download);
}

}  // namespace deltaw::io
