#include "io/resolve_model.h"

#include <algorithm>
#include <cctype>
#include <fstream>

#include "core/file_system_error.h"
#include "core/files.h"
#include "core/json_fields.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/hub/choice.h"
#include "io/hub/names.h"
#include "io/pipeline_parts.h"

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
    const bool model = entry.path().extension() == ".gguf" || fs::exists(entry.path() / "config.json", code) ||
                       is_pipeline(entry.path());
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
  return fs::exists(folder / "config.json", code) && !find_weights(folder).empty();
}

constexpr const char* kWhole = "download the whole pipeline: deltaw download NAME";

/// The folder of a pipeline's UNet. `download` says how to fetch what is missing.
fs::path denoiser_of(const fs::path& folder, const std::string& download) {
  const fs::path file = folder / kPipelineFile;
  const Json index = read_json_object(file, "format.config");
  std::string parts;
  bool named = false;
  for (const auto& [name, part] : index.items()) {
    if (!part.is_array() || part.empty() || !part[0].is_string()) continue;  // what the pipeline lacks is [null, null]
    parts += (parts.empty() ? "" : ", ") + printable(name);
    named = named || name == kPipelineDenoiser;
  }
  if (!named) {
    fail(parts.empty() ? "the pipeline has no parts" : "the pipeline has no unet; its parts are " + parts,
         file.string(), "deltaw reads pipelines with a unet; or give the folder of one of its models");
  }
  std::error_code code;
  if (fs::is_directory(folder / kPipelineDenoiser, code)) return folder / kPipelineDenoiser;
  fail("the pipeline's unet is missing", (folder / kPipelineDenoiser).string(), download);
}

/// Whether a file is a model of Stable Diffusion as its authors' programs write it, all parts in one. The names of its
/// tensors stand at the beginning, in safetensors as in files of torch.save.
bool is_single_file(const fs::path& file) {
  constexpr size_t kNames = size_t{4} << 20;
  const std::string ending = file.extension().string();
  if (ending != ".safetensors" && ending != ".ckpt" && ending != ".pt") return false;
  std::string begin(kNames, '\0');
  std::ifstream stream(file, std::ios::binary);
  stream.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  begin.resize(static_cast<size_t>(stream.gcount()));
  return begin.find("model.diffusion_model.") != std::string::npos;
}

[[noreturn]] void fail_single_file(const fs::path& file) {
  fail("this is a Stable Diffusion model in one file, whose tensors have other names (model.diffusion_model...)",
       file.string(),
       "write it as a folder once, in Python: diffusers.StableDiffusionPipeline.from_single_file(\"" +
           file.filename().string() + "\").save_pretrained(\"FOLDER\")");
}

/// Of a folder without a model: those of a pipeline's parts in it, or a model in one file.
void refuse_parts(const fs::path& folder, const std::string& download) {
  std::error_code code;
  if (fs::exists(folder / "config.json", code)) return;
  const bool has_denoiser = fs::exists(folder / kPipelineDenoiser / "config.json", code);
  std::string parts;
  for (const char* part : kPipelineParts) {
    if (fs::is_directory(folder / part, code)) parts += (parts.empty() ? "" : ", ") + std::string(part);
  }
  if (has_denoiser) {
    fail("the folder has neither a config.json nor the model_index.json of a pipeline; it holds " + parts,
         folder.string(), "give the folder of the UNet: " + (folder / kPipelineDenoiser).string());
  }
  if (fs::is_directory(folder / "vae", code) || fs::is_directory(folder / "text_encoder", code)) {
    fail("the folder holds parts of a pipeline (" + parts + "), and no unet/config.json", folder.string(), download);
  }
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    if (is_single_file(entry.path())) fail_single_file(entry.path());
  }
}

