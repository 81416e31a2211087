#include "io/resolve_model.h"

#include <algorithm>
#include <cctype>

#include "core/files.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/hub/names.h"

namespace deltaw::io {
namespace {

namespace fs = std::filesystem;

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
  const fs::path path = hub::expanded(model_name_or_path);
  std::error_code code;
  if (fs::is_directory(path, code)) return model_in(path);
  if (fs::exists(path, code)) {
    if (is_gguf(path)) return path;
    fail("this is a file; a model is a folder or a GGUF file", path.string(), "give the folder that holds config.json");
  }
  if (!hub::is_repo_id(model_name_or_path)) fail_no_folder(path);

  const fs::path cache = hub::cache_folder();
  const fs::path model = cache / hub::cache_name(model_name_or_path, hub::RepoType::model);
  const fs::path found = snapshot(model);
  if (found.empty() && path.extension() == ".gguf") fail_no_folder(path);
  const std::string download = "download it: deltaw download " + model_name_or_path;
  for (const char* config : {"config.json", "adapter_config.json"}) {
    if (!found.empty() && fs::exists(found / config, code)) return model_in(found);
  }
  if (!found.empty() && model_in(found) != found) return model_in(found);
  if (!found.empty()) fail("the copy in the cache is not whole: it has no config.json", found.string(), download);
  const auto near = nearest_names(model_name_or_path, hub::cached_models(cache));
  fail("'" + model_name_or_path + "' is neither a folder nor a model in the local cache", cache.string(),
       near.empty() ? download : suggest_names(model_name_or_path, near) + " or " + download);
}

}  // namespace deltaw::io
