// The rank budget of AdaLoRA (Zhang et al., arXiv:2303.10512, sections 3.2 and 3.3), for any method with gates.
//
// Every weight w of a scored tensor has a sensitivity I = |w g|, smoothed: S <- beta1 S + (1 - beta1) I, and an
// uncertainty U <- beta2 U + (1 - beta2) |I - S|. A component's score is the sum over the scored tensors of the mean of
// S U over their other axes. The budget falls from the initial number of components b0 to bT, over the whole model:
//
//   b(t) = bT + (b0 - bT) (1 - (t - tinit) / (total - tfinal - tinit))^3      tinit < t <= total - tfinal
//
// and the b0 - b(t) components with the lowest scores have their gate set to zero. They may grow back until the last
// pruning; from then on the same ones are held at zero.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

class RankAllocator {
 public:
  struct ScoredTensor {
    std::string name;
    Tensor value;
    int64_t axis = 0;  // counts the components
  };
  struct Layer {
    std::string name;  // of the module
    Tensor gate;
    std::vector<ScoredTensor> scored;
    int64_t gate_axis = 0;  // counts the components
    int64_t components() const { return gate.size(gate_axis); }
  };
  /// Module name to which components are kept.
  using Pattern = std::map<std::string, std::vector<bool>>;

  /// `total_steps` stands in for a total_step of 0. Throws config.rank-budget for a schedule that cannot prune.
  RankAllocator(RankBudget budget, std::vector<Layer> layers, int64_t total_steps);

  /// Call after the optimiser's step number `step` (from 1), while the gradients still stand.
  void update(int64_t step);

  int64_t total_steps() const { return budget_.total_step; }  // of the schedule
  /// Components of the whole model that `step` may keep.
  int64_t budget_at(int64_t step) const;

  /// What the last pruning kept; empty before the first.
  const Pattern& pattern() const { return pattern_; }
  /// The pattern while every gate outside it is zero; empty once the optimiser has moved them again.
  Pattern held() const { return held_ ? pattern_ : Pattern{}; }
  /// Components kept by layer.
  std::map<std::string, int64_t> ranks() const;

  /// Smoothed sensitivities, uncertainties and the pattern: "importance.<tensor>", "uncertainty.<tensor>",
  /// "kept.<module>", and the flag "held".
  std::vector<NamedTensor> state() const;
  /// Takes the state back by the same names. Throws config.resume for tensors that do not fit.
  void set_state(const std::map<std::string, Tensor>& state);

 private:
  struct Importance {
    Tensor smoothed;
    Tensor uncertainty;
  };

  void check() const;
  void score_weights();
  Tensor component_scores(size_t layer) const;  // [r]
  void prune(int64_t budget);
  void hold_pattern();

  RankBudget budget_;
  std::vector<Layer> layers_;
  std::vector<std::vector<Importance>> importance_;  // by layer and scored tensor; empty where none is kept
  int64_t trainer_steps_ = 0;
  int64_t initial_ = 0;
  int64_t target_ = 0;
  Pattern pattern_;
  bool held_ = false;
};

/// Whether the adapter was loaded with fewer components than it began with: its file lacks what was pruned.
bool has_lost_components(const Adapter& adapter);

/// The allocator of an adapter whose method asks for a rank budget; none where an earlier run has spent it, so that the
/// adapter was loaded with fewer components than it began with.
std::optional<RankAllocator> make_rank_allocator(const Adapter& adapter, int64_t total_steps);

}  // namespace deltaw
