// What papers and PEFT say of a method, written out where no stored case shows it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::small_config;
using test::TinyModel;

Adapter made(const Model& model, const std::string& method, const Json& options) {
  return Adapter::create(model, small_config(find_method(method), options), 1);
}

std::set<std::string> names_of(const AdaptedLayer& layer) {
  std::set<std::string> names;
  for (const Param& param : layer.params.all()) names.insert(param.name);
  return names;
}

bool has_option(const MethodSpec& spec, const std::string& name) {
  const std::vector<FieldInfo> options = spec.options();
  return std::any_of(options.begin(), options.end(), [&](const FieldInfo& field) { return field.name == name; });
}

TEST(Methods, HaveTheDropoutThatTheirOptionSays) {
  const TinyModel model(6, 5, at::kDouble);
  int64_t seen = 0;
  for (const MethodSpec* spec : method_table()) {
    for (const FieldInfo& field : spec->options()) {
      if (!field.name.ends_with("dropout")) continue;
      EXPECT_EQ(made(model, spec->id, {{field.name, 0.25}}).method().dropout(), 0.25) << spec->id;
      EXPECT_EQ(made(model, spec->id, Json::object()).method().dropout(), 0) << spec->id;
      ++seen;
    }
  }
  EXPECT_GE(seen, 9);
}

TEST(Methods, HandTheirBudgetOn) {
  const TinyModel model(6, 5, at::kDouble);
  int64_t seen = 0;
  for (const MethodSpec* spec : method_table()) {
    if (!has_option(*spec, "target_r")) continue;
    const Adapter adapter = made(model, spec->id,
                                 {{"target_r", 1},
                                  {"tinit", 2},
                                  {"tfinal", 3},
                                  {"deltaT", 4},
                                  {"beta1", 0.6},
                                  {"beta2", 0.7},
                                  {"total_step", 20}});
    const std::optional<RankBudget> budget = adapter.method().rank_budget();
    ASSERT_TRUE(budget) << spec->id;
    EXPECT_EQ(budget->target_rank, 1) << spec->id;
    EXPECT_EQ(budget->tinit, 2) << spec->id;
    EXPECT_EQ(budget->tfinal, 3) << spec->id;
    EXPECT_EQ(budget->delta_t, 4) << spec->id;
    EXPECT_EQ(budget->beta1, 0.6) << spec->id;
    EXPECT_EQ(budget->beta2, 0.7) << spec->id;
    EXPECT_EQ(budget->total_step, 20) << spec->id;
    ++seen;
  }
  EXPECT_GE(seen, 3);
}

// PEFT: alpha where it is above zero, else the rank, over the rank and a little.
TEST(Methods, AdaLoraWithoutAnAlphaTakesTheRank) {
  const TinyModel model(6, 5, at::kDouble);
  for (const double alpha : {0.0, -1.0, 12.0}) {
    const Adapter adapter = made(model, "adalora", {{"init_r", 3}, {"lora_alpha", alpha}});
    const double numerator = alpha > 0 ? alpha : 3;
    EXPECT_DOUBLE_EQ(adapter.layers()[0]->update().scale, numerator / (3 + 1e-5)) << alpha;
  }
}

// Of as many triplets as there are, B A is W0.
TEST(Methods, LoraXsHoldsTheSingularTripletsOfTheWeight) {
  const TinyModel model(6, 5, at::kDouble);
  const Adapter adapter = made(model, "lora_xs", {{"r", 5}});
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor A = layer->params["lora_A"].to(at::kDouble), B = layer->params["lora_B"].to(at::kDouble);
    EXPECT_TRUE(at::mm(B, A).allclose(layer->base->weight.value, 1e-5, 1e-5));
    EXPECT_TRUE(at::mm(B.t(), B).allclose(at::eye(5, at::kDouble), 1e-5, 1e-5));
  }
}

// PEFT decomposes w2 where twice the rank is below the longer side of it, and w1 likewise where asked.
TEST(Methods, LokrDecomposesWhatIsLongerThanTwiceTheRank) {
  const TinyModel model(16, 16, at::kDouble);  // both factors are 4 x 4
  const auto names = [&](int64_t r, bool both) {
    return names_of(*made(model, "lokr", {{"r", r}, {"decompose_both", both}}).layers()[0]);
  };
  using Names = std::set<std::string>;
  EXPECT_EQ(names(1, false), (Names{"w1", "w2_a", "w2_b"}));
  EXPECT_EQ(names(1, true), (Names{"w1_a", "w1_b", "w2_a", "w2_b"}));
  EXPECT_EQ(names(2, true), (Names{"w1", "w2"}));
}

// As create_loraplus_optimizer: B and whatever is a vector.
TEST(Methods, LoraPlusTrainsTheBiasBesideBAsFastAsB) {
  const TinyModel model(6, 5, at::kDouble);
  const Adapter adapter = made(model, "lora", {{"lora_bias", true}, {"loraplus_lr_ratio", 4.0}});
  int64_t biases = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    const bool first = tensor.name.find("lora_A") != std::string::npos;
    EXPECT_EQ(tensor.rate, first ? 1 : 4) << tensor.name;
    biases += tensor.name.ends_with("lora_B.bias");
  }
  EXPECT_EQ(biases, 2);
}

TEST(Methods, BottlenecksHaveTheExactGelu) {
  const TinyModel model(6, 5, at::kDouble);
  const Tensor h = at::empty({7, 6}, at::kDouble).normal_(0, 2, at::make_generator<at::CPUGeneratorImpl>(2));
  for (const char* method : {"houlsby", "pfeiffer"}) {
    Adapter adapter = made(model, method, {{"bottleneck_dim", 3}});
    test::randomise(adapter, 3);
    for (const AdaptedLayer* layer : adapter.layers()) {
      const auto wide = [&](const char* name) { return layer->params[name].detach().to(at::kDouble); };
      const Tensor inner = at::mm(h, wide("down").t()) + wide("down_bias");
      const Tensor gelu = inner * 0.5 * (1 + at::erf(inner / std::sqrt(2.0)));
      const Tensor expected = h + at::mm(gelu, wide("up").t()) + wide("up_bias");
      const Tensor mapped = layer->method->map_output(layer->info, layer->params, h);
      EXPECT_LT((mapped - expected).abs().max().item<double>(), 1e-9) << method;
    }
  }
}

}  // namespace
}  // namespace deltaw
