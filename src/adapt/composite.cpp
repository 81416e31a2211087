#include "adapt/composite.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/log.h"
#include "deltaw/error.h"
#include "ops/host_read.h"
#include "ops/sum.h"

namespace deltaw {
namespace {

// The tensors of each part that is on this layer, under their own names.
std::map<size_t, Params> split(const Params& params) {
  std::map<size_t, std::vector<Param>> own;
  for (Param param : params.all()) {
    const size_t dot = param.name.find('.');
    const size_t part = std::stoul(param.name.substr(0, dot));
    param.name.erase(0, dot + 1);
    own[part].push_back(std::move(param));
  }
  std::map<size_t, Params> result;
  for (auto& [part, list] : own) result[part] = Params(std::move(list));
  return result;
}

Operator sum_of(const Operator& first, double scale, const Operator& second) {
  return [=](const Tensor& x) {
    const Tensor term = second(x) * scale;
    return first ? first(x) + term : term;
  };
}

// Factors and dense updates as a map of activations.
Operator as_operator(const Update& u) {
  return [u](const Tensor& x) {
    const auto as = [&](const Tensor& t) { return t.t().to(x.scalar_type()); };
    Tensor y;
    if (u.left.defined()) y = at::mm(at::mm(x, as(u.right)), as(u.left));
    if (u.dense.defined()) y = ops::plus(y, at::mm(x, as(u.dense)));
    return y;
  };
}

[[noreturn]] void refuse(const std::string& layer, const Adapter& first, const Adapter& second,
                         const std::string& what) {
  throw Error({.id = "config.conflict",
               .what = fmt::format("{} and {} on '{}': {}", first.spec().id, second.spec().id, layer, what),
               .where = "the adapters that act together",
               .fix = "give them different target_modules, or leave one out"});
}

// What two updates of one layer cannot share.
std::string conflict(const Update& a, const Update& b) {
  const auto gains = [](const Update& u) { return u.out_gain.defined() || u.in_gain.defined(); };
  const auto operates = [](const Update& u) { return u.before || u.beside; };
  if (gains(a) && gains(b)) return "both scale the layer";
  if (a.before && b.before) return "both turn its input";
  if ((gains(a) && operates(b)) || (operates(a) && gains(b)))
    return "one scales the layer, the other acts on its input";
  if ((operates(a) && b.bias.defined()) || (a.bias.defined() && operates(b)))
    return "one acts on its input, the other has a bias";
  return {};
}

[[noreturn]] void refuse_arguments(const std::string& what, const std::string& fix) {
  throw Error({.id = "config.bad-value", .what = what, .where = "the adapters that act together", .fix = fix});
}

void check_arguments(const std::vector<Adapter>& parts, const std::vector<double>& weights) {
  if (parts.empty()) refuse_arguments("there are none", "give one adapter at least");
  if (parts.size() != weights.size()) {
    refuse_arguments(fmt::format("{} weights for {} adapters", weights.size(), parts.size()),
                     "give a weight for each adapter, or none");
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!std::isfinite(weights[i])) {
      refuse_arguments(fmt::format("the weight of adapter {} is {}", i + 1, weights[i]), "give numbers");
    }
  }
}

bool is_head(const Model& model, const std::string& parameter) {
  const auto below = [&](const std::string& module) { return !module.empty() && parameter.starts_with(module + "."); };
  return below(model.head()) || std::any_of(model.new_modules().begin(), model.new_modules().end(), below);
}

// Two that stand for one parameter are one only where they are equal and stay so.
void check_replaced_twice(const Adapter& first, const Adapter& second, const Parameter& parameter, const Tensor& a,
                          const Tensor& b) {
  const auto trains = [](const Adapter& adapter, const Tensor& t) { return !adapter.frozen() && t.requires_grad(); };
  const bool moves = trains(first, a) || trains(second, b);
  if (!moves && ops::host_equal(a, b)) return;
  throw Error(
      {.id = "config.conflict",
       .what = fmt::format("{} and {} both {} '{}'", first.spec().id, second.spec().id, moves ? "train" : "replace",
                           parameter.name),
       .where = "the adapters that act together, keys \"bias\" and \"modules_to_save\"",
       .fix = "leave it to one of them: a sum of weight updates is defined, two values of one parameter are not"});
}

}  // namespace

std::string part_name(size_t i, const std::string& name) {
  return fmt::format("{}.{}", i, name);
}

