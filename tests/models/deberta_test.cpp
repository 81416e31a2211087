// DeBERTa beyond its fixtures' logits (oracle_test.cpp): what it makes of keys, of checkpoints as they are published,
// of adapters that act twice in a layer, and of a pass that needs only the first tokens.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/adapter.h"
#include "support/checkpoint_folder.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;
using test::gradients_of;

class Deberta : public test::CheckpointFolder {};

TEST_F(Deberta, ComputesTheFirstTokensAsItWouldWithAllOthers) {
  for (const char* name : {"deberta_v3_cls", "deberta_listed", "deberta_absolute", "deberta_xl"}) {
    copy(name);
    const auto model = load();
    const at::NoGradGuard no_grad;
    test::SeesAll sees;
    Call all{.observer = &sees};
    EXPECT_EQ(differs(logits(*model), model->forward(io().input(), all), 1e-12), "") << name;
  }
}

TEST_F(Deberta, ConvolvesBesideAnOnlyLayer) {
  copy("deberta_xl");
  edit({{"num_hidden_layers", 1}});
  const auto file = [&] { return io::SafetensorsFile(folder / "model.safetensors"); };
  const io::SafetensorsFile whole = file();
  std::vector<io::TensorBytes> kept = whole.tensors();
  std::erase_if(kept, [](const io::TensorBytes& t) { return t.name.find(".layer.1.") != std::string::npos; });
  io::write_safetensors(folder / "less.safetensors", kept);
  std::filesystem::rename(folder / "less.safetensors", folder / "model.safetensors");
  const at::NoGradGuard no_grad;
  std::vector<Tensor> found;
  for (const char* task : {"SEQ_CLS", "TOKEN_CLS"}) {
    const auto model = load({.task_type = task, .dtype = "float64", .num_labels = 3});
    Call call;
    const Tensor states = model->features(io().input(), call);
    found.push_back(states.dim() == 3 ? states.select(1, 0) : states);
  }
  EXPECT_EQ(differs(found[0], found[1], 1e-12), "");
}

// The float32 passes go through the kernel, those in float64 through the plain formula.
TEST_F(Deberta, HasTheGradientsOfItsFormulas) {
  for (const char* name : {"deberta_v3_cls", "deberta_listed", "deberta_c2p", "deberta_p2c", "deberta_conv_groups"}) {
    copy(name);
    std::vector<std::vector<Tensor>> gradients;
    for (const char* dtype : {"float32", "float64"}) {
      const auto model = load({.dtype = dtype});
      const Adapter adapter = Adapter::create(*model, {.target_modules = "all-linear"}, 1);
      test::draw_trained(adapter);
      gradients.push_back(gradients_of(*model, adapter, input_of(io())));
    }
    ASSERT_EQ(gradients[0].size(), gradients[1].size());
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      const double most = gradients[1][i].abs().max().item<double>();
      EXPECT_EQ(differs(gradients[0][i], gradients[1][i], 1e-3 * std::max(most, 1e-2)), "") << name << " " << i;
    }
  }
}

// Masks of the distances' embeddings, of the adapter on them and of the probabilities are drawn again in their order.
TEST_F(Deberta, GoesBackTheSameWhereBlocksRunAgain) {
  for (const char* name : {"deberta_v3_cls", "deberta_listed", "deberta_xl"}) {
    copy(name);
    edit({{"hidden_dropout_prob", 0.2}, {"attention_probs_dropout_prob", 0.2}});
    for (const char* dtype : {"float32", "float64"}) {
      const auto model = load({.dtype = dtype});
      AdapterConfig config{.target_modules = "all-linear"};
      config.options = {{"lora_dropout", 0.3}};
      const Adapter adapter = Adapter::create(*model, config, 1);
      test::draw_trained(adapter);
      const std::vector<Tensor> kept = gradients_of(*model, adapter, input_of(io()));
      const std::vector<Tensor> again = gradients_of(*model, adapter, input_of(io()), true);
      for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(kept[i].equal(again[i])) << name << " " << dtype << " " << i;
    }
  }
}

