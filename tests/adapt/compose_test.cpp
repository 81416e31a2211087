// Several adapters on one model, and tensors that layers share.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <tuple>

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

TEST_F(Compose, WeighsOperatorsAndBiasesToo) {
  const Json biased = {{"lora_bias", true}};
  const Json none = Json::object();
  for (const auto& [a, of_a, b, of_b] :
       std::vector<std::tuple<std::string, Json, std::string, Json>>{{"lora", none, "lokr", none},
                                                                     {"lokr", none, "lora", none},
                                                                     {"lora", biased, "loha", none},
                                                                     {"lora", biased, "lora", biased},
                                                                     {"lokr", none, "lokr", none}}) {
    SCOPED_TRACE(a + " and " + b);
    const Tensor expected = change(make(a, 1, of_a)) * 0.3 + change(make(b, 2, of_b)) * -2;
    const Adapter both = Adapter::compose(pair(make(a, 1, of_a), make(b, 2, of_b)), {0.3, -2});
    expect_near(change(both), expected);
    for (const AdaptedLayer* layer : both.layers()) {
      const MergedLayer merged = merge_layer(*layer, layer->base->weight.value, layer->base->bias.value);
      const int64_t i = layer->base->index;
      expect_near(at::linear(x, merged.weight, merged.bias), (run(nullptr) + expected).narrow(-1, 6 * i, 6));
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
  EXPECT_FALSE(both.spec().mergeable());
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

TEST_F(Compose, StartsEveryPartFromNumbersOfItsOwn) {
  const Json alike = {{"method", "lora"}, {"r", 3}, {"target_modules", {"key", "dense"}}};
  const Adapter three =
      Adapter::create(model, small_config(find_method("lora"), {{"r", 3}, {"beside", {alike, alike}}}), 1);
  ASSERT_EQ(three.parts().size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Tensor &a = three.parts()[i].layers()[0]->params["lora_A"],
                   &b = three.parts()[j].layers()[0]->params["lora_A"];
      EXPECT_FALSE(a.equal(b)) << i << " and " << j;
    }
  }
}

TEST_F(Compose, RefusesArgumentsThatMakeNoSum) {
  const auto id_of = [](const std::function<void()>& action) { return error_of(action).id(); };
  EXPECT_EQ(id_of([&] { Adapter::compose({}); }), "config.bad-value");
  EXPECT_EQ(id_of([&] { Adapter::compose(pair(make("lora", 1), make("loha", 2)), {1}); }), "config.bad-value");
  EXPECT_EQ(id_of([&] { Adapter::compose(pair(make("lora", 1), make("loha", 2)), {1, 1, 1}); }), "config.bad-value");
  for (const double weight : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(id_of([&] {
                Adapter::compose(pair(make("lora", 1), make("loha", 2)), {1, weight});
              }),
              "config.bad-value");
  }
  std::vector<Adapter> parts = pair(make("lora", 1), make("loha", 2));
  const Adapter taken = std::move(parts[1]);
  EXPECT_EQ(id_of([&] { Adapter::compose(std::move(parts)); }), "config.bad-value");
  const TinyModel other(6, 5, at::kDouble);
  Adapter elsewhere = Adapter::create(other, small_config(find_method("lora")), 1);
  EXPECT_EQ(id_of([&] { Adapter::compose(pair(make("lora", 1), std::move(elsewhere))); }), "config.conflict");
}

TEST_F(Compose, RefusesTwoValuesOfOneBiasByName) {
  const Json biases = {{"bias", "all"}};
  const auto finished = [&](const std::string& method, uint64_t seed, bool moved) {
    Adapter adapter = Adapter::create(model, small_config(find_method(method), biases), seed);
    if (moved) randomise(adapter, seed);
    const test::TemporaryFolder folder;
    adapter.save(folder.path());
    return Adapter::load(model, folder.path());
  };
  const Error error = error_of([&] { Adapter::compose(pair(finished("lora", 1, true), finished("loha", 2, true))); });
  EXPECT_EQ(error.id(), "config.conflict");
  for (const char* part : {"lora", "loha", "layer.0.attention.key.bias"}) {
    EXPECT_NE(error.parts().what.find(part), std::string::npos) << error.parts().what;
  }
  EXPECT_NO_THROW(Adapter::compose(pair(finished("lora", 1, false), finished("loha", 2, false)))) << "equal ones";
  // Two that train them would part.
  EXPECT_EQ(error_of([&] {
              Adapter::compose(pair(Adapter::create(model, small_config(find_method("lora"), biases), 1),
                                    Adapter::create(model, small_config(find_method("loha"), biases), 2)));
            }).id(),
            "config.conflict");
  EXPECT_NO_THROW(Adapter::compose(pair(finished("lora", 1, true), make("loha", 2)))) << "one alone has biases";
}

TEST_F(Compose, RefusesAnUpdateOfAWeightThatAnotherReplaces) {
  const auto refusal = [&](const std::string& method, const Json& values, const Json& updated) {
    const Error error = error_of([&] { Adapter::compose(pair(make("lora", 1, updated), make(method, 2, values))); });
    EXPECT_EQ(error.id(), "config.conflict");
    EXPECT_NE(error.parts().what.find("trains the weight"), std::string::npos) << error.parts().what;
  };
  const Json words = {{"target_modules", {"word_embeddings"}}};
  refusal("full", Json::object(), Json::object());
  refusal("loha", {{"target_modules", {"value"}}, {"modules_to_save", {"query"}}}, {{"target_modules", {"query"}}});
  refusal("loha", {{"trainable_token_indices", {1, 2}}}, words);
  EXPECT_NO_THROW(Adapter::compose(pair(make("lora", 1), make("bitfit", 2))));
  EXPECT_NO_THROW(Adapter::compose(pair(make("lora", 1), make("loha", 2, {{"trainable_token_indices", {1, 2}}}))));
}

TEST_F(Compose, TakesThePartsOfACompositeEachWithItsWeight) {
  const Tensor expected = change(make("lora", 1)) * 0.5 + change(make("loha", 2)) * 1.5 + change(make("randlora", 3));
  const auto three = [&] {
    Adapter both = Adapter::compose(pair(make("lora", 1), make("loha", 2)), {0.25, 0.75});
    return Adapter::compose(pair(std::move(both), make("randlora", 3)), {2, 1});
  };
  const Adapter all = three();
  EXPECT_EQ(all.spec().id, "lora+loha+randlora");
  EXPECT_EQ(all.weights(), (std::vector<double>{0.5, 1.5, 1}));
  expect_near(change(all), expected);
  const test::TemporaryFolder folder;
  all.save(folder.path());
  const Adapter again = Adapter::load(model, folder.path());
  expect_near(change(again), expected);
}

TEST_F(Compose, FreezesEveryPartOfAFinishedComposite) {
  const test::TemporaryFolder folder;
  const Adapter both = Adapter::compose(pair(make("loha", 1), make("randlora", 2)));
  both.save(folder.path());
  const Json beside = {{{"adapter_name_or_path", folder.path().string()}}};
  const Adapter all = Adapter::create(model, small_config(find_method("lora"), {{"beside", beside}}), 1);
  EXPECT_EQ(all.spec().id, "lora+loha+randlora");
  EXPECT_EQ(all.trained().size(), 4u) << "LoRA's factors on two layers";
  expect_near(change(all), change(both));
}

// Of a classifier, whose adapters have a head each.
TEST(ComposeHeads, TheFirstStandsAndTheOtherStaysInItsFile) {
  const auto model = load_model(test::fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  const test::TemporaryFolder folder;
  std::vector<Adapter> parts;
  for (const char* name : {"a", "b"}) {
    Adapter adapter = Adapter::create(*model, AdapterConfig(), name[0]);
    randomise(adapter, static_cast<uint64_t>(name[0]));
    std::filesystem::create_directories(folder / name);
    adapter.save(folder / name);
    parts.push_back(std::move(adapter));
  }
  const Parameter* head = nullptr;
  for (const Parameter* parameter : model->parameters()) {
    if (parameter->name == "classifier.weight") head = parameter;
  }
  ASSERT_NE(head, nullptr);
  const Tensor first = parts[0].value(*head), second = parts[1].value(*head);
  ASSERT_FALSE(first.equal(second));
  const Adapter both = Adapter::compose(std::move(parts));
  EXPECT_TRUE(both.value(*head).equal(first));
  std::set<std::string> trained;
  for (const NamedTensor& tensor : both.trained()) EXPECT_TRUE(trained.insert(tensor.name).second) << tensor.name;
  EXPECT_TRUE(trained.contains("0.classifier.weight"));
  EXPECT_FALSE(trained.contains("1.classifier.weight")) << "it would never have a gradient";

  std::filesystem::create_directories(folder / "both");
  both.save(folder / "both");
  EXPECT_TRUE(Adapter::load(*model, folder / "both").value(*head).equal(first));
  EXPECT_TRUE(Adapter::load(*model, folder / "both" / "1-lora").value(*head).equal(second)) << "as if it stood alone";
}

TEST(ComposeHeads, EveryPartIsReadAsStrictlyAsTheFirst) {
  const TinyModel model(6, 5, at::kDouble);
  const test::TemporaryFolder folder;
  std::vector<Adapter> parts;
  parts.push_back(Adapter::create(model, small_config(find_method("lora")), 1));
  parts.push_back(Adapter::create(model, small_config(find_method("loha")), 2));
  Adapter::compose(std::move(parts)).save(folder.path());
  for (const char* part : {"0-lora", "1-loha"}) {
    const auto file = folder / part / "adapter_model.safetensors";
    const std::string whole = read_file(file);
    const io::SafetensorsFile tensors(file);
    io::write_safetensors(folder / "new", {tensors.tensors().begin(), tensors.tensors().end() - 1}, tensors.metadata());
    std::filesystem::rename(folder / "new", file);
    EXPECT_EQ(error_of([&] { Adapter::load(model, folder.path()); }).id(), "format.missing-tensor") << part;
    EXPECT_NO_THROW(Adapter::load(model, folder.path(), {.allow_partial = true})) << part;
    write_file(file, whole);
  }
  EXPECT_NO_THROW(Adapter::load(model, folder.path()));
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
