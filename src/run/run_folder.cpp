#include "run/run_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapt/adapter_folder.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "run/shown.h"
#include "run/task_keys.h"
#include "text/tokenizer/tokenizer_files.h"
#include "train/run_checkpoint.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLog = "log.jsonl";
constexpr const char* kSettings = "run.json";
constexpr const char* kResults[] = {"train_results.json", "eval_results.json", "all_results.json"};

bool is_result(const std::string& name) {
  return std::find(std::begin(kResults), std::end(kResults), name) != std::end(kResults);
}

/// What a run leaves in output_dir besides its checkpoints.
bool is_run_file(const std::string& name) {
  return is_adapter_name(name) || text::is_tokenizer_name(name) || is_result(name) || name == kLog ||
         name == kSettings || name == "README.md" || name == "generation_config.json" || name == train::kTrainerState;
}

bool is_checkpoint(const std::string& name) {
  return checkpoint_step(name).has_value();
}

}  // namespace

Claim run_claim(const RunSettings& settings) {
  Claim claim{.folder = settings.train.output_dir,
              .overwrite = settings.output.overwrite_output_dir,
              .adopts = settings.output.adopt_output_dir,
              .resumes = train::resumes(settings.train),
              .goes_on_from = settings.from.adapter_name_or_path};
  claim.known = [](const std::string& name) {
    return is_run_file(name) || is_checkpoint(name) || train::is_checkpoint_file(name) || is_shown_folder(name);
  };
  // A checkpoint that is not this run's would be taken for one by resuming.
  claim.in_the_way = [folder = claim.folder, resumes = claim.resumes](const std::string& name) {
    return is_run_file(name) || is_read_as_model(name) ||
           (!resumes && is_checkpoint(name) && train::is_whole_checkpoint(folder / name));
  };
  claim.result = [](const std::string& name) {
    return is_read_as_model(name) || is_checkpoint(name) || name == "all_results.json";
  };
  return claim;
}

fs::path begin_run(const Claim& claim, const Json& settings, const NameTest& planned) {
  const fs::path& folder = claim.folder;
  std::error_code unseen;
  fs::create_directories(folder, unseen);
  Adding adding{.logs = {kLog},
                .in_the_way = [&](const std::string& name) { return claim.in_the_way(name) || planned(name); }};
  // The adapter that training goes on from is read until the one that comes of it replaces it.
  const bool goes_on_here = !claim.goes_on_from.empty() && fs::equivalent(folder, claim.goes_on_from, unseen);
  if (!claim.resumes) {
    adding.outdated = [&](const std::string& name) {
      return !goes_on_here || !(is_adapter_name(name) || text::is_tokenizer_name(name));
    };
  }
  const bool new_log = !claim.resumes || !fs::exists(folder / kLog, unseen);
  add_to_folder(
      folder,
      [&](const fs::path& inside) {
        write_json(inside / kSettings, settings, KeyOrder::kept);
        if (new_log) write_file(inside / kLog, "");
      },
      adding);
  if (!new_log) record_log(folder, kLog, /*complete=*/false);
  return folder / kLog;
}

fs::path end_run(const fs::path& folder, const FillFolder& fill, const Warn& warn) {
  const NameTest outdated = [](const std::string& name) { return is_adapter_name(name) || is_result(name); };
  try {
    add_to_folder(folder, fill, {.outdated = outdated});
    return folder;
  } catch (const Error& error) {
    if (error.id() != "config.output-foreign") throw;
    if (warn) warn(error.what());
  }
  fs::path other = folder / "adapter";
  for (int i = 2; fs::exists(fs::symlink_status(other)); ++i) other = folder / fmt::format("adapter-{}", i);
  write_folder(other, fill);
  return other;
}

Json write_results(const fs::path& folder, const Json& train, const Json& eval) {
  Json all = train;
  for (const auto& [key, value] : eval.items()) all[key] = value;
  write_json(folder / "train_results.json", train);
  if (!eval.empty()) write_json(folder / "eval_results.json", eval);
  write_json(folder / "all_results.json", all);
  return all;
}

Inputs inputs_of(const RunSettings& settings) {
  return inputs_of(settings.base.model_name_or_path, settings.adapters(), settings.data, settings.tasks->named_files(),
                   settings.asked.file);
}

Json settings_beside(const fs::path& adapter) {
  const fs::path file = adapter / "run.json";
  return fs::exists(file) ? read_config_file(file) : Json::object();
}

}  // namespace deltaw::run