TEST_F(Deberta, DropsWhereItsConfigSaysSo) {
  copy("deberta_xl");
  edit({{"cls_dropout", 0.0}});  // which is hidden_dropout_prob where nothing is said
  expect_dropouts({"hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "cls_dropout"});
}

// Without a table of positions rows may be longer than max_position_embeddings, and far distances share a vector.
TEST_F(Deberta, ReadsRowsBeyondItsPositionsWhereItHasNoTable) {
  copy("deberta_v3_cls");
  const auto model = load();
  EXPECT_FALSE(model->has_position_table());
  const Tensor ids = at::arange(150, at::kLong).remainder(50).add(3).unsqueeze(0);
  Call call, other;
  EXPECT_TRUE(
      model->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)}, call).isfinite().all().item<bool>());
  copy("deberta_listed");
  const auto table = load();
  EXPECT_TRUE(table->has_position_table());
  const Error error =
      error_of([&] { table->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)}, other); });
  EXPECT_EQ(error.id(), "data.too-long");
}

// PEFT puts the rows of prompt tuning where the embeddings of tokens would stand.
TEST_F(Deberta, TakesPromptsAsTheTokensThatTheyAre) {
  for (const char* name : {"deberta_v3_cls", "deberta_listed"}) {
    copy(name);
    const auto model = load({.task_type = "TOKEN_CLS", .dtype = "float64", .num_labels = 3});
    AdapterConfig config{.method = "prompt_tuning"};
    config.options = {{"num_virtual_tokens", 3}};
    const Adapter adapter = Adapter::create(*model, config, 1);
    const at::NoGradGuard no_grad;
    const Tensor words = at::tensor({5, 9, 7}, at::kLong);
    for (const NamedTensor& tensor : adapter.trained()) {
      if (tensor.name == "prompt_embeddings") tensor.value.copy_(model->shape().word_embeddings.index_select(0, words));
    }
    const ModelInput input = io().input();
    const int64_t rows = input.input_ids.size(0);
    ModelInput whole{.input_ids = at::cat({words.expand({rows, -1}), input.input_ids}, 1),
                     .attention_mask = at::cat({at::ones({rows, 3}, at::kLong), input.attention_mask}, 1)};
    if (input.token_type_ids.defined()) {
      whole.token_type_ids = at::cat({at::zeros({rows, 3}, at::kLong), input.token_type_ids}, 1);
    }
    Call prompted{.adapter = &adapter}, plain;
    const Tensor expected = model->features(whole, plain).narrow(1, 3, input.input_ids.size(1));
    EXPECT_EQ(differs(model->features(input, prompted), expected, 1e-6), "") << name;  // prompts are in float32
  }
}

TEST_F(Deberta, RefusesVirtualTokensThatItHasNoPlaceFor) {
  copy("deberta_v3_cls");
  const auto model = load();
  EXPECT_EQ(error_of([&] { Adapter::create(*model, {.method = "prefix_tuning"}, 1); }).id(),
            "config.no-virtual-tokens");
}

TEST_F(Deberta, HasPromptsAsWideAsItsWordEmbeddings) {
  copy("deberta_xl");  // which are narrower than its hidden states
  const auto narrow = load();
  const Adapter adapter = Adapter::create(*narrow, {.method = "prompt_tuning"}, 1);
  const Tensor prompts = adapter.virtual_tokens().embeddings;
  EXPECT_EQ(prompts.size(1), narrow->shape().word_embeddings.size(1));
  EXPECT_LT(prompts.size(1), narrow->shape().hidden);
  EXPECT_NE(differs(test::logits_of(*narrow, &adapter, io().input()), logits(*narrow), 1e-6), "");
}