Update Composite::update(const LayerInfo& layer, const Params& params, const BaseView& base) const {
  Update sum;
  std::vector<Tensor> lefts, rights;
  const bool operates = acts_on_inputs();
  for (const auto& [i, own] : split(params)) {
    const Update u = parts_[i].method->update(layer, own, base).in_two_factors();
    const double scale = u.scale * parts_[i].weight;
    if (u.before) sum.before = u.before;
    if (u.beside) sum.beside = sum_of(sum.beside, scale, u.beside);
    if (operates && (u.left.defined() || u.dense.defined())) {
      sum.beside = sum_of(sum.beside, scale, as_operator(u));
    } else {
      if (u.left.defined()) {
        lefts.push_back(u.left * scale);
        rights.push_back(u.right);
      }
      if (u.dense.defined()) sum.dense = ops::plus(sum.dense, u.dense * scale);
    }
    if (u.bias.defined()) sum.bias = ops::plus(sum.bias, u.bias * scale);
    if (u.out_gain.defined()) sum.out_gain = u.out_gain;
    if (u.in_gain.defined()) sum.in_gain = u.in_gain;
    sum.gain_on_bias |= u.gain_on_bias;
  }
  if (!lefts.empty()) {
    sum.left = at::cat(lefts, 1);
    sum.right = at::cat(rights, 0);
  }
  return sum;
}

bool Composite::acts_on_inputs() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.method->acts_on_inputs(); });
}

Tensor Composite::map_output(const LayerInfo& layer, const Params& params, const Tensor& output) const {
  Tensor y = output;
  for (const auto& [i, own] : split(params)) y = parts_[i].method->map_output(layer, own, y);
  return y;
}

void check_parts(const std::vector<Adapter>& parts, const std::vector<double>& weights) {
  const at::NoGradGuard no_grad;
  const auto update_of = [](const AdaptedLayer& layer) { return layer.update(); };
  for (size_t j = 0; j < parts.size(); ++j) {
    for (const AdaptedLayer* layer : parts[j].layers()) {
      const Update own = update_of(*layer);
      if (weights[j] != 1 && (own.out_gain.defined() || own.in_gain.defined() || own.before))
        refuse(layer->info.name, parts[j], parts[j], "a gain or a rotation has no weight");
      for (size_t i = 0; i < j; ++i) {
        const AdaptedLayer* other = parts[i].layer(*layer->base);
        if (!other) continue;
        if (const std::string what = conflict(update_of(*other), own); !what.empty())
          refuse(layer->info.name, parts[i], parts[j], what);
      }
    }
    for (size_t i = 0; i < j; ++i) {
      if (!parts[i].whole().empty() && !parts[j].whole().empty())
        refuse("the model", parts[i], parts[j], "both put tokens before the input");
      if (parts[i].method().dropout() != parts[j].method().dropout())
        refuse("one layer", parts[i], parts[j], "their dropouts differ");
    }
  }
}

MethodSpec composite_spec(const std::vector<Adapter>& parts) {
  MethodSpec spec;
  std::vector<std::string> ids, titles;
  spec.acts_on.clear();
  for (const Adapter& part : parts) {
    ids.push_back(part.spec().id);
    titles.push_back(part.spec().title);
    spec.identity_at_init &= part.spec().identity_at_init;
    const std::vector<ActsOn>& own = part.spec().acts_on;
    spec.acts_on.insert(spec.acts_on.end(), own.begin(), own.end());
  }
  spec.id = fmt::format("{}", fmt::join(ids, "+"));
  spec.title = fmt::format("{}", fmt::join(titles, " + "));
  spec.peft_type = "COMPOSITE";
  spec.options = [] { return std::vector<FieldInfo>(); };
  spec.normalized = [](const Json& options, const std::string&) { return options; };
  return spec;
}

namespace {

// Adapters that are several give up their parts, each with its share of the weight.
void flatten(std::vector<Adapter>& parts, std::vector<double>& weights) {
  std::vector<Adapter> singles;
  std::vector<double> own;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::vector<double> inner = parts[i].weights();
    for (size_t j = 0; j < inner.size(); ++j) {
      singles.push_back(std::move(parts[i].parts()[j]));
      own.push_back(weights[i] * inner[j]);
    }
    if (!inner.empty()) continue;
    singles.push_back(std::move(parts[i]));
    own.push_back(weights[i]);
  }
  parts = std::move(singles);
  weights = std::move(own);
}

}  // namespace

