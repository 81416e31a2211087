#include "run/model_card.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/progress.h"
#include "deltaw/version.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

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

std::string data_sentence(const Json& settings, const Json& facts) {
  const std::string task = text_or(settings, "task_name", "");
  const std::string file = data_name(settings);
  const Json& data = facts["data"];
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

std::string model_card(const Json& settings, const ModelCard& card, const Json& facts, const Json& results) {
  const Json& adapter = facts["adapter"];
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
  text += "## Data\n\n" + data_sentence(settings, facts) + ".\n";
  if (!facts["data"]["labels"].empty()) text += "\nLabels: " + facts["data"]["labels"].dump() + ".\n";
  text += metrics_table(results);
  text += "\n## Training\n\nThe settings, ready to be run again by `deltaw train run.json`:\n\n```json\n" +
          settings.dump(2, ' ', false, Json::error_handler_t::replace) + "\n```\n";
  const bool new_tokens = settings.contains("add_tokens") || settings.contains("add_special_tokens") ||
                          facts["model"].contains("vocab_size");
  const std::string resize = !new_tokens ? ""
                                         : "tokenizer = AutoTokenizer.from_pretrained(\"THIS_FOLDER\")\n"
                                           "if len(tokenizer) > base.get_input_embeddings().num_embeddings:\n"
                                           "    base.resize_token_embeddings(len(tokenizer))\n";
  const bool one_file = base.ends_with(".gguf");  // which transformers reads in part only
  text += fmt::format("\n## Use\n\n```sh\ndeltaw {} --adapter_name_or_path THIS_FOLDER {}\n{}```\n\n", card.command,
                      card.command_arguments,
                      one_file ? fmt::format("deltaw convert {} --output_dir base    # for transformers\n", base) : "");
  const size_t dot = card.python_class.find('.');
  const std::string library = dot == std::string::npos ? "transformers" : card.python_class.substr(0, dot);
  const std::string python_class = dot == std::string::npos ? card.python_class : card.python_class.substr(dot + 1);
  text += fmt::format(
      "```python\nfrom peft import PeftModel\nfrom {} import {}{}\n\n"
      "base = {}.from_pretrained({}{})\n{}"
      "model = PeftModel.from_pretrained(base, \"THIS_FOLDER\")\n```\n",
      library, python_class, new_tokens ? ", AutoTokenizer" : "", python_class,
      one_file ? "\"base\"" : Json(base).dump(), card.load_arguments, resize);
  return text;
}

}  // namespace deltaw::run
