#include "run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "adapt/adapter_folder.h"
#include "core/files.h"
#include "core/progress.h"
#include "deltaw/error.h"
#include "deltaw/version.h"
#include "output.h"
#include "text/tokenizer/tokenizer_files.h"
#include "train/run_checkpoint.h"

namespace deltaw::cli {
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

std::string text_or(const Json& values, const char* key, const std::string& otherwise) {
  const auto found = values.find(key);
  return found != values.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

/// What the rows were read from, without its folder.
std::string data_name(const Json& settings) {
  const Json files = settings.value("train_file", Json());
  const bool several = files.is_array() && !files.empty() && files[0].is_string();
  fs::path name = several ? files[0].get<std::string>() : text_or(settings, "train_file", "");
  if (name.empty()) name = text_or(settings, "dataset_dir", "");
  if (!name.has_filename()) name = name.parent_path();
  return name.filename().string() + (several && files.size() > 1 ? fmt::format(" and {} more", files.size() - 1) : "");
}

std::string data_sentence(const Json& settings, const Json& preview) {
  const std::string task = text_or(settings, "task_name", "");
  const std::string file = data_name(settings);
  const Json& data = preview["data"];
  return fmt::format(
      "{} ({} rows to train on, {} to evaluate on)", !task.empty() ? "The task " + task : "`" + file + "`",
      format_count(data["train_rows"].get<int64_t>()), format_count(data["validation_rows"].get<int64_t>()));
}

std::string metrics_table(const Json& results) {
  std::string rows;
  for (const auto& [key, value] : results.items()) {
    if (!key.starts_with("eval_") || !value.is_number_float()) continue;
    if (key.ends_with("_runtime") || key.ends_with("_per_second")) continue;
    rows += fmt::format("| {} | {:.4f} |\n", key.substr(5), value.get<double>());
  }
  return rows.empty() ? "" : "\n## Evaluation\n\n| metric | value |\n|---|---|\n" + rows;
}

std::string front_matter(const Json& settings, const ModelCard& card) {
  std::string base = text_or(settings, "model_name_or_path", "");
  return fmt::format("---\nbase_model: {}\nlibrary_name: peft\npipeline_tag: {}\ntags:\n- deltaw\n- {}\n---\n\n",
                     Json(base).dump(), card.pipeline_tag, text_or(settings, "method", "lora"));
}

}  // namespace

Claim run_claim(const Setup& setup) {
  Claim claim{.folder = setup.train.output_dir,
              .overwrite = setup.output.overwrite_output_dir,
              .adopts = setup.output.adopt_output_dir,
              .resumes = train::resumes(setup.train),
              .goes_on_from = setup.from.adapter_name_or_path};
  claim.known = [](const std::string& name) {
    return is_run_file(name) || is_checkpoint(name) || train::is_checkpoint_file(name);
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

fs::path end_run(const fs::path& folder, const FillFolder& fill) {
  const NameTest outdated = [](const std::string& name) { return is_adapter_name(name) || is_result(name); };
  try {
    add_to_folder(folder, fill, {.outdated = outdated});
    return folder;
  } catch (const Error& error) {
    if (error.id() != "config.output-foreign") throw;
    warning(error.what());
  }
  fs::path other = folder / "adapter";
  for (int i = 2; fs::exists(fs::symlink_status(other)); ++i) other = folder / fmt::format("adapter-{}", i);
  write_folder(other, fill);
  return other;
}

std::string model_card(const Json& settings, const ModelCard& card, const Json& preview, const Json& results) {
  const Json& adapter = preview["adapter"];
  const std::string base = text_or(settings, "model_name_or_path", "");
  std::string layers;
  for (const Json& layer : adapter["layers"]) {
    if (layer["hit"] == 0) continue;
    layers += fmt::format("{}`{}` ({} of {})", layers.empty() ? "" : ", ", layer["module"].get<std::string>(),
                          layer["hit"].get<int64_t>(), layer["total"].get<int64_t>());
  }
  std::string text =
      front_matter(settings, card) + fmt::format("# {} adapter\n\n", adapter["method"].get<std::string>());
  text += fmt::format("An update of `{}`, trained by deltaw {}: {} parameters ({:.3g} % of the model) on {}.\n\n", base,
                      DELTAW_VERSION, format_count(adapter["trained_parameters"].get<int64_t>()),
                      100 * adapter["share"].get<double>(), layers.empty() ? "no linear layer" : layers);
  text += "## Data\n\n" + data_sentence(settings, preview) + ".\n";
  if (!preview["data"]["labels"].empty()) text += "\nLabels: " + preview["data"]["labels"].dump() + ".\n";
  text += metrics_table(results);
  text += "\n## Training\n\nThe settings, ready to be run again by `deltaw train run.json`:\n\n```json\n" +
          settings.dump(2, ' ', false, Json::error_handler_t::replace) + "\n```\n";
  const bool new_tokens = settings.contains("add_tokens") || settings.contains("add_special_tokens") ||
                          preview["model"].contains("vocab_size");
  const std::string resize = !new_tokens ? ""
                                         : "tokenizer = AutoTokenizer.from_pretrained(\"THIS_FOLDER\")\n"
                                           "if len(tokenizer) > base.get_input_embeddings().num_embeddings:\n"
                                           "    base.resize_token_embeddings(len(tokenizer))\n";
  const bool one_file = base.ends_with(".gguf");  // which transformers reads in part only
  text += fmt::format("\n## Use\n\n```sh\ndeltaw {} --adapter_name_or_path THIS_FOLDER {}\n{}```\n\n", card.command,
                      card.command_arguments,
                      one_file ? fmt::format("deltaw convert {} --output_dir base    # for transformers\n", base) : "");
  text += fmt::format(
      "```python\nfrom peft import PeftModel\nfrom transformers import {}{}\n\n"
      "base = {}.from_pretrained({}{})\n{}"
      "model = PeftModel.from_pretrained(base, \"THIS_FOLDER\")\n```\n",
      card.python_class, new_tokens ? ", AutoTokenizer" : "", card.python_class,
      one_file ? "\"base\"" : Json(base).dump(), card.load_arguments, resize);
  return text;
}

Json write_results(const fs::path& folder, const Json& train, const Json& eval) {
  Json all = train;
  for (const auto& [key, value] : eval.items()) all[key] = value;
  write_json(folder / "train_results.json", train);
  if (!eval.empty()) write_json(folder / "eval_results.json", eval);
  write_json(folder / "all_results.json", all);
  return all;
}

Json settings_of(const fs::path& adapter) {
  const fs::path file = adapter / "run.json";
  return fs::exists(file) ? read_config_file(file) : Json::object();
}

}  // namespace deltaw::cli
