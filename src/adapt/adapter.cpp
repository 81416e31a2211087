#include "deltaw/adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "adapt/adapter_file.h"
#include "adapt/builder.h"
#include "adapt/composite.h"
#include "adapt/config.h"
#include "adapt/module_names.h"
#include "adapt/peft_format.h"
#include "adapt/targets.h"
#include "core/log.h"
#include "core/patterns.h"
#include "core/suggest.h"
#include "deltaw/error.h"
#include "ops/sum.h"

namespace deltaw {
namespace {

// A pattern that no adapted layer matches is a misspelt name.
void check_patterns(const Json& options, const std::vector<const Layer*>& layers) {
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    const auto patterns = options.find(key);
    if (patterns == options.end() || !patterns->is_object()) continue;
    for (const auto& [pattern, value] : patterns->items()) {
      if (!value.is_number()) continue;
      const auto hit = [&, &p = pattern](const Layer* l) { return matches_end(p, l->name); };
      if (std::any_of(layers.begin(), layers.end(), hit)) continue;
      std::vector<std::string> names;
      for (const Layer* layer : layers) names.push_back(layer->name);
      throw Error({.id = "config.unmatched-pattern",
                   .what = fmt::format("'{}' matches none of the {} adapted layers", pattern, layers.size()),
                   .where = fmt::format("key \"{}\"", key),
                   .fix = suggest_names(pattern, names, "give the end of a layer's name, or leave it out")});
    }
  }
}

// The list of further adapters.
const Json& listed(const Json& beside) {
  const bool right = beside.is_array() && std::all_of(beside.begin(), beside.end(), [](const Json& entry) {
                       const auto folder = entry.is_object() ? entry.find("adapter_name_or_path") : entry.end();
                       return entry.is_object() && (folder == entry.end() || folder->is_string());
                     });
  if (right) return beside;
  throw Error({.id = "config.wrong-type",
               .what = "beside = " + beside.dump(),
               .where = "key \"beside\"",
               .fix = R"(give a list: [{"method": "randlora"}] or [{"adapter_name_or_path": "out"}])"});
}

void check_training(const Method& method, const std::vector<const Layer*>& targets) {
  std::vector<LayerInfo> infos;
  for (const Layer* layer : targets) infos.push_back(layer->info());
  method.check_training(infos);
}

void warn_of_ties(const AdapterBuilder& builder) {
  const Ties& ties = builder.ties();
  const AdapterConfig& config = builder.config();
  const bool without_meaning = config.ensure_weight_tying && !ties.modules && !ties.targets &&
                               config.trainable_token_indices.is_null() &&
                               !find_method(config.method).on(ActsOn::every_tensor);
  if (!without_meaning) return;
  log().warn(
      "ensure_weight_tying ties nothing here: as in PEFT, a model with a tied head must name embed_tokens or lm_head "
      "in "
      "modules_to_save, or for LoRA in target_modules");
}

}  // namespace

Adapter Adapter::create(const Model& model, const AdapterConfig& config, uint64_t seed,
                        const Calibration& calibration) {
  if (config.beside.is_null()) return create_one(model, config, seed, calibration, true);
  AdapterConfig first = config;
  first.beside = Json();
  std::vector<Adapter> parts;
  parts.push_back(create_one(model, first, seed, calibration, true));
  for (const Json& entry : listed(config.beside)) {
    const std::string where = fmt::format("key \"beside\", entry {}", parts.size());
    if (const auto folder = entry.find("adapter_name_or_path"); folder != entry.end()) {
      parts.push_back(load(model, folder->get<std::string>()));
      parts.back().freeze();
      continue;
    }
    refuse_other_keys(entry, choose_method(entry, where), where);
    parts.push_back(create_one(model, adapter_config_from_json(entry, where), seed + parts.size(), calibration, false));
  }
  return compose(std::move(parts));
}

