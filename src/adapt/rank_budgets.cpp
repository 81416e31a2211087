#include "adapt/rank_budgets.h"

#include <fmt/format.h>

#include <utility>

#include "adapt/composite.h"

namespace deltaw {
namespace {

/// Calls visitor(prefix of its names, adapter) for every adapter that is no composite.
template <class MaybeConstAdapter, class Visitor>
void visit(MaybeConstAdapter& adapter, const Visitor& visitor, const std::string& prefix = "") {
  auto&& parts = adapter.parts();
  if (parts.empty()) visitor(prefix, adapter);
  for (size_t i = 0; i < parts.size(); ++i) visit(parts[i], visitor, prefix + part_name(i, ""));
}

}  // namespace

RankBudgets::RankBudgets(Adapter& adapter, int64_t total_steps) {
  visit(adapter, [&](const std::string& prefix, Adapter& single) {
    if (single.frozen()) return;
    std::optional<RankAllocator> allocator = make_rank_allocator(single, total_steps);
    if (!allocator) return;
    single.set_option("total_step", allocator->total_steps());
    budgets_.push_back({prefix, &single, std::move(*allocator)});
  });
}

void RankBudgets::update(int64_t step) {
  for (Budget& budget : budgets_) {
    budget.allocator.update(step);
    budget.adapter->kept_ranks = budget.allocator.held();
  }
}

std::map<std::string, int64_t> RankBudgets::ranks() const {
  std::map<std::string, int64_t> all;
  for (const Budget& budget : budgets_) {
    for (const auto& [name, rank] : budget.allocator.ranks()) all[budget.prefix + name] = rank;
  }
  return all;
}

std::vector<NamedTensor> RankBudgets::state() const {
  std::vector<NamedTensor> all;
  for (const Budget& budget : budgets_) {
    for (const NamedTensor& tensor : budget.allocator.state())
      all.push_back({budget.prefix + tensor.name, tensor.value});
  }
  return all;
}

void RankBudgets::set_state(const std::map<std::string, Tensor>& state) {
  for (Budget& budget : budgets_) {
    std::map<std::string, Tensor> own;
    for (const auto& [name, value] : state) {
      if (name.starts_with(budget.prefix)) own[name.substr(budget.prefix.size())] = value;
    }
    budget.allocator.set_state(own);
  }
}

Json kept_ranks(const Adapter& adapter) {
  Json all = Json::object();
  visit(adapter, [&all](const std::string& prefix, const Adapter& single) {
    for (const auto& [name, flags] : single.kept_ranks) all[prefix + name] = flags;
  });
  return all;
}

void set_kept_ranks(Adapter& adapter, const JsonFields& kept) {
  visit(adapter, [&kept](const std::string& prefix, Adapter& single) {
    single.kept_ranks.clear();
    const auto budget = single.method().rank_budget();
    for (const AdaptedLayer* layer : single.layers()) {
      const std::string name = prefix + layer->info.name;
      if (!budget || !kept.has(name)) continue;
      const auto flags = kept.get<std::vector<bool>>(name);
      const Scored& gate = budget->gate;
      const int64_t components = layer->params[gate.param].size(gate.axis);
      if (static_cast<int64_t>(flags.size()) != components) kept.complain(name, fmt::format("{} flags", components));
      single.kept_ranks[layer->info.name] = flags;
    }
  });
}

}  // namespace deltaw
