// Rank budgets of adapters that act together.
#include "adapt/rank_budgets.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/error.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::small_config;
using test::TinyModel;

constexpr int64_t kSteps = 6;

class RankBudgetsOfParts : public testing::Test {
 protected:
  Adapter make(const std::string& method, uint64_t seed, const Json& more = Json::object()) const {
    Adapter adapter = Adapter::create(model, small_config(find_method(method), more), seed);
    test::randomise(adapter, seed + 10);
    return adapter;
  }
  static std::vector<Adapter> pair(Adapter first, Adapter second) {
    std::vector<Adapter> parts;
    parts.push_back(std::move(first));
    parts.push_back(std::move(second));
    return parts;
  }
  // Gradients that depend on the step and the tensor's place among those of its adapter.
  static void step(const Adapter& adapter, RankBudgets& budgets, int64_t number) {
    const auto draw = [number](const Adapter& single) {
      at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(number));
      for (const NamedTensor& tensor : single.trained()) {
        tensor.value.mutable_grad() = at::randn(tensor.value.sizes(), generator, at::kDouble);
      }
    };
    for (const Adapter& part : adapter.parts()) draw(part);
    if (adapter.parts().empty()) draw(adapter);
    budgets.update(number);
  }
  static void expect_equal(const Adapter& a, const Adapter& b) {
    EXPECT_EQ(a.kept_ranks, b.kept_ranks);
    const auto first = a.trained(), second = b.trained();
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(first[i].value.equal(second[i].value)) << first[i].name;
  }

  TinyModel model{6, 5, at::kDouble};
  Json gated = {{"target_r", 2}, {"tinit", 1}, {"tfinal", 1}};
};

TEST_F(RankBudgetsOfParts, PruneEachAsIfAlone) {
  Json later = gated;
  later.update({{"target_r", 1}, {"tfinal", 3}});
  for (const auto& [method, options] : std::vector<std::pair<std::string, Json>>{
           {"adalora", gated}, {"sora", gated}, {"moslora", gated}, {"randlora", {{"r", 2}, {"target_r", 1}}}}) {
    Adapter alone = make(method, 2, options), other = make("adalora", 3, later);
    Adapter both = Adapter::compose(pair(make(method, 2, options), make("adalora", 3, later)));
    RankBudgets first(alone, kSteps), second(other, kSteps), budgets(both, kSteps);
    for (int64_t number = 1; number <= kSteps; ++number) {
      step(alone, first, number);
      step(other, second, number);
      step(both, budgets, number);
      expect_equal(both.parts()[0], alone);
      expect_equal(both.parts()[1], other);
    }
    EXPECT_FALSE(alone.kept_ranks.empty()) << method;
    EXPECT_NE(alone.kept_ranks, other.kept_ranks) << method;
    EXPECT_EQ(budgets.ranks().size(), first.ranks().size() + second.ranks().size());
    EXPECT_EQ(both.parts()[1].config().options["total_step"], kSteps);
  }
}

TEST_F(RankBudgetsOfParts, GoOnFromTheirStates) {
  const auto compose = [&] { return Adapter::compose(pair(make("adalora", 2, gated), make("sora", 3, gated))); };
  for (int64_t stop = 1; stop < kSteps; ++stop) {
    Adapter whole = compose(), halves = compose();
    RankBudgets budgets(whole, kSteps), first(halves, kSteps), second(halves, kSteps);
    for (int64_t number = 1; number <= kSteps; ++number) {
      step(whole, budgets, number);
      if (number == stop + 1) {
        std::map<std::string, Tensor> state;
        for (const NamedTensor& tensor : first.state()) state[tensor.name] = tensor.value;
        second.set_state(state);
        const Json kept = kept_ranks(halves);
        set_kept_ranks(halves, JsonFields(Json::object(), "kept_ranks"));
        EXPECT_TRUE(halves.parts()[0].kept_ranks.empty());
        set_kept_ranks(halves, JsonFields(kept, "kept_ranks"));
      }
      step(halves, number <= stop ? first : second, number);
      for (size_t i = 0; i < 2; ++i) expect_equal(halves.parts()[i], whole.parts()[i]);
    }
  }
}

TEST_F(RankBudgetsOfParts, LeaveDeadComponentsOutOfThatPartsFileAndOthersWhole) {
  Adapter both = Adapter::compose(pair(make("lora", 1), make("adalora", 2, gated)));
  RankBudgets budgets(both, kSteps);
  for (int64_t number = 1; number <= kSteps; ++number) step(both, budgets, number);
  const test::TemporaryFolder folder;
  both.save(folder.path());
  const auto rows = [&](const std::string& part, const std::string& tensor) {
    const test::Golden file(folder / part / "adapter_model.safetensors");
    int64_t sum = 0;
    for (const AdaptedLayer* layer : both.layers())
      sum += file["base_model.model." + layer->info.name + "." + tensor].size(0);
    return sum;
  };
  EXPECT_EQ(rows("0-lora", "lora_A.weight"), 6);
  EXPECT_EQ(rows("1-adalora", "lora_A"), 4);
  const Adapter again = Adapter::load(model, folder.path());
  for (size_t i = 0; i < both.layers().size(); ++i) {
    const auto dense = [&](const Adapter& adapter) {
      const AdaptedLayer* layer = adapter.layers()[i];
      const Update u = layer->update();
      return at::mm(u.left, u.right) * u.scale;
    };
    EXPECT_TRUE(dense(again).allclose(dense(both), 1e-6, 1e-6));
  }
}

TEST_F(RankBudgetsOfParts, LeaveFrozenPartsAlone) {
  Adapter finished = make("adalora", 2, gated);
  finished.freeze();
  Adapter both = Adapter::compose(pair(make("lora", 1), std::move(finished)));
  EXPECT_TRUE(RankBudgets(both, kSteps).empty());
}

TEST_F(RankBudgetsOfParts, RefuseAScheduleThatCannotPrune) {
  Adapter both = Adapter::compose(pair(make("lora", 1), make("adalora", 2, {{"tinit", 9}})));
  EXPECT_EQ(test::error_of([&] { RankBudgets(both, kSteps); }).id(), "config.rank-budget");
}

}  // namespace
}  // namespace deltaw