Adapter Adapter::compose(std::vector<Adapter> parts, std::vector<double> weights) {
  if (weights.empty()) weights.assign(parts.size(), 1);
  check_arguments(parts, weights);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].method_) refuse_arguments(fmt::format("adapter {} was moved from", i + 1), "give one that is whole");
    if (parts[i].model_ == parts[0].model_) continue;
    throw Error({.id = "config.conflict",
                 .what = fmt::format("adapter {} ({}) is of another model than the first", i + 1, parts[i].spec_->id),
                 .where = "the adapters that act together",
                 .fix = "load all of them over one model"});
  }
  flatten(parts, weights);
  check_parts(parts, weights);
  Adapter whole;
  whole.model_ = parts.front().model_;
  whole.config_ = parts.front().config_;
  whole.own_spec_ = std::make_unique<MethodSpec>(composite_spec(parts));
  whole.spec_ = whole.own_spec_.get();
  whole.config_.method = whole.spec_->id;
  whole.config_.options = Json::object();
  for (const Adapter& part : parts) {  // the head may be any part's
    std::vector<std::string>& saved = whole.config_.modules_to_save;
    for (const std::string& module : part.config_.modules_to_save) {
      if (std::find(saved.begin(), saved.end(), module) == saved.end()) saved.push_back(module);
    }
  }
  std::vector<Composite::Part> methods;
  for (size_t i = 0; i < parts.size(); ++i) methods.push_back({parts[i].method_.get(), weights[i]});
  whole.method_ = std::make_unique<Composite>(std::move(methods));

  whole.by_layer_.resize(whole.model_->layers().size());
  for (const Layer* base : whole.model_->layers()) {
    std::vector<Param> params;
    for (size_t i = 0; i < parts.size(); ++i) {
      const AdaptedLayer* layer = parts[i].layer(*base);
      if (!layer) continue;
      for (Param param : layer->params.all()) {
        param.name = part_name(i, param.name);
        params.push_back(std::move(param));
      }
    }
    if (params.empty()) continue;
    auto layer = std::make_unique<AdaptedLayer>(
        AdaptedLayer{base->info(), base, whole.method_.get(), Params(std::move(params))});
    whole.ordered_.push_back(layer.get());
    whole.by_layer_[base->index] = std::move(layer);
  }

  whole.parts_ = std::move(parts);
  whole.weights_ = std::move(weights);
  whole.take_overrides_of_parts();
  whole.take_tokens_of_parts();
  whole.check_layers_of_parts();
  return whole;
}

void Adapter::take_overrides_of_parts() {
  overrides_.resize(model_->parameters().size());
  std::vector<const Adapter*> owners(overrides_.size());
  for (Adapter& part : parts_) {
    std::vector<std::string> left_out;
    for (size_t slot = 0; slot < overrides_.size(); ++slot) {
      Tensor& own = part.overrides_[slot];
      if (!own.defined()) continue;
      Tensor& acting = overrides_[slot];
      if (!acting.defined()) {
        acting = own;
        owners[slot] = &part;
        continue;
      }
      const Parameter& parameter = *model_->parameters()[slot];
      if (!is_head(*model_, parameter.name)) check_replaced_twice(*owners[slot], part, parameter, acting, own);
      if (!ops::host_equal(acting, own)) left_out.push_back(parameter.name);
      part.set_aside_[static_cast<int64_t>(slot)] = std::exchange(own, Tensor());
    }
    if (left_out.empty()) continue;
    log().warn("of the adapters that act together the first one's head stands; that of {} is left out: {}",
               part.spec_->id, fmt::join(left_out, ", "));
  }
}

void Adapter::take_tokens_of_parts() {
  for (const Adapter& part : parts_) {
    for (const auto& [slot, tokens] : part.tokens_) {
      if (tokens_.emplace(slot, tokens).second && !overrides_[slot].defined()) continue;
      throw Error({.id = "config.conflict",
                   .what = fmt::format("two adapters train rows of '{}'", model_->parameters()[slot]->name),
                   .where = "key \"trainable_token_indices\"",
                   .fix = "leave it out of all but one"});
    }
  }
}

// An update is of the base's weight: over another one it would be a different update.
void Adapter::check_layers_of_parts() const {
  for (const AdaptedLayer* layer : ordered_) {
    const Parameter& weight = layer->base->weight;
    const auto adapts = [&](const Adapter& part) { return part.layer(*layer->base) != nullptr; };
    const auto replaces = [&](const Adapter& part) { return part.overrides(weight) || part.tokens(weight); };
    const auto replacing = std::find_if(parts_.begin(), parts_.end(), replaces);
    if (replacing == parts_.end()) continue;
    refuse(layer->info.name, *replacing, *std::find_if(parts_.begin(), parts_.end(), adapts),
           "one trains the weight or rows of it, the other is an update of the base's");
  }
}

void Adapter::freeze() {
  frozen_ = true;
  for (Adapter& part : parts_) part.freeze();
  for (Param& param : whole_.all()) param.trained = false;
  for (AdaptedLayer* layer : ordered_) {
    for (Param& param : layer->params.all()) param.trained = false;
  }
}

}  // namespace deltaw
