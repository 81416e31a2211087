// Every method with a rank budget, pruned by the trainer: its file computes what the adapter in memory does.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

using test::tiny_options;
using test::TinyRun;

const Json kSchedule = {{"target_r", 2}, {"tinit", 1}, {"tfinal", 3}};

struct Case {
  std::string method;
  Json options;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.method << " " << c.options.dump();
}

std::vector<Case> budget_cases() {
  std::vector<Case> all;
  for (const auto& [method, options] : std::vector<std::pair<std::string, Json>>{
           {"adalora", {{"init_r", 5}}},
           {"lora2", {{"r", 5}, {"k", 5}}},
           {"moslora", {{"r", 5}}},
           {"sora", {{"r", 5}}},
           {"randlora", {{"r", 3}, {"randlora_alpha", 30}}},
           {"randlora", {{"r", 3}, {"randlora_alpha", 30}, {"randlora_scaling", "r_sqrt_n"}}}}) {
    all.push_back({method, options});
    all.back().options.update(kSchedule);
  }
  return all;
}

class Pruned : public testing::TestWithParam<Case> {};

TEST_P(Pruned, ComputesTheSameFromItsFile) {
  const auto& [method, options] = GetParam();
  const test::TemporaryFolder folder;
  TrainOptions run_options = tiny_options(folder / "out");
  run_options.learning_rate = 5e-2;
  AdapterConfig config = test::adapter_config(method, options);
  // Wider than high, and the other way round: RandLoRA turns its factors.
  config.target_modules = Json::array({"query", "intermediate.dense", "layer.1.output.dense"});
  TinyRun run(config, run_options);
  run.trainer.train();

  ASSERT_FALSE(run.adapter.kept_ranks.empty());
  bool apart = false;  // components that are kept behind one that is not
  for (const auto& [layer, kept] : run.adapter.kept_ranks) {
    const auto cut = std::find(kept.begin(), kept.end(), false);
    apart = apart || std::find(cut, kept.end(), true) != kept.end();
  }
  EXPECT_TRUE(apart) << "the first components are kept, and their order is not tested";

  const auto rows = test::invented_rows(9, 3);
  const Tensor before = predict_logits(*run.model, &run.adapter, *test::source_of(rows), 4);
  const Tensor base = predict_logits(*run.model, nullptr, *test::source_of(rows), 4);
  EXPECT_GT((before - base).abs().max().item<double>(), 1e-2) << "nothing was trained";
  const auto saved = folder / "saved";
  std::filesystem::create_directories(saved);
  run.adapter.save(saved);
  const Adapter loaded = Adapter::load(*run.model, saved);
  const Tensor after = predict_logits(*run.model, &loaded, *test::source_of(rows), 4);
  EXPECT_LT((after - before).abs().max().item<double>(), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Budgets, Pruned, testing::ValuesIn(budget_cases()));

TEST(PrunedMethods, AreAllTheMethodsWithABudget) {
  for (const MethodSpec* spec : method_table()) {
    const auto options = spec->options();
    const bool has_budget =
        std::any_of(options.begin(), options.end(), [](const FieldInfo& field) { return field.name == "target_r"; });
    const auto all = budget_cases();
    const bool listed = std::any_of(all.begin(), all.end(), [&](const Case& c) { return c.method == spec->id; });
    EXPECT_EQ(has_budget, listed) << spec->id;
  }
}

}  // namespace
}  // namespace deltaw