TEST_F(Deberta, TrainsItsConvolutionWhereEveryTensorTrains) {
  copy("deberta_xl");
  const auto model = load();
  for (const Layer* layer : model->layers()) EXPECT_EQ(layer->name.find("conv.conv"), std::string::npos);
  const Adapter adapter = Adapter::create(*model, {.method = "full"}, 1);
  const std::vector<Tensor> gradients = gradients_of(*model, adapter, input_of(io()));
  const std::vector<NamedTensor> trained = adapter.trained();
  int found = 0;
  for (size_t i = 0; i < trained.size(); ++i) {
    if (trained[i].name.find("conv.conv.") == std::string::npos) continue;
    ++found;
    EXPECT_GT(gradients[i].abs().max().item<double>(), 0) << trained[i].name;
  }
  EXPECT_EQ(found, 2);
}

TEST_F(Deberta, ReadsTypesOfAttentionAsAListAndAsAText) {
  copy("deberta_v3_cls");
  const Tensor expected = logits(*load());
  for (const Json& same : {Json({"p2c", "c2p"}), Json("C2P | p2c"), Json("c2p|p2c")}) {
    edit({{"pos_att_type", same}});
    EXPECT_TRUE(logits(*load()).equal(expected)) << same;
  }
  edit({{"pos_att_type", "c2p"}});
  EXPECT_NE(differs(logits(*load()), expected, 1e-3), "");
}

// As in deberta-v3-base: nothing of a class of labels, the heads of pre-training, a table that is not used.
TEST_F(Deberta, PassesOverWhatPublishedCheckpointsHaveBesides) {
  copy("deberta_v3_cls");
  const Tensor expected = logits(*load());
  const io::SafetensorsFile whole(folder / "model.safetensors");
  std::vector<io::TensorBytes> all = whole.tensors();
  const Tensor numbers = at::ones({4, 4}, at::kFloat);
  for (const char* name : {"lm_predictions.lm_head.dense.weight", "mask_predictions.dense.weight",
                           "deberta.embeddings.position_embeddings.weight", "deberta.embeddings.position_ids"}) {
    all.push_back(to_bytes(name, numbers));
  }
  io::write_safetensors(folder / "more.safetensors", all);
  std::filesystem::rename(folder / "more.safetensors", folder / "model.safetensors");
  EXPECT_TRUE(logits(*load()).equal(expected));
}

TEST_F(Deberta, DrawsPoolerAndClassifierOverABareBase) {
  copy("deberta_masked_new");
  const auto model = load({.task_type = "SEQ_CLS", .dtype = "float64", .num_labels = 3});
  EXPECT_EQ(model->new_modules(), (std::vector<std::string>{"pooler.dense", "classifier"}));
}

// The first of the two checkpoints has both heads, the second the newer one alone.
TEST_F(Deberta, FindsTheHeadOfMaskedTokensThatTheCheckpointHas) {
  const ModelOptions masked{.task_type = "fill-mask", .dtype = "float64"};
  for (const char* name : {"deberta_masked", "deberta_masked_new"}) {
    copy(name);
    const Tensor expected = logits(*load(masked));
    erase("legacy");
    EXPECT_TRUE(logits(*load(masked)).equal(expected)) << name;
  }
  edit({{"legacy", true}});
  EXPECT_EQ(error_of([&] { load(masked); }).id(), "format.missing-tensor");
  copy("deberta_masked");
  const Tensor legacy = logits(*load(masked));
  edit({{"legacy", false}});
  EXPECT_NE(differs(logits(*load(masked)), legacy, 1e-3), "");
}

TEST_F(Deberta, RefusesWhatItDoesNotKnow) {
  copy("deberta_xl");
  expect_refused({{"pos_att_type", "c2p|p2p"},
                  {"pos_att_type", {"c2c"}},
                  {"norm_rel_ebd", "batch_norm"},
                  {"position_buckets", 1},
                  {"attention_head_size", 8},
                  {"pooler_hidden_size", 8},
                  {"pooler_hidden_act", "swoosh"},
                  {"conv_kernel_size", 4},
                  {"conv_groups", 3},
                  {"conv_act", "swoosh"},
                  {"hidden_act", "swoosh"}});
}

}  // namespace
}  // namespace deltaw
