// Options and penalties of the methods whose rank components are gated and pruned together.
#pragma once

#include "deltaw/method.h"
#include "ops/sum.h"

namespace deltaw {

/// The schedule of AdaLoRA's budget (Zhang et al. 2023, arXiv:2303.10512, section 3.3).
struct BudgetOptions {
  int64_t target_r = 8;
  int64_t tinit = 0;
  int64_t tfinal = 0;
  int64_t deltaT = 1;
  double beta1 = 0.85;
  double beta2 = 0.85;
  int64_t total_step = 0;

  static constexpr const char* kTarget =
      "Rank budget: components that a layer has at the end, on average over the layers.";

  void fields(FieldVisitor& f, const char* target = kTarget, int64_t least_target = 0) {
    f.field("target_r", target_r, target, at_least(static_cast<double>(least_target)));
    f.field("tinit", tinit, "Rank budget: steps before the first pruning.", at_least(0));
    f.field("tfinal", tfinal, "Rank budget: steps after the last pruning (a duration, not a time).", at_least(0));
    f.field("deltaT", deltaT, "Rank budget: steps between prunings.", at_least(1));
    f.field("beta1", beta1, "Rank budget: decay of the averaged sensitivity.", open_fraction());
    f.field("beta2", beta2, "Rank budget: decay of the averaged uncertainty.", open_fraction());
    f.field("total_step", total_step, "Rank budget: optimiser steps of the run; 0 for the trainer's own count.",
            at_least(0));
  }

  /// The options of the schedule, and `more` that only training looks at.
  static std::vector<std::string> training_options(std::vector<std::string> more = {}) {
    for (const char* name : {"target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "total_step"})
      more.emplace_back(name);
    return more;
  }

  RankBudget budget(Scored gate, std::vector<Scored> scored, int64_t init_rank) const {
    return {.gate = std::move(gate),
            .scored = std::move(scored),
            .init_rank = init_rank,
            .target_rank = target_r,
            .tinit = tinit,
            .tfinal = tfinal,
            .delta_t = deltaT,
            .beta1 = beta1,
            .beta2 = beta2,
            .total_step = total_step};
  }

  static Rule open_fraction() { return {.low = 0, .high = 1, .low_open = true, .high_open = true}; }
};

/// Components that the file keeps of a layer that was pruned: the list of `pattern` for it, else `rank`.
inline int64_t kept_rank(const Json& pattern, const LayerInfo& layer, const std::string& gate, int64_t rank) {
  if (!pattern.is_object()) return rank;
  const auto found = pattern.find(layer.name + "." + gate);
  if (found == pattern.end()) return rank;
  int64_t kept = 0;
  for (const Json& keep : *found) kept += keep.get<bool>() ? 1 : 0;
  return kept;
}

/// The same schedule for methods that have no budget of their own: off unless target_r is given.
struct OptionalBudget : BudgetOptions {
  Json kept_components;

  OptionalBudget() { target_r = -1; }

  static constexpr const char* kTarget =
      "Rank budget: components (of r) that a layer has at the end, on average over the layers; -1: nothing is pruned.";

  void fields(FieldVisitor& f, const char* target = kTarget) {
    BudgetOptions::fields(f, target, -1);
    f.field("kept_components", kept_components, "Written on saving, not to be given: what each layer keeps.");
  }
  static std::vector<std::string> names() { return training_options({"kept_components"}); }
  bool asked() const { return target_r >= 0; }
  int64_t kept(const LayerInfo& layer, const std::string& gate, int64_t rank) const {
    return kept_rank(kept_components, layer, gate, rank);
  }
  std::optional<RankBudget> budget(Scored gate, std::vector<Scored> scored, int64_t init_rank) const {
    if (!asked()) return std::nullopt;
    return schedule(std::move(gate), std::move(scored), init_rank);
  }
  RankBudget schedule(Scored gate, std::vector<Scored> scored, int64_t init_rank) const {
    RankBudget result = BudgetOptions::budget(std::move(gate), std::move(scored), init_rank);
    result.pattern = "kept_components";
    return result;
  }
};

/// G - I for a Gram matrix G.
inline Tensor minus_identity(const Tensor& gram) {
  return gram - at::eye(gram.size(0), gram.options());
}

}  // namespace deltaw
