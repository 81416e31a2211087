#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "deltaw/run.h"
#include "io/checkpoint.h"
#include "train/schedule.h"

namespace deltaw {
namespace {

/// "bert.encoder.layer.3.output.dense" -> "output.dense": what is equal in every layer. A number at the end is of the
/// layer itself: "transformer_blocks.1.ff.net.2" -> "ff.net.2".
std::string kind_of(const std::string& name) {
  size_t begin = 0, after_number = 0;
  while (begin < name.size()) {
    const size_t end = std::min(name.find('.', begin), name.size());
    if (end < name.size() &&
        std::all_of(name.begin() + static_cast<std::ptrdiff_t>(begin), name.begin() + static_cast<std::ptrdiff_t>(end),
                    [](unsigned char c) { return std::isdigit(c) != 0; })) {
      after_number = end + 1;
    }
    begin = end + 1;
  }
  return name.substr(after_number);
}

Json layer_table(const Model& model, const Adapter& adapter) {
  if (!adapter.spec().on_layers()) return Json::array();
  std::vector<std::string> order;
  std::map<std::string, std::pair<int64_t, int64_t>> counts;
  for (const Layer* layer : model.layers()) {
    if (layer->kind == LayerKind::embedding && !adapter.layer(*layer)) continue;
    const std::string kind = kind_of(layer->name);
    const auto [entry, is_new] = counts.try_emplace(kind, 0, 0);
    if (is_new) order.push_back(kind);
    entry->second.first += adapter.layer(*layer) != nullptr;
    entry->second.second += 1;
  }
  Json rows = Json::array();
  for (const std::string& kind : order) {
    rows.push_back({{"module", kind}, {"hit", counts[kind].first}, {"total", counts[kind].second}});
  }
  return rows;
}

std::string base_tensors(const MethodSpec& spec) {
  std::string words;
  for (const ActsOn what : spec.acts_on) {
    if (what == ActsOn::biases) words = "biases of the base";
    if (what == ActsOn::norms) words = "LayerNorms of the base";
    if (what == ActsOn::every_tensor) words = "every tensor of the base";
  }
  return words;
}

int64_t stored_bytes(const Adapter& adapter) {
  int64_t bytes = adapter.trained_count() * 4;
  for (const AdaptedLayer* layer : adapter.layers()) {
    for (const Param& param : layer->params.all()) {
      if (param.saved && !param.trained) bytes += static_cast<int64_t>(param.value.nbytes());
    }
  }
  if (adapter.method().saves_shared()) {
    for (const Param& param : adapter.shared().all()) bytes += static_cast<int64_t>(param.value.nbytes());
  }
  return bytes;
}

std::string dtype_word(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return "bf16";
  return dtype == at::kDouble ? "float64" : "float32";
}

std::string dtype_reason(const RunSettings& settings, const Model& model) {
  if (settings.model.dtype != "auto") return "as asked";
  return model.dtype() == at::kBFloat16 ? "auto: this machine computes bf16 natively"
                                        : "auto: this machine has no native bf16";
}

Json model_facts(const RunSettings& settings, const Model& model, int64_t parameters) {
  Json facts = {{"path", model.folder().string()},
                {"model_type", model.config().value(io::model_type_key(model.config()), std::string("?"))},
                {"parameters", parameters},
                {"dtype", dtype_word(model.dtype())},
                {"dtype_reason", dtype_reason(settings, model)},
                {"device", "cpu"}};
  if (!model.added_rows().empty()) facts["vocab_size"] = model.vocab_size();
  if (const auto error = model.quantisation_error()) {
    facts["quantisation"] = {{"type", error->type},
                             {"layers", error->layers},
                             {"mean_error", error->mean},
                             {"worst_error", error->worst},
                             {"worst_layer", error->worst_layer}};
  }
  return facts;
}

Json data_facts(const LoadedRun& run) {
  Json facts = {{"train_rows", run.train()->size()}, {"validation_rows", run.validation()->size()}};
  facts.update(run.reader->facts(run.settings.data));
  return facts;
}

}  // namespace

Json run_facts(const LoadedRun& run) {
  int64_t parameters = 0;
  for (const Parameter* parameter : run.model->parameters()) {
    if (parameter->tied_to.empty()) parameters += parameter->numel();
  }
  int64_t replaced = 0;
  for (const Parameter* parameter : run.model->parameters()) {
    if (run.adapter->overrides(*parameter) && parameter->tied_to.empty()) replaced += parameter->numel();
  }
  const int64_t trained = run.adapter->trained_count();
  const int64_t all = parameters - replaced + trained;
  const TrainOptions& options = run.settings.train;
  return {{"model", model_facts(run.settings, *run.model, parameters)},
          {"adapter",
           {{"method", run.adapter->spec().id},
            {"goes_on_from", run.settings.goes_on() ? Json(run.settings.from.adapter_name_or_path) : Json()},
            {"layers", layer_table(*run.model, *run.adapter)},
            {"base_tensors", base_tensors(run.adapter->spec())},
            {"also_trained", run.adapter->config().modules_to_save},
            {"trained_parameters", trained},
            {"all_parameters", all},
            {"share", static_cast<double>(trained) / static_cast<double>(std::max<int64_t>(1, all))},
            {"file_bytes", stored_bytes(*run.adapter)}}},
          {"data", data_facts(run)},
          {"training",
           {{"steps", train::make_schedule(options, run.train()->size()).total_steps},
            {"rows_per_step", options.per_device_train_batch_size * options.gradient_accumulation_steps},
            {"learning_rate", options.learning_rate},
            {"seed", options.seed}}},
          {"memory", memory_estimate(run)}};
}

}  // namespace deltaw