Adapter Adapter::create_one(const Model& model, AdapterConfig config, uint64_t seed, const Calibration& calibration,
                            bool with_head) {
  config = in_own_names(model, std::move(config));
  auto& modules = config.modules_to_save;
  std::vector<std::string> wanted;
  if (with_head && saves_head(model)) wanted.push_back(model.head());
  if (with_head) wanted.insert(wanted.end(), model.new_modules().begin(), model.new_modules().end());
  for (const std::string& module : wanted) {
    const bool covered = module.empty() || std::any_of(modules.begin(), modules.end(), [&](const std::string& have) {
                           return has_suffix(module, have) || module.starts_with(have + ".");
                         });
    if (!covered) modules.push_back(module);
  }
  AdapterBuilder builder(model, std::move(config), Purpose::training);
  check_patterns(builder.adapter().config_.options, builder.targets());
  check_training(builder.adapter().method(), builder.targets());
  builder.calibrate(calibration);
  builder.wrap(seed);
  builder.share_tensors(/*must_agree=*/false);
  builder.override_parameters();
  builder.tie();
  builder.lower_tied_words();
  builder.train_tokens();
  builder.use_shared(builder.draw_shared());
  builder.set_trainable(true);
  warn_of_ties(builder);
  for (const std::string& difference : peft_differences(builder.adapter())) log().warn("{}", difference);
  return builder.take();
}

const Tensor& Adapter::value(const Parameter& parameter) const {
  return overrides(parameter) ? overrides_[parameter.slot] : parameter.value;
}

Tensor Adapter::whole_value(const Parameter& parameter) const {
  const Tensor& own = value(parameter);
  const TrainedTokens* some = tokens(parameter);
  return some ? own.index_copy(0, some->indices, some->rows.to(own.scalar_type())) : own;
}

VirtualTokens Adapter::virtual_tokens() const {
  for (const Adapter& part : parts_) {
    if (VirtualTokens tokens = part.virtual_tokens(); tokens.count() > 0) return tokens;
  }
  return whole_.empty() ? VirtualTokens{} : method_->virtual_tokens(model_->shape(), whole_);
}

std::vector<NamedTensor> Adapter::trained() const {
  std::vector<NamedTensor> tensors;
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (NamedTensor& tensor : parts_[i].trained()) {
      tensor.name = part_name(i, tensor.name);
      tensors.push_back(std::move(tensor));
    }
  }
  if (frozen_ || !parts_.empty()) return tensors;
  std::set<const void*> seen;  // a shared tensor is one
  for (const Param& param : whole_.all()) tensors.push_back({param.file_name, param.value, param.rate});
  for (const AdaptedLayer* layer : ordered_) {
    const double own_rate = layer->info.kind == LayerKind::embedding ? method_->embedding_rate() : 0;
    for (const Param& param : layer->params.all()) {
      if (!param.trained || !seen.insert(param.value.unsafeGetTensorImpl()).second) continue;
      tensors.push_back({layer->info.name + "." + param.file_name, param.value, param.rate, own_rate});
    }
  }
  const auto is_new = [&](const Tensor& tensor) { return seen.insert(tensor.unsafeGetTensorImpl()).second; };
  for (const Parameter* parameter : model_->parameters()) {
    if (overrides(*parameter) && !fixed(*parameter) && is_new(value(*parameter))) {
      const Tensor& own = value(*parameter);
      tensors.push_back({override_name(*this, *parameter), own, own.dim() == 1 ? method_->vector_rate() : 1});
    }
    if (const TrainedTokens* some = tokens(*parameter); some && is_new(some->rows)) {
      tensors.push_back({tokens_name(*parameter), some->rows});
    }
  }
  return tensors;
}

int64_t Adapter::trained_count() const {
  int64_t count = 0;
  for (const NamedTensor& tensor : trained()) count += tensor.value.numel();
  return count;
}

Tensor Adapter::penalty() const {
  if (frozen_) return {};
  Tensor sum;
  for (const Adapter& part : parts_) {
    sum = ops::plus(sum, part.penalty());
  }
  if (!parts_.empty()) return sum;
  std::vector<const Params*> layers;
  for (const AdaptedLayer* layer : ordered_) layers.push_back(&layer->params);
  return method_->penalty(layers);
}

void Adapter::before_step() {
  const at::NoGradGuard no_grad;
  for (Adapter& part : parts_) part.before_step();
  if (frozen_ || !parts_.empty()) return;
  for (AdaptedLayer* layer : ordered_) method_->before_step(layer->info, layer->params);
}

void Adapter::after_step() {
  const at::NoGradGuard no_grad;
  for (Adapter& part : parts_) part.after_step();
  if (frozen_ || !parts_.empty()) return;
  for (AdaptedLayer* layer : ordered_) method_->after_step(layer->info, layer->params);
}

void Adapter::set_option(const std::string& name, Json value) {
  config_.options[name] = std::move(value);
}

}  // namespace deltaw
