// ModernBERT beyond its fixtures' logits (oracle_test.cpp): what it makes of keys, of checkpoints with other heads, and
// of a pass that needs only the first tokens.
#include <gtest/gtest.h>

#include <algorithm>

#include "io/safetensors.h"
#include "support/checkpoint_folder.h"

namespace deltaw {
namespace {

using test::differs;
using test::fixture;
using test::Golden;

class ModernBert : public test::CheckpointFolder {};

// An observer is shown every token; without one, the last block computes the first tokens alone.
TEST_F(ModernBert, ComputesTheFirstTokensAsItWouldWithAllOthers) {
  copy("modernbert_cls");
  for (const char* last : {"full_attention", "sliding_attention"}) {
    edit({{"layer_types", {"full_attention", "sliding_attention", "full_attention", last}}});
    const auto model = load();
    const at::NoGradGuard no_grad;
    test::SeesAll sees;
    Call all{.observer = &sees};
    EXPECT_EQ(differs(logits(*model), model->forward(io().input(), all), 1e-12), "") << last;
  }
}

TEST_F(ModernBert, ComputesTheFirstTokensBehindAPrefixToo) {
  copy("modernbert_cls");
  edit({{"layer_types", {"full_attention", "sliding_attention", "full_attention", "sliding_attention"}}});
  AdapterConfig config{.method = "prefix_tuning"};
  config.options["num_virtual_tokens"] = 3;
  std::vector<Tensor> found;
  for (const char* task : {"SEQ_CLS", "TOKEN_CLS"}) {
    const auto model = load({.task_type = task, .dtype = "float64", .num_labels = 3});
    const Adapter adapter = Adapter::create(*model, config, 1);
    const Tensor all = test::logits_of(*model, &adapter, io().input());
    found.push_back(all.dim() == 3 ? all.select(1, 0) : all);
    EXPECT_NE(differs(all, test::logits_of(*model, nullptr, io().input()), 1e-6), "") << task;
  }
  EXPECT_EQ(differs(found[0], found[1], 1e-12), "");
}

// The float32 passes go through the kernels, those in float64 through the plain formulas.
TEST_F(ModernBert, HasTheGradientsOfItsFormulas) {
  for (const char* name : {"modernbert_cls", "modernbert_mean"}) {
    copy(name);
    std::vector<std::vector<Tensor>> gradients;
    for (const char* dtype : {"float32", "float64"}) {
      const auto model = load({.dtype = dtype});
      const Adapter adapter = Adapter::create(*model, {.target_modules = {"Wqkv", "Wo", "Wi"}}, 1);
      test::draw_trained(adapter);
      gradients.push_back(test::gradients_of(*model, adapter, test::input_of(io())));
    }
    ASSERT_EQ(gradients[0].size(), gradients[1].size());
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      const double most = gradients[1][i].abs().max().item<double>();
      EXPECT_GT(most, 0) << name << " " << i;
      EXPECT_EQ(differs(gradients[0][i], gradients[1][i], 1e-3 * most), "") << name << " " << i;
    }
  }
}

TEST_F(ModernBert, DrawsOfAHeadWhatTheCheckpointLacks) {
  copy("modernbert_cls");
  EXPECT_TRUE(load()->new_modules().empty());
  const auto drawn = load({.dtype = "float64", .new_head = true});
  EXPECT_EQ(drawn->new_modules(), std::vector<std::string>{"classifier"});
}

// Checkpoints of masked language models bring the layers before a classifier, bare ones bring none of the head.
TEST_F(ModernBert, TakesOfACheckpointWithAnotherHeadWhatIsTheSame) {
  copy("modernbert_masked");
  const ModelOptions options{.task_type = "SEQ_CLS", .dtype = "float64", .num_labels = 2};
  const Golden stored(folder / "model.safetensors");
  const auto model = load(options);
  EXPECT_EQ(model->new_modules(), std::vector<std::string>{"classifier"});
  const auto dense = std::find_if(model->layers().begin(), model->layers().end(),
                                  [](const Layer* layer) { return layer->name == "head.dense"; });
  ASSERT_NE(dense, model->layers().end());
  EXPECT_TRUE((*dense)->weight.value.equal(stored["head.dense.weight"].to(at::kDouble)));

  std::vector<Tensor> kept;
  std::vector<io::TensorBytes> bare;
  for (const std::string& name : stored.names("model.")) {
    kept.push_back(stored["model." + name].clone());
    bare.push_back(to_bytes(name, kept.back()));
  }
  io::write_safetensors(folder / "model.safetensors", bare);
  const auto drawn = load(options);
  EXPECT_EQ(drawn->new_modules(), (std::vector<std::string>{"head.dense", "classifier"}));
  const Norm& norm = drawn->norms().back();
  EXPECT_EQ(norm.name, "head.norm");
  EXPECT_TRUE(norm.weight.value.eq(1).all().item<bool>());
  EXPECT_TRUE(at::isfinite(logits(*drawn)).all().item<bool>());
}

TEST_F(ModernBert, DropsWhereItsConfigSaysSo) {
  copy("modernbert_cls");
  expect_dropouts({"embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout"});
}

TEST_F(ModernBert, ReadsTheKeysOfEveryRelease) {
  copy("modernbert_cls");
  const Tensor expected = logits(*load());
  edit({{"layer_types", nullptr},
        {"global_attn_every_n_layers", 3},
        {"rope_parameters", nullptr},
        {"global_rope_theta", 100.0},
        {"local_rope_theta", 20.0}});
  EXPECT_TRUE(logits(*load()).equal(expected));
  edit({{"global_attn_every_n_layers", 2}});
  EXPECT_NE(differs(logits(*load()), expected, 1e-3), "");
  edit({{"global_attn_every_n_layers", 3}, {"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}}});
  EXPECT_NE(differs(logits(*load()), expected, 1e-3), "");
}

TEST_F(ModernBert, RefusesWhatItDoesNotKnow) {
  copy("modernbert_cls");
  expect_refused({{"classifier_pooling", "max"},
                  {"local_attention", 1},
                  {"layer_types", {"full_attention"}},
                  {"layer_types", {"full_attention", "chunked_attention", "full_attention", "full_attention"}},
                  {"rope_parameters", {{"full_attention", "default"}}},
                  {"rope_parameters", {{"sliding_attention", {{"rope_type", "spiral"}}}}},
                  {"num_attention_heads", 5},
                  {"hidden_activation", "swoosh"},
                  {"classifier_activation", "swoosh"}});
}

TEST(ModernBertTargets, AreItsAttentionWhereNobodySays) {
  const auto model = load_model(fixture("golden/models/modernbert_cls").string(), {.dtype = "float32"});
  const Adapter adapter = Adapter::create(*model, {}, 1);
  EXPECT_EQ(static_cast<int64_t>(adapter.layers().size()), model->shape().layers);
  for (const AdaptedLayer* layer : adapter.layers()) EXPECT_TRUE(layer->info.name.ends_with("attn.Wqkv"));
}

}  // namespace
}  // namespace deltaw
