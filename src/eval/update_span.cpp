#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "adapt/builder.h"
#include "deltaw/error.h"
#include "deltaw/landscape.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

[[noreturn]] void refuse(const char* id, const std::string& what, const std::string& where, const char* fix) {
  throw Error({.id = id, .what = what, .where = where, .fix = fix});
}

void check(const Model& model, const std::vector<NamedAdapter>& adapters) {
  if (adapters.size() < 2 || adapters.size() > 3) {
    refuse("config.bad-value", fmt::format("{} adapters span neither a line nor a plane", adapters.size()),
           "the adapters", "give three for a plane, or two for a line");
  }
  for (const auto& [name, adapter] : adapters) {
    if (&adapter.model() != &model) {
      refuse("config.conflict", "the adapter is one of another model", name, "load all of them on one model");
    }
    if (!adapter.spec().mergeable()) {
      refuse("config.not-mergeable",
             fmt::format("the method {} is no update of weights, and there is nothing between it and another one",
                         adapter.spec().id),
             name, "give adapters whose method changes weights: `deltaw methods` says which");
    }
  }
  for (const Parameter* parameter : model.parameters()) {
    if (!parameter->quantised) continue;
    refuse("config.quantised", fmt::format("'{}' is held in few bits, and an update of it is not", parameter->name),
           model.folder().string(),
           "load the base as it is stored: --load_in_4bit false --load_in_8bit false --base_compute_dtype auto");
  }
}

Tensor wide(const Tensor& tensor) {
  return tensor.detach().to(at::kDouble);
}

double product(const Tensor& a, const Tensor& b) {
  return ops::host_number(at::dot(wide(a).flatten(), wide(b).flatten()));
}

}  // namespace

UpdateSpan::UpdateSpan(const Model& model, const std::vector<NamedAdapter>& adapters) : model_(model) {
  check(model, adapters);
  for (const auto& [name, adapter] : adapters) {
    names_.push_back(name);
    methods_.push_back(adapter.spec().id);
  }
  for (size_t i = 0; i < adapters.size(); ++i) add(i, adapters[i].adapter);
  inner_.assign(size(), std::vector<double>(size(), 0));
  for (const auto& [slot, updates] : updates_) {
    for (size_t i = 0; i < size(); ++i) {
      for (size_t j = 0; j <= i; ++j) {
        if (!updates[i].defined() || !updates[j].defined()) continue;
        inner_[i][j] += product(updates[i], updates[j]);
        inner_[j][i] = inner_[i][j];
      }
    }
  }
  place();
}

void UpdateSpan::add(size_t i, const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  const at::ScalarType type = model_.dtype() == at::kDouble ? at::kDouble : at::kFloat;
  const auto keep = [&](const Parameter& parameter, const Tensor& value) {
    const Tensor update = wide(value) - wide(parameter.value);
    if (!ops::host_flag(update.ne(0).any())) return;
    auto [found, is_new] = updates_.try_emplace(parameter.slot, Updates(size()));
    found->second[i] = update.to(type);
  };
  std::vector<bool> formed(model_.parameters().size());
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Layer& base = *layer->base;
    const Tensor bias = adapter.overrides(base.bias) ? adapter.value(base.bias) : base.bias.value;
    // In float64: the difference from W0 is small beside it.
    const MergedLayer merged = merge_layer(*layer, wide(base.weight.value), bias.defined() ? wide(bias) : bias);
    keep(base.weight, merged.weight);
    formed[static_cast<size_t>(base.weight.slot)] = true;
    if (!merged.bias.defined()) continue;
    keep(base.bias, merged.bias);
    formed[static_cast<size_t>(base.bias.slot)] = true;
  }
  for (const Parameter* parameter : model_.parameters()) {
    if (formed[static_cast<size_t>(parameter->slot)]) continue;
    if (adapter.overrides(*parameter) || adapter.tokens(*parameter)) keep(*parameter, adapter.whole_value(*parameter));
  }
}

void UpdateSpan::place() {
  constexpr double kSame = 1e-6, kOnOneLine = 1e-4;
  for (size_t i = 0; i < size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (distance(i, j) > kSame * std::max(norm(i), norm(j))) continue;
      refuse("config.conflict", fmt::format("'{}' and '{}' are one and the same update", names_[j], names_[i]),
             "the adapters", "give adapters that differ");
    }
  }
  const double across = distance(0, 1);
  places_ = {{0, 0}, {across, 0}};
  if (size() == 2) return;
  // <dW_2 - dW_0, dW_1 - dW_0> / |dW_1 - dW_0|
  const double along = (inner_[2][1] - inner_[2][0] - inner_[0][1] + inner_[0][0]) / across;
  const double far = distance(0, 2), square = far * far - along * along, up = std::sqrt(std::max(square, 0.0));
  if (up <= kOnOneLine * std::max(across, far)) {
    refuse("config.conflict", fmt::format("'{}', '{}' and '{}' are on one line", names_[0], names_[1], names_[2]),
           "the adapters", "give two of them, for the line");
  }
  places_.push_back({along, up});
}

double UpdateSpan::norm(size_t i) const {
  return std::sqrt(inner_[i][i]);
}

double UpdateSpan::distance(size_t i, size_t j) const {
  return std::sqrt(std::max(inner_[i][i] - 2 * inner_[i][j] + inner_[j][j], 0.0));
}

int64_t UpdateSpan::numbers() const {
  int64_t count = 0;
  for (const auto& [slot, updates] : updates_) count += model_.parameters()[static_cast<size_t>(slot)]->numel();
  return count;
}

std::vector<double> UpdateSpan::shares_at(double x, double y) const {
  const double third = size() == 3 ? y / places_[2][1] : 0;
  const double second = (x - (size() == 3 ? third * places_[2][0] : 0)) / places_[1][0];
  std::vector<double> shares = {1 - second - third, second};
  if (size() == 3) shares.push_back(third);
  return shares;
}

Adapter UpdateSpan::at(const std::vector<double>& shares) const {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> tensors(model_.parameters().size());
  for (const auto& [slot, updates] : updates_) {
    const Tensor& own = model_.parameters()[static_cast<size_t>(slot)]->value;
    // Anew for each point, so that no rounding adds up along the way.
    Tensor sum = own.to(at::promote_types(own.scalar_type(), at::kFloat), /*non_blocking=*/false, /*copy=*/true);
    for (size_t i = 0; i < size(); ++i) {
      if (updates[i].defined() && shares.at(i) != 0) sum.add_(updates[i], shares[i]);
    }
    tensors[static_cast<size_t>(slot)] = sum.to(own.scalar_type());
  }
  return AdapterBuilder::standing_in(model_, std::move(tensors));
}

}  // namespace deltaw
