#include "adapt/rank_allocator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/log.h"
#include "deltaw/error.h"
#include "ops/host_read.h"
#include "ops/sum.h"

namespace deltaw {
namespace {

[[noreturn]] void refuse_budget(const std::string& what, const std::string& fix) {
  throw Error({.id = "config.rank-budget", .what = what, .where = "the rank budget's schedule", .fix = fix});
}

/// Mean over every axis but `axis`: [r].
Tensor mean_over_others(const Tensor& value, int64_t axis) {
  std::vector<int64_t> others;
  for (int64_t i = 0; i < value.dim(); ++i) {
    if (i != axis) others.push_back(i);
  }
  return others.empty() ? value : value.mean(others);
}

Tensor to_mask(const std::vector<bool>& kept) {
  Tensor mask = at::empty({static_cast<int64_t>(kept.size())}, at::kBool);
  std::copy(kept.begin(), kept.end(), mask.mutable_data_ptr<bool>());
  return mask;
}

std::vector<bool> to_flags(const Tensor& mask) {
  const std::vector<uint8_t> flags = ops::host_values<uint8_t>(mask.to(at::kBool));
  return {flags.begin(), flags.end()};
}

}  // namespace

RankAllocator::RankAllocator(RankBudget budget, std::vector<Layer> layers, int64_t total_steps)
    : budget_(std::move(budget)), layers_(std::move(layers)), trainer_steps_(total_steps) {
  if (budget_.total_step <= 0) budget_.total_step = total_steps;
  for (const Layer& layer : layers_) initial_ += layer.components();
  target_ = budget_.target_rank * static_cast<int64_t>(layers_.size());
  importance_.resize(layers_.size());
  check();
}

void RankAllocator::check() const {
  const int64_t last = budget_.total_step - budget_.tfinal;
  if (target_ > initial_) {
    refuse_budget(fmt::format("the target rank {} is above the initial mean of {}", budget_.target_rank,
                              initial_ / static_cast<int64_t>(layers_.size())),
                  "lower the target rank or raise the initial one");
  }
  if (budget_.tinit >= last) {
    refuse_budget(fmt::format("no step is left to prune in: tinit {} is not below total_step {} - tfinal {}",
                              budget_.tinit, budget_.total_step, budget_.tfinal),
                  "lower tinit or tfinal (both count steps), or train longer");
  }
  if (last < 2) {
    refuse_budget(fmt::format("the last pruning comes at step {}, before anything was scored", last),
                  "lower tfinal, or train longer");
  }
  if (trainer_steps_ < last) {
    log().warn("the rank budget reaches its target at step {}, but training ends at step {}", last, trainer_steps_);
  }
}

int64_t RankAllocator::budget_at(int64_t step) const {
  const int64_t last = budget_.total_step - budget_.tfinal;
  if (step <= budget_.tinit) return initial_;
  if (step > last) return target_;
  const double left = 1 - static_cast<double>(step - budget_.tinit) / static_cast<double>(last - budget_.tinit);
  return static_cast<int64_t>(static_cast<double>(initial_ - target_) * std::pow(left, 3) +
                              static_cast<double>(target_));
}

void RankAllocator::update(int64_t step) {
  const at::NoGradGuard no_grad;
  const int64_t last = budget_.total_step - budget_.tfinal;
  if (step > last) {
    hold_pattern();
    return;
  }
  if (step < last) score_weights();
  const bool prunes = step > budget_.tinit && step % budget_.delta_t == 0;
  held_ = false;
  if (prunes || step == last) prune(budget_at(step));
  if (step == last) importance_.assign(layers_.size(), {});
}

void RankAllocator::score_weights() {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::vector<ScoredTensor>& scored = layers_[i].scored;
    if (importance_[i].empty()) {
      for (const ScoredTensor& tensor : scored) {
        importance_[i].push_back({at::zeros_like(tensor.value), at::zeros_like(tensor.value)});
      }
    }
    for (size_t j = 0; j < scored.size(); ++j) {
      const Tensor& gradient = scored[j].value.grad();
      if (!gradient.defined()) continue;
      Importance& importance = importance_[i][j];
      const Tensor sensitivity = (scored[j].value * gradient).abs_();
      importance.smoothed.mul_(budget_.beta1).add_(sensitivity * (1 - budget_.beta1));
      const Tensor surprise = (sensitivity - importance.smoothed).abs_();
      importance.uncertainty.mul_(budget_.beta2).add_(surprise.mul_(1 - budget_.beta2));
    }
  }
}

