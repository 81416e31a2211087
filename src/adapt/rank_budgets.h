// The rank budgets of an adapter that training moves: one for each of its parts that asks for one, by its own schedule.
//
// Names of modules and tensors of a part have part_name()'s prefix, those of a single adapter have none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "adapt/rank_allocator.h"
#include "core/json_fields.h"

namespace deltaw {

class RankBudgets {
 public:
  /// Settles total_step in the options of each adapter that has a budget. `adapter` must outlive this and stay where it
  /// is. Throws what RankAllocator does.
  RankBudgets(Adapter& adapter, int64_t total_steps);

  bool empty() const { return budgets_.empty(); }

  /// Lets every budget score and prune (see RankAllocator::update), and tells the adapters what they keep.
  void update(int64_t step);

  /// Components kept by layer, where a budget has pruned.
  std::map<std::string, int64_t> ranks() const;

  /// The allocators' states. Throws config.resume for tensors that do not fit.
  std::vector<NamedTensor> state() const;
  void set_state(const std::map<std::string, Tensor>& state);

 private:
  struct Budget {
    std::string prefix;
    Adapter* adapter;
    RankAllocator allocator;
  };
  std::vector<Budget> budgets_;
};

/// Adapter::kept_ranks of an adapter and its parts, as one object: module name to a list of flags.
Json kept_ranks(const Adapter& adapter);
void set_kept_ranks(Adapter& adapter, const JsonFields& kept);

}  // namespace deltaw
