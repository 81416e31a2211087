#include "run/claim.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapt/adapter_folder.h"
#include "core/held_folder.h"
#include "core/printable.h"
#include "data/find_files.h"
#include "deltaw/error.h"
#include "io/resolve_model.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

fs::path real(const fs::path& path) {
  std::error_code failed;
  const fs::path whole = fs::weakly_canonical(fs::absolute(path, failed), failed);
  return failed ? path : whole;
}

/// The way from `folder` to `path`; empty where that does not lie in it.
fs::path inside(const fs::path& path, const fs::path& folder) {
  const fs::path way = real(path).lexically_relative(real(folder));
  return way.empty() || *way.begin() == ".." ? fs::path() : way;
}

[[noreturn]] void refuse(const fs::path& output, const Input& input, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.output-is-input",
               .what = fmt::format("{}: {} ({})", what, input.name, printable(input.path.string())),
               .where = output.string(),
               .fix = fix});
}

void add_file(Inputs& inputs, const std::string& name, const std::string& path, Input::Kind kind = Input::Kind::file) {
  if (!path.empty()) inputs.push_back({kind, name, path});
}

/// What the names lead to; a folder of a data set is read as a whole.
void add_files(Inputs& inputs, const std::string& name, const DataFiles& files) {
  for (const fs::path& path : data::paths_of(files)) {
    std::error_code unseen;
    inputs.push_back({fs::is_directory(path, unseen) ? Input::Kind::rows : Input::Kind::file, name, path});
  }
}

void refuse_inputs(const Claim& claim, const Manifest& manifest, const Inputs& inputs) {
  for (const Input& input : inputs) {
    const fs::path way = inside(input.path, claim.folder);
    if (way.empty()) continue;
    if (way == ".") {
      const bool own = input.path == claim.goes_on_from;
      if (own || input.kind != Input::Kind::model) continue;
      refuse(claim.folder, input, "output_dir is a folder that is read from", "choose another output_dir");
    }
    const std::string name = way.begin()->string();
    const bool recorded = manifest.records().contains(name);
    if (claim.resumes && recorded) continue;
    if (!recorded && !claim.in_the_way(name)) continue;
    refuse(claim.folder, input, fmt::format("{} would be replaced, and is read", printable(name)),
           "choose another output_dir, or move the file elsewhere");
  }
}

/// Names that are there and that deltaw wrote, or that the user says it did.
std::vector<std::string> owned(const Manifest& manifest, const std::vector<std::string>& adopted) {
  std::vector<std::string> names = adopted;
  for (const auto& [name, contents] : manifest.records()) {
    std::error_code unseen;
    if (fs::exists(fs::symlink_status(manifest.folder() / name, unseen))) names.push_back(name);
  }
  return names;
}

void refuse_foreign(const Claim& claim, const Manifest& manifest, const std::vector<std::string>& adopted) {
  const auto is_adopted = [&](const std::string& name) {
    return std::find(adopted.begin(), adopted.end(), name) != adopted.end();
  };
  const auto obstacles = obstacles_of(
      manifest, [&](const std::string& name) { return claim.in_the_way(name) && !is_adopted(name); }, Look::sizes);
  std::string fix = "move them away, or choose another output_dir";
  if (!claim.adopts && !adoptable(claim.folder, claim.known).empty()) {
    fix += "; if deltaw wrote them (earlier versions left no record of it), add --adopt_output_dir true";
  }
  refuse_obstacles(claim.folder, obstacles, "config.output-foreign", fix);
}

}  // namespace

Inputs inputs_of(const std::string& base, const std::vector<std::string>& adapters, const DataOptions& data,
                 const std::vector<std::pair<std::string, std::string>>& more, const std::string& keys_file) {
  Inputs inputs;
  if (!base.empty()) add_file(inputs, "the base", io::resolve_model(base).string(), Input::Kind::model);
  for (const std::string& adapter : adapters) add_file(inputs, "an adapter", adapter, Input::Kind::model);
  add_file(inputs, "the configuration", keys_file);
  add_files(inputs, "train_file", data.train_file);
  add_files(inputs, "validation_file", data.validation_file);
  add_files(inputs, "test_file", data.test_file);
  add_file(inputs, "dataset_dir", data.dataset_dir, Input::Kind::rows);
  for (const auto& [key, path] : more) add_file(inputs, key, path);
  return inputs;
}

void refuse_input(const std::string& key, const std::string& file, const Inputs& inputs) {
  std::error_code unseen;
  if (file.empty() || !fs::is_regular_file(file, unseen)) return;
  const std::string name = fs::path(file).filename().string();
  const std::string what = key + " is a file that is read", fix = "choose another " + key;
  for (const Input& input : inputs) {
    if (fs::equivalent(file, input.path, unseen)) refuse(file, input, what, fix);
    const bool read = input.kind == Input::Kind::rows ||
                      (input.kind == Input::Kind::model &&
                       (is_read_as_model(name) || text::is_tokenizer_name(name) ||
                        Manifest(real(file).parent_path()).records().contains(real(file).filename().string())));
    if (read && fs::is_directory(input.path, unseen) && !inside(file, input.path).empty())
      refuse(file, input, what, fix);
  }
}

void refuse_one_file(const std::string& key, const std::string& file, const std::string& other_key,
                     const std::string& other) {
  if (file.empty() || other.empty() || real(file) != real(other)) return;
  throw Error({.id = "config.conflict",
               .what = fmt::format("{} and {} are one file", key, other_key),
               .where = file,
               .fix = "name two files"});
}

void check_claim(const Claim& claim, const Inputs& inputs) {
  std::error_code unseen;
  if (!fs::exists(claim.folder, unseen)) return;
  if (!fs::is_directory(claim.folder, unseen)) {
    throw Error({.id = "config.output-exists",
                 .what = "output_dir is a file",
                 .where = claim.folder.string(),
                 .fix = "name a folder"});
  }
  refuse_held(claim.folder);
  const Manifest manifest(claim.folder);
  refuse_inputs(claim, manifest, inputs);
  const std::vector<std::string> adopted =
      claim.adopts ? adoptable(claim.folder, claim.known) : std::vector<std::string>();
  for (const std::string& name : owned(manifest, adopted)) {
    if (claim.overwrite || claim.resumes || !claim.result(name)) continue;
    throw Error({.id = "config.output-exists",
                 .what = fmt::format("output_dir already holds a result of deltaw ({})", printable(name)),
                 .where = claim.folder.string(),
                 .fix = "choose another output_dir, or add --overwrite_output_dir; a run goes on by "
                        "--resume_from_checkpoint true"});
  }
  refuse_foreign(claim, manifest, adopted);
}

void adopt_known(const Claim& claim) {
  if (!claim.adopts) return;
  adopt(claim.folder, adoptable(claim.folder, claim.known));
}

}  // namespace deltaw::run
