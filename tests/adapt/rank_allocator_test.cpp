#include "adapt/rank_allocator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "support/data.h"
#include "support/temporary.h"
#include "train/named_tensors.h"

namespace deltaw {
namespace {

using Trace = std::map<std::string, Tensor>;

RankBudget budget_of(const Json& schedule) {
  return {.gate = "lora_E",
          .init_rank = schedule.at("init_r").get<int64_t>(),
          .target_rank = schedule.at("target_r").get<int64_t>(),
          .tinit = schedule.at("tinit").get<int64_t>(),
          .tfinal = schedule.at("tfinal").get<int64_t>(),
          .delta_t = schedule.at("deltaT").get<int64_t>(),
          .beta1 = schedule.at("beta1").get<double>(),
          .beta2 = schedule.at("beta2").get<double>(),
          .total_step = schedule.at("total_step").get<int64_t>()};
}

std::vector<RankAllocator::Layer> layers_of(const Json& modules, const Trace& trace) {
  std::vector<RankAllocator::Layer> layers;
  for (const Json& module : modules) {
    const std::string name = module.get<std::string>();
    RankAllocator::Layer layer{name, {}, {}};
    for (const auto& [part, axis] :
         std::vector<std::pair<std::string, int64_t>>{{"lora_E", 0}, {"lora_A", 0}, {"lora_B", 1}}) {
      const std::string key = name + "." + part;
      layer.scored.push_back({key, at::zeros_like(trace.at("step1." + key)).requires_grad_(true), axis});
    }
    layer.gate = layer.scored[0].value;
    layers.push_back(layer);
  }
  return layers;
}

/// Sets what the optimiser of the trace left at `step`.
void set_weights(std::vector<RankAllocator::Layer>& layers, const Trace& trace, int64_t step) {
  const at::NoGradGuard no_grad;
  const std::string at_step = "step" + std::to_string(step) + ".";
  for (RankAllocator::Layer& layer : layers) {
    for (RankAllocator::ScoredTensor& tensor : layer.scored) {
      tensor.value.copy_(trace.at(at_step + tensor.name));
      tensor.value.mutable_grad() = trace.at(at_step + "grad." + tensor.name).clone();
    }
  }
}

void expect_step(const RankAllocator& allocator, const std::vector<RankAllocator::Layer>& layers, const Trace& trace,
                 const Json& expected) {
  const int64_t step = expected.at("step").get<int64_t>();
  EXPECT_EQ(allocator.budget_at(step), expected.at("budget").get<int64_t>()) << "step " << step;
  for (const RankAllocator::Layer& layer : layers) {
    const Tensor& after = trace.at("step" + std::to_string(step) + ".after." + layer.name + ".lora_E");
    EXPECT_TRUE(at::equal(layer.gate, after)) << layer.name << " at step " << step;
  }
  EXPECT_EQ(allocator.held().empty(), !expected.at("masked").get<bool>()) << "step " << step;
  if (!expected.contains("mask")) return;
  for (const auto& [module, mask] : expected.at("mask").items()) {
    EXPECT_EQ(allocator.pattern().at(module), mask.get<std::vector<bool>>()) << module << " at step " << step;
  }
}

TEST(RankAllocator, DecidesAsPeftDoesAtEveryStep) {
  const Json recorded = read_json(test::fixture("golden/adalora_trace/trace.json"));
  const Trace trace = train::read_tensors(test::fixture("golden/adalora_trace/trace.safetensors"));
  auto layers = layers_of(recorded.at("modules"), trace);
  RankAllocator allocator(budget_of(recorded.at("schedule")), layers, 12);
  for (const Json& expected : recorded.at("steps")) {
    const int64_t step = expected.at("step").get<int64_t>();
    set_weights(layers, trace, step);
    allocator.update(step);
    expect_step(allocator, layers, trace, expected);
  }
  for (const auto& [key, kept] : recorded.at("rank_pattern").items()) {
    const std::string module = key.substr(0, key.rfind('.'));
    EXPECT_EQ(allocator.pattern().at(module), kept.get<std::vector<bool>>()) << key;
  }
}

TEST(RankAllocator, GoesOnFromItsStateAfterAnyStep) {
  const Json recorded = read_json(test::fixture("golden/adalora_trace/trace.json"));
  const Trace trace = train::read_tensors(test::fixture("golden/adalora_trace/trace.safetensors"));
  const RankBudget budget = budget_of(recorded.at("schedule"));
  const Json& steps = recorded.at("steps");
  for (size_t stop = 1; stop < steps.size(); ++stop) {
    auto layers = layers_of(recorded.at("modules"), trace);
    RankAllocator first(budget, layers, 12), second(budget, layers, 12);
    for (size_t i = 0; i < steps.size(); ++i) {
      RankAllocator& acting = i < stop ? first : second;
      if (i == stop) {
        std::map<std::string, Tensor> state;
        for (const NamedTensor& tensor : first.state()) state[tensor.name] = tensor.value;
        second.set_state(state);
      }
      set_weights(layers, trace, static_cast<int64_t>(i) + 1);
      acting.update(static_cast<int64_t>(i) + 1);
      expect_step(acting, layers, trace, steps[i]);
    }
  }
}

/// One layer with `gate` as its only tensor, all gradients 1.
std::vector<RankAllocator::Layer> gate_only(std::vector<double> gate) {
  const auto rank = static_cast<int64_t>(gate.size());
  const Tensor value = at::tensor(gate, at::kDouble).view({rank, 1}).requires_grad_(true);
  value.mutable_grad() = at::ones_like(value);
  return {{"layer", value, {{"layer.gate", value, 0}}}};
}

RankBudget small_budget(int64_t target) {
  return {.gate = "gate", .scored = {{"gate", 0}}, .init_rank = 4, .target_rank = target};
}

TEST(RankAllocator, CutsTheWeakestAndTies) {
  const auto layers = gate_only({4, 1, 1, 3});
  RankAllocator allocator(small_budget(3), layers, 2);
  allocator.update(1);
  EXPECT_TRUE(allocator.held().count("layer"));
  allocator.update(2);
  EXPECT_EQ(allocator.pattern().at("layer"), (std::vector<bool>{true, false, false, true}))
      << "one is to go, and its equal goes with it";
  EXPECT_EQ(allocator.ranks().at("layer"), 2);
  EXPECT_TRUE(at::equal(layers[0].gate, at::tensor({4., 0., 0., 3.}, at::kDouble).view({4, 1})));
}

// PEFT prunes in the steps that deltaT divides, wherever the warm-up ends.
TEST(RankAllocator, PrunesWhereTheNumberOfTheStepIsAMultiple) {
  RankBudget budget = small_budget(1);
  budget.tinit = 1;
  budget.delta_t = 3;
  RankAllocator allocator(budget, gate_only({4, 1, 2, 3}), 10);
  std::vector<int64_t> pruned;
  for (int64_t step = 1; step <= 10; ++step) {
    allocator.update(step);
    if (!allocator.held().empty()) pruned.push_back(step);
  }
  EXPECT_EQ(pruned, (std::vector<int64_t>{3, 6, 9, 10}));
}

TEST(RankAllocator, HoldsTheLastPatternToTheEnd) {
  const auto layers = gate_only({4, 1, 2, 3});
  RankBudget budget = small_budget(2);
  budget.tfinal = 2;
  RankAllocator allocator(budget, layers, 4);
  allocator.update(1);
  allocator.update(2);
  for (int64_t step = 3; step <= 4; ++step) {
    Tensor(layers[0].gate.detach()).fill_(7);
    allocator.update(step);
    EXPECT_TRUE(at::equal(layers[0].gate, at::tensor({7., 0., 0., 7.}, at::kDouble).view({4, 1})));
  }
}

TEST(RankAllocator, PrunesNothingWhenTheTargetIsTheStart) {
  const auto layers = gate_only({4, 1, 2, 3});
  RankAllocator allocator(small_budget(4), layers, 3);
  for (int64_t step = 1; step <= 3; ++step) allocator.update(step);
  EXPECT_TRUE(at::equal(layers[0].gate, at::tensor({4., 1., 2., 3.}, at::kDouble).view({4, 1})));
}

TEST(RankAllocator, RefusesSchedulesThatCannotPrune) {
  const auto refused = [](RankBudget budget, int64_t steps) {
    return test::error_of([&] { RankAllocator(budget, gate_only({1, 2, 3, 4}), steps); });
  };
  EXPECT_EQ(refused(small_budget(5), 10).id(), "config.rank-budget");
  RankBudget late = small_budget(2);
  late.tinit = 4;
  late.tfinal = 6;
  EXPECT_EQ(refused(late, 10).id(), "config.rank-budget");
  EXPECT_NE(refused(late, 10).parts().what.find("tinit 4 is not below total_step 10 - tfinal 6"), std::string::npos);
  EXPECT_EQ(refused(late, 11).id(), "none");
  EXPECT_EQ(refused(small_budget(2), 1).id(), "config.rank-budget") << "nothing is scored before the only step";
}

TEST(RankAllocator, RefusesAStateOfAnotherShape) {
  RankAllocator allocator(small_budget(2), gate_only({1, 2, 3, 4}), 5);
  const Error error = test::error_of([&] {
    allocator.set_state({{"importance.layer.gate", at::zeros({3, 1})}, {"uncertainty.layer.gate", at::zeros({3, 1})}});
  });
  EXPECT_EQ(error.id(), "config.resume");
}

}  // namespace
}  // namespace deltaw
