#include "preview.h"

#include <fmt/format.h>

#include "core/progress.h"
#include "output.h"

namespace deltaw::cli {
namespace {

std::string count(const Json& value) {
  return format_count(value.get<int64_t>());
}
std::string bytes(const Json& value) {
  return format_bytes(value.get<double>());
}
std::string text(const Json& value) {
  return value.get<std::string>();
}

std::string words(const Json& list, size_t most) {
  std::string line;
  for (size_t i = 0; i < list.size() && i < most; ++i) line += (i == 0 ? "" : " ") + text(list[i]);
  if (list.size() > most) line += fmt::format(" ... ({} in all)", list.size());
  return line;
}

std::string model_lines(const Json& model) {
  std::string lines = fmt::format("model    {}\n         {}, {} parameters, {} on {} ({})\n", text(model["path"]),
                                  text(model["model_type"]), count(model["parameters"]), text(model["dtype"]),
                                  text(model["device"]), text(model["dtype_reason"]));
  if (const auto found = model.find("quantisation"); found != model.end()) {
    lines += fmt::format("         {} linear layers in {}, off by {:.3g} % on average, {:.3g} % at worst ({})\n",
                         count((*found)["layers"]), text((*found)["type"]), 100 * (*found)["mean_error"].get<double>(),
                         100 * (*found)["worst_error"].get<double>(), text((*found)["worst_layer"]));
  }
  return lines;
}

std::string adapter_lines(const Json& adapter) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& layer : adapter["layers"]) {
    rows.push_back({"       " + text(layer["module"]),
                    fmt::format("{} of {}", layer["hit"].get<int64_t>(), layer["total"].get<int64_t>())});
  }
  std::string lines = fmt::format("adapter  {}{}\n", text(adapter["method"]), rows.empty() ? "" : " on") + table(rows);
  if (const Json& from = adapter["goes_on_from"]; !from.is_null()) {
    lines += fmt::format("         goes on from {}\n", text(from));
  }
  if (const std::string trained = text(adapter["base_tensors"]); !trained.empty()) {
    lines += fmt::format("         {}\n", trained);
  }
  if (!adapter["also_trained"].empty()) {
    lines += fmt::format("         and {} as a whole\n", words(adapter["also_trained"], 8));
  }
  lines += fmt::format("         trains {} of {} parameters ({:.3g} %), about {} on disk\n",
                       count(adapter["trained_parameters"]), count(adapter["all_parameters"]),
                       100 * adapter["share"].get<double>(), bytes(adapter["file_bytes"]));
  return lines;
}

std::string data_lines(const Json& data) {
  return fmt::format("data     {} rows to train on, {} to evaluate on\n", count(data["train_rows"]),
                     count(data["validation_rows"]));
}

std::string training_lines(const Json& training, const Json& memory) {
  return fmt::format(
      "training {} steps of {} rows, learning rate {:g}, seed {}\n"
      "memory   about {}: base {}, adapter and optimiser {}, activations and gradients {}, program {}\n",
      count(training["steps"]), training["rows_per_step"].get<int64_t>(), training["learning_rate"].get<double>(),
      training["seed"].get<int64_t>(), bytes(memory["total_bytes"]), bytes(memory["base_bytes"]),
      bytes(memory["adapter_bytes"]), bytes(memory["activation_bytes"]), bytes(memory["program_bytes"]));
}

}  // namespace

std::string preview_text(const Json& preview, const std::string& rows) {
  return model_lines(preview["model"]) + adapter_lines(preview["adapter"]) + data_lines(preview["data"]) + rows +
         training_lines(preview["training"], preview["memory"]);
}

}  // namespace deltaw::cli
