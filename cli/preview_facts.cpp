// Collects what preview.h prints.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include "adapt/rank_allocator.h"
#include "load.h"
#include "memory_estimate.h"

namespace deltaw::cli {
namespace {

/// "bert.encoder.layer.3.output.dense" -> "output.dense": what is equal in every layer.
std::string kind_of(const std::string& name) {
  size_t begin = 0, after_number = 0;
  while (begin < name.size()) {
    const size_t end = std::min(name.find('.', begin), name.size());
    if (std::all_of(name.begin() + static_cast<std::ptrdiff_t>(begin), name.begin() + static_cast<std::ptrdiff_t>(end),
                    [](unsigned char c) { return std::isdigit(c) != 0; })) {
      after_number = end + 1;
    }
    begin = end + 1;
  }
  return after_number > 0 && after_number < name.size() ? name.substr(after_number) : name;
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

std::string dtype_reason(const Setup& setup, const Model& model) {
  if (setup.model.dtype != "auto") return "as asked";
  return model.dtype() == at::kBFloat16 ? "auto: this machine computes bf16 natively"
                                        : "auto: this machine has no native bf16";
}

Json model_facts(const Setup& setup, const Model& model, int64_t parameters) {
  Json facts = {{"path", model.folder().string()},
                {"model_type", model.config().value("model_type", std::string("?"))},
                {"parameters", parameters},
                {"dtype", dtype_word(model.dtype())},
                {"dtype_reason", dtype_reason(setup, model)},
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

Json data_facts(const Setup& setup, const Run& run) {
  Json facts = {{"train_rows", run.train()->size()}, {"validation_rows", run.validation()->size()}};
  facts.update(run.reader->facts(setup.data));
  return facts;
}

}  // namespace

Json preview(const Setup& setup, const Run& run, int64_t total_steps) {
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
  const TrainOptions& train = setup.train;
  return {{"model", model_facts(setup, *run.model, parameters)},
          {"adapter",
           {{"method", run.adapter->spec().id},
            {"goes_on_from", setup.goes_on() ? Json(setup.from.adapter_name_or_path) : Json()},
            {"layers", layer_table(*run.model, *run.adapter)},
            {"base_tensors", base_tensors(run.adapter->spec())},
            {"also_trained", run.adapter->config().modules_to_save},
            {"trained_parameters", trained},
            {"all_parameters", all},
            {"share", static_cast<double>(trained) / static_cast<double>(std::max<int64_t>(1, all))},
            {"file_bytes", stored_bytes(*run.adapter)}}},
          {"data", data_facts(setup, run)},
          {"training",
           {{"steps", total_steps},
            {"rows_per_step", train.per_device_train_batch_size * train.gradient_accumulation_steps},
            {"learning_rate", train.learning_rate},
            {"seed", train.seed}}},
          {"memory", memory_estimate(setup, run)}};
}

namespace {

// Published rates end a tenth of these or below: about 1e-2 for updates of weights, 0.3 for virtual tokens.
constexpr double kHighRate = 0.1, kHighTokenRate = 1;

/// The highest rate at which a tensor trains.
double highest_rate(const Adapter& adapter, double learning_rate) {
  double highest = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    const double rate = tensor.own_rate > 0 && learning_rate > 0 ? tensor.own_rate : tensor.rate * learning_rate;
    highest = std::max(highest, rate);
  }
  return highest;
}

std::optional<std::string> rate_doubt(const Adapter& adapter, double learning_rate) {
  const double rate = highest_rate(adapter, learning_rate);
  const bool only_tokens = adapter.parts().empty() && adapter.spec().on(ActsOn::virtual_tokens);
  if (rate <= (only_tokens ? kHighTokenRate : kHighRate)) return std::nullopt;
  return fmt::format(
      "learning_rate {:g} lets numbers of the adapter move by up to {:g} in every step, and training is likely to "
      "diverge; usual rates lie between 1e-5 and {}",
      learning_rate, rate, only_tokens ? "0.3" : "1e-2");
}

bool trains_what_was_pruned(const Adapter& adapter) {
  const auto& parts = adapter.parts();
  if (!parts.empty()) return std::any_of(parts.begin(), parts.end(), trains_what_was_pruned);
  return !adapter.frozen() && has_lost_components(adapter);
}

}  // namespace

std::vector<std::string> doubts(const Setup& setup, const Run& run) {
  std::vector<std::string> found = run.warnings;
  for (std::string& sentence : run.reader->warnings(*run.model, &*run.adapter, setup.data)) {
    found.push_back(std::move(sentence));
  }
  if (auto doubt = rate_doubt(*run.adapter, setup.train.learning_rate)) found.push_back(std::move(*doubt));
  if (const MethodSpec& spec = find_method(setup.adapter.method); spec.doubts) {
    const Json options = spec.normalized(setup.adapter.options, "options");
    for (std::string& doubt : spec.doubts(options, setup.train.learning_rate)) found.push_back(std::move(doubt));
  }
  if (setup.goes_on() && trains_what_was_pruned(*run.adapter)) {
    found.push_back(
        "the adapter lost rank components in the training before, which are not in its file: it goes on with "
        "those that are left");
  }
  if (setup.train.load_best_model_at_end && run.validation()->size() == 0) {
    found.push_back("load_best_model_at_end has no validation rows to choose by");
  }
  return found;
}

}  // namespace deltaw::cli