Tensor RankAllocator::component_scores(size_t layer) const {
  const Layer& gated = layers_[layer];
  Tensor gate_score, others;
  for (size_t j = 0; j < gated.scored.size(); ++j) {
    const Importance& importance = importance_[layer][j];
    const Tensor score = mean_over_others(importance.smoothed * importance.uncertainty, gated.scored[j].axis);
    Tensor& sum = gated.scored[j].value.is_same(gated.gate) ? gate_score : others;
    sum = ops::plus(sum, score);
  }
  if (!gate_score.defined()) return others;
  return ops::plus(gate_score, others);
}

void RankAllocator::prune(int64_t budget) {
  const int64_t cut = initial_ - budget;
  std::vector<Tensor> scores;
  for (size_t i = 0; i < layers_.size(); ++i) scores.push_back(component_scores(i));
  const Tensor all = at::cat(scores);
  const Tensor above = cut > 0 ? all > std::get<0>(at::kthvalue(all, cut)) : at::ones_like(all, at::kBool);
  const std::vector<bool> kept = to_flags(above);  // of all layers in one read
  auto next = kept.begin();
  for (const Layer& layer : layers_) {
    const auto end = next + layer.components();
    pattern_[layer.name] = {next, end};
    next = end;
  }
  hold_pattern();
}

void RankAllocator::hold_pattern() {
  for (const Layer& layer : layers_) {
    const Tensor cut = to_mask(pattern_.at(layer.name)).logical_not_();
    std::vector<int64_t> shape(static_cast<size_t>(layer.gate.dim()), 1);
    shape[static_cast<size_t>(layer.gate_axis)] = layer.components();
    Tensor gate = layer.gate;
    gate.masked_fill_(cut.view(shape), 0);
  }
  held_ = true;
}

std::map<std::string, int64_t> RankAllocator::ranks() const {
  std::map<std::string, int64_t> ranks;
  for (const auto& [name, kept] : pattern_) ranks[name] = std::count(kept.begin(), kept.end(), true);
  return ranks;
}

std::vector<NamedTensor> RankAllocator::state() const {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (size_t j = 0; j < importance_[i].size(); ++j) {
      const std::string& name = layers_[i].scored[j].name;
      all.push_back({"importance." + name, importance_[i][j].smoothed});
      all.push_back({"uncertainty." + name, importance_[i][j].uncertainty});
    }
  }
  for (const auto& [name, kept] : pattern_) all.push_back({"kept." + name, to_mask(kept)});
  all.push_back({"held", at::full({1}, held_, at::kBool)});
  return all;
}

void RankAllocator::set_state(const std::map<std::string, Tensor>& state) {
  const auto take = [&state](const std::string& name, int64_t elements) {
    const auto found = state.find(name);
    if (found == state.end()) return Tensor();
    if (found->second.numel() != elements) {
      throw Error({.id = "config.resume",
                   .what = fmt::format("the checkpoint's tensor has {} elements, {} are expected",
                                       found->second.numel(), elements),
                   .where = fmt::format("state of the rank budget, tensor '{}'", name),
                   .fix = "resume with the adapter options of the checkpoint"});
    }
    return found->second;
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    importance_[i].clear();
    for (const ScoredTensor& tensor : layers_[i].scored) {
      Tensor smoothed = take("importance." + tensor.name, tensor.value.numel());
      Tensor uncertainty = take("uncertainty." + tensor.name, tensor.value.numel());
      if (smoothed.defined() && uncertainty.defined())
        importance_[i].push_back({smoothed.clone(), uncertainty.clone()});
    }
    const Tensor kept = take("kept." + layers_[i].name, layers_[i].components());
    if (kept.defined()) pattern_[layers_[i].name] = to_flags(kept);
  }
  const Tensor held = take("held", 1);
  held_ = held.defined() && ops::host_flag(held);
}

bool has_lost_components(const Adapter& adapter) {
  const std::optional<RankBudget> budget = adapter.method().rank_budget();
  if (!budget) return false;
  const Json kept = adapter.config().options.value(budget->pattern, Json());
  return std::any_of(kept.begin(), kept.end(), [](const Json& flags) {
    return std::any_of(flags.begin(), flags.end(), [](const Json& flag) { return flag == false; });
  });
}

std::optional<RankAllocator> make_rank_allocator(const Adapter& adapter, int64_t total_steps) {
  const std::optional<RankBudget> budget = adapter.method().rank_budget();
  if (!budget || !budget->allocated || has_lost_components(adapter)) return std::nullopt;
  std::vector<RankAllocator::Layer> layers;
  for (const AdaptedLayer* adapted : adapter.layers()) {
    RankAllocator::Layer layer{adapted->info.name, adapted->params[budget->gate.param], {}, budget->gate.axis};
    for (const Scored& scored : budget->scored) {
      layer.scored.push_back({adapted->info.name + "." + scored.param, adapted->params[scored.param], scored.axis});
    }
    layers.push_back(std::move(layer));
  }
  return RankAllocator(*budget, std::move(layers), total_steps);
}

}  // namespace deltaw