/// Of a folder that holds no checkpoint a pipeline's UNet or the only GGUF file; else the folder. Throws where there
/// are several.
fs::path model_in(const fs::path& folder, const std::string& download) {
  if (is_checkpoint(folder)) return folder;
  if (is_pipeline(folder)) return denoiser_of(folder, download);
  refuse_parts(folder, download);
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

/// The GGUF file of a folder that is of a quantisation, as a download chooses it; the first of several parts. Throws
/// config.hub-choice.
fs::path quantised_in(const fs::path& folder, const hub::RepoName& name) {
  hub::Listing listing;
  std::error_code code;
  for (fs::recursive_directory_iterator at(folder, code), end; at != end; at.increment(code)) {
    if (!code && at->is_regular_file(code)) listing.files.push_back({.path = at->path().lexically_relative(folder)});
  }
  std::sort(listing.files.begin(), listing.files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return folder / hub::choose(listing, name, {}).files.front().path;
}

/// That of "organisation/name:Q4_K_M" in the local cache, or of "folder:Q4_K_M"; empty for another kind of name.
fs::path find_quantised(const std::string& given) {
  const size_t colon = given.rfind(':');
  if (colon == std::string::npos || given.find('/', colon) != std::string::npos) return {};
  const std::string quantisation = given.substr(colon + 1);
  const fs::path folder = hub::expanded(given.substr(0, colon));
  std::error_code code;
  if (!quantisation.empty() && fs::is_directory(folder, code)) {
    return quantised_in(folder, {.id = folder.string(), .quantisation = quantisation});
  }
  hub::RepoName name;
  try {
    name = hub::parse_repo_name(given);
  } catch (const Error&) {
    return {};  // a path with a colon
  }
  const fs::path found = snapshot(hub::cache_folder() / hub::cache_name(name.id, hub::RepoType::model));
  const std::string download = "download it: deltaw download " + given;
  if (found.empty()) fail("'" + given + "' is not in the local cache", hub::cache_folder().string(), download);
  try {
    return quantised_in(found, name);
  } catch (const Error& error) {
    fail("the copy in the local cache does not answer to the name: " + error.parts().what, found.string(),
         error.parts().fix + "; or " + download);
  }
}

}  // namespace

bool is_pipeline(const fs::path& folder) {
  std::error_code code;
  return fs::exists(folder / kPipelineFile, code);
}

fs::path resolve_model(const std::string& model_name_or_path) {
  if (model_name_or_path.empty()) {
    fail("the name of the model is empty", "key 'model_name_or_path'", "give a folder or a name from the hub");
  }
  const fs::path path = hub::expanded(model_name_or_path);
  std::error_code code;
  if (fs::is_directory(path, code)) return model_in(path, kWhole);
  if (fs::exists(path, code)) {
    if (is_gguf(path)) return path;
    if (is_single_file(path)) fail_single_file(path);
    fail("this is a file; a model is a folder or a GGUF file", path.string(), "give the folder that holds config.json");
  }
  refuse_unseen(path);
  if (const fs::path file = find_quantised(model_name_or_path); !file.empty()) return file;
  if (!hub::is_repo_id(model_name_or_path)) fail_no_folder(path);

  const fs::path cache = hub::cache_folder();
  const fs::path model = cache / hub::cache_name(model_name_or_path, hub::RepoType::model);
  const fs::path found = snapshot(model);
  if (found.empty() && path.extension() == ".gguf") fail_no_folder(path);
  const std::string download = "download it: deltaw download " + model_name_or_path;
  for (const char* config : {"config.json", "adapter_config.json", kPipelineFile}) {
    if (!found.empty() && fs::exists(found / config, code)) return model_in(found, download);
  }
  if (!found.empty() && model_in(found, download) != found) return model_in(found, download);
  if (!found.empty()) fail("the copy in the cache is not whole: it has no config.json", found.string(), download);
  const auto near = nearest_names(model_name_or_path, hub::cached_models(cache));
  fail("'" + model_name_or_path + "' is neither a folder nor a model in the local cache", cache.string(),
       near.empty() ? download : suggest_names(model_name_or_path, near) + " or " + download);
}

}  // namespace deltaw::io
