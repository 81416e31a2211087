// Several adapters on one model, and tensors that layers share.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/error.h"
#include "support/golden.h"
#include "support/gradcheck.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;
using test::randomise;
using test::small_config;
using test::TinyModel;

class Compose : public testing::Test {
 protected:
  Adapter make(const std::string& method, uint64_t seed, Json more = Json::object()) const {
    Adapter adapter = Adapter::create(model, small_config(find_method(method), std::move(more)), seed);
    randomise(adapter, seed + 10);
    return adapter;
  }
  Tensor run(const Adapter* adapter) const {
    const at::NoGradGuard no_grad;
    Call call{.adapter = adapter};
    return model.run(x, call);
  }
  Tensor change(const Adapter& adapter) const { return run(&adapter) - run(nullptr); }
  static void expect_near(const Tensor& actual, const Tensor& expected) {
    EXPECT_LT((actual - expected).abs().max().item<double>(),
              1e-9 * std::max(1.0, expected.abs().max().item<double>()));
  }
  static std::vector<Adapter> pair(Adapter first, Adapter second) {
    std::vector<Adapter> parts;
    parts.push_back(std::move(first));
    parts.push_back(std::move(second));
    return parts;
  }

  TinyModel model{6, 5, at::kDouble};
  Tensor x = at::randn({3, 4, 5}, at::make_generator<at::CPUGeneratorImpl>(1), at::kDouble);
};

TEST_F(Compose, AddsUpWhatEachChanges) {
  for (const auto& [a, b] : std::vector<std::pair<std::string, std::string>>{
           {"lora", "randlora"}, {"lora", "loha"}, {"moslora", "vera"}, {"lora", "lokr"}, {"loha", "lokr"}}) {
    const Tensor expected = change(make(a, 1)) + change(make(b, 2)) * 0.5;
    const Adapter both = Adapter::compose(pair(make(a, 1), make(b, 2)), {1, 0.5});
    expect_near(change(both), expected);
    EXPECT_EQ(both.spec().id, a + "+" + b);
    for (const AdaptedLayer* layer : both.layers()) {
      const MergedLayer merged = merge_layer(*layer, layer->base->weight.value, layer->base->bias.value);
      const int64_t i = layer->base->index;
      expect_near(at::linear(x, merged.weight, merged.bias), run(&both).narrow(-1, 6 * i, 6));
    }
  }
}

TEST_F(Compose, TakesWeightUpdatesTogetherWithBottlenecks) {
  const Adapter lora = make("lora", 1), houlsby = make("houlsby", 2);
  const Adapter both = Adapter::compose(pair(make("lora", 1), make("houlsby", 2)));
  const at::NoGradGuard no_grad;
  Tensor expected = run(&lora);
  std::vector<Tensor> parts;
  for (const AdaptedLayer* layer : houlsby.layers()) {
    parts.push_back(
        layer->method->map_output(layer->info, layer->params, expected.narrow(-1, 6 * layer->base->index, 6)));
  }
  expect_near(run(&both), at::cat(parts, -1));
  EXPECT_FALSE(both.spec().mergeable);
}

TEST_F(Compose, GivesEveryPartTheGradientThatItHasAloneAndNoneToAFrozenOne) {
  Adapter frozen = make("randlora", 2);
  frozen.freeze();
  Adapter both = Adapter::compose(pair(make("lora", 1), std::move(frozen)));
  const auto tensors = both.trained();
  EXPECT_EQ(tensors.size(), 4u);  // lora_A and lora_B on two layers
  Call call{.adapter = &both};
  model.run(x, call).square().sum().backward();
  const auto loss = [&] { return run(&both).square().sum().item<double>(); };
  for (const NamedTensor& tensor : tensors) {
    EXPECT_EQ(test::check_gradient(loss, tensor.value, tensor.value.grad()), "") << tensor.name;
  }
}

