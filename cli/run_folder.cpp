#include "run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/files.h"
#include "core/progress.h"
#include "deltaw/error.h"
#include "deltaw/version.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

// The results of a run, and what it also leaves behind.
constexpr const char* kResults[] = {"adapter_config.json", "adapter_model.safetensors", "all_results.json"};
constexpr const char* kTraces[] = {"trainer_state.json", "train_results.json", "eval_results.json", "run.json",
                                   "log.jsonl"};

std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name.starts_with("checkpoint-") && fs::exists(entry.path() / "trainer_state.json")) {
      found.push_back(entry.path());
    }
  }
  return found;
}

std::string text_or(const Json& values, const char* key, const std::string& otherwise) {
  const auto found = values.find(key);
  return found != values.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

bool is_causal(const Json& settings) {
  return text_or(settings, "task_type", "SEQ_CLS") == "CAUSAL_LM";
}

std::string data_sentence(const Json& settings, const Json& preview) {
  const std::string task = text_or(settings, "task_name", "");
  const std::string file = fs::path(text_or(settings, "train_file", "")).filename().string();
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

std::string front_matter(const Json& settings) {
  std::string base = text_or(settings, "model_name_or_path", "");
  return fmt::format("---\nbase_model: {}\nlibrary_name: peft\npipeline_tag: {}\ntags:\n- deltaw\n- {}\n---\n\n",
                     Json(base).dump(), is_causal(settings) ? "text-generation" : "text-classification",
                     text_or(settings, "method", "lora"));
}

}  // namespace

void claim_output(const fs::path& folder, bool overwrite) {
  if (fs::exists(folder) && !fs::is_directory(folder)) {
    throw Error({.id = "config.output-exists",
                 .what = "output_dir is a file",
                 .where = folder.string(),
                 .fix = "name a folder"});
  }
  if (!fs::exists(folder)) return;
  std::vector<fs::path> parts = checkpoints_in(folder);
  for (const char* name : kResults) {
    if (fs::exists(folder / name)) parts.push_back(folder / name);
  }
  if (!parts.empty() && !overwrite) {
    throw Error({.id = "config.output-exists",
                 .what = fmt::format("output_dir already holds a run ({})", parts[0].filename().string()),
                 .where = folder.string(),
                 .fix = "choose another output_dir, add --overwrite_output_dir, or go on with it by "
                        "--resume_from_checkpoint true"});
  }
  for (const char* name : kTraces) parts.push_back(folder / name);
  for (const fs::path& part : parts) fs::remove_all(part);
}

std::string model_card(const Json& settings, const Json& preview, const Json& results) {
  const Json& adapter = preview["adapter"];
  const std::string base = text_or(settings, "model_name_or_path", "");
  std::string layers;
  for (const Json& layer : adapter["layers"]) {
    if (layer["hit"] == 0) continue;
    layers += fmt::format("{}`{}` ({} of {})", layers.empty() ? "" : ", ", layer["module"].get<std::string>(),
                          layer["hit"].get<int64_t>(), layer["total"].get<int64_t>());
  }
  std::string text = front_matter(settings) + fmt::format("# {} adapter\n\n", adapter["method"].get<std::string>());
  text += fmt::format("An update of `{}`, trained by deltaw {}: {} parameters ({:.3g} % of the model) on {}.\n\n", base,
                      DELTAW_VERSION, format_count(adapter["trained_parameters"].get<int64_t>()),
                      100 * adapter["share"].get<double>(), layers.empty() ? "no linear layer" : layers);
  text += "## Data\n\n" + data_sentence(settings, preview) + ".\n";
  if (!preview["data"]["labels"].empty()) text += "\nLabels: " + preview["data"]["labels"].dump() + ".\n";
  text += metrics_table(results);
  text += "\n## Training\n\nThe settings, ready to be run again by `deltaw train run.json`:\n\n```json\n" +
          settings.dump(2, ' ', false, Json::error_handler_t::replace) + "\n```\n";
  const bool causal = is_causal(settings);
  const char* python_class = causal ? "AutoModelForCausalLM" : "AutoModelForSequenceClassification";
  const std::string labels =
      causal ? "" : fmt::format(", num_labels={}", std::max<size_t>(1, preview["data"]["labels"].size()));
  const bool new_tokens = settings.contains("add_tokens") || settings.contains("add_special_tokens");
  const std::string resize = !new_tokens ? ""
                                         : "tokenizer = AutoTokenizer.from_pretrained(\"THIS_FOLDER\")\n"
                                           "if len(tokenizer) > base.get_input_embeddings().num_embeddings:\n"
                                           "    base.resize_token_embeddings(len(tokenizer))\n";
  text += fmt::format(
      "\n## Use\n\n```sh\ndeltaw {} --adapter_name_or_path THIS_FOLDER {}\n```\n\n"
      "```python\nfrom peft import PeftModel\nfrom transformers import {}{}\n\n"
      "base = {}.from_pretrained({}{})\n{}"
      "model = PeftModel.from_pretrained(base, \"THIS_FOLDER\")\n```\n",
      causal ? "generate" : "predict", causal ? "--prompt \"...\"" : "--input_file texts.txt", python_class,
      new_tokens ? ", AutoTokenizer" : "", python_class, Json(base).dump(), labels, resize);
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