TEST_F(Compose, SavesEachPartAsItStandsAloneAndLoadsThemTogether) {
  const Adapter both = Adapter::compose(pair(make("lora", 1), make("randlora", 2)), {0.25, 1});
  const test::TemporaryFolder folder;
  both.save(folder.path());
  EXPECT_TRUE(run(&both).equal(run(std::make_unique<Adapter>(Adapter::load(model, folder.path())).get())));
  const Adapter first = Adapter::load(model, folder / "0-lora"), alone = make("lora", 1);
  EXPECT_TRUE(run(&first).equal(run(&alone)));
}

TEST_F(Compose, RefusesByNameWhatCannotActTogether) {
  const auto refused = [&](const std::string& a, const std::string& b) {
    return error_of([&] { Adapter::compose(pair(make(a, 1), make(b, 2))); });
  };
  for (const auto& [a, b] : std::vector<std::pair<std::string, std::string>>{
           {"dora", "ia3"}, {"dora", "dora"}, {"oft", "oft"}, {"ia3", "lokr"}}) {
    const Error error = refused(a, b);
    EXPECT_EQ(error.id(), "config.conflict");
    EXPECT_NE(error.parts().what.find(a), std::string::npos) << error.parts().what;
    EXPECT_NE(error.parts().what.find(b), std::string::npos) << error.parts().what;
  }
}

TEST_F(Compose, IsWhatBesideAsksFor) {
  const test::TemporaryFolder folder;
  const Adapter finished = make("loha", 5);
  finished.save(folder.path());
  const Json beside = {{{"method", "randlora"}, {"r", 3}, {"target_modules", {"dense"}}},
                       {{"adapter_name_or_path", folder.path().string()}}};
  const Adapter all = Adapter::create(model, small_config(find_method("lora"), {{"beside", beside}}), 1);
  EXPECT_EQ(all.spec().id, "lora+randlora+loha");
  EXPECT_EQ(all.trained().size(), 6u);  // LoRA's four and RandLoRA's two of one layer
  expect_near(change(all), change(finished));
  EXPECT_EQ(
      error_of([&] {
        Adapter::create(model, small_config(find_method("lora"), {{"beside", {{{"method", "lora"}, {"rr", 2}}}}}), 1);
      }).id(),
      "config.unsupported");
}

TEST_F(Compose, SharesTensorsByPattern) {
  const Json share = {{"lora_AB", ".*"}};
  Adapter adapter = Adapter::create(model, small_config(find_method("moslora"), {{"share", share}}), 1);
  const Adapter apart = Adapter::create(model, small_config(find_method("moslora")), 1);
  EXPECT_EQ(adapter.trained_count(), apart.trained_count() - 9);  // one mixer of 3 x 3 less
  randomise(adapter, 3);
  EXPECT_TRUE(adapter.layers()[0]->params["lora_AB"].is_same(adapter.layers()[1]->params["lora_AB"]));
  Call call{.adapter = &adapter};
  model.run(x, call).square().sum().backward();
  const auto loss = [&] { return run(&adapter).square().sum().item<double>(); };
  for (const NamedTensor& tensor : adapter.trained()) {
    EXPECT_EQ(test::check_gradient(loss, tensor.value, tensor.value.grad()), "") << tensor.name;
  }

  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter again = Adapter::load(model, folder.path());
  EXPECT_EQ(again.trained_count(), adapter.trained_count());
  EXPECT_TRUE(run(&again).equal(run(&adapter)));

  const auto refused = [&](const std::string& method, const Json& map) {
    return error_of([&] { Adapter::create(model, small_config(find_method(method), {{"share", map}}), 1); }).id();
  };
  EXPECT_EQ(refused("moslora", {{"lora_AC", ".*"}}), "config.bad-value");
  EXPECT_EQ(refused("moslora", {{"lora_AB", "nothing"}}), "config.unmatched-pattern");
  EXPECT_EQ(refused("adalora", {{"lora_A", ".*"}}), "config.conflict");
}

}  // namespace
}  // namespace deltaw
