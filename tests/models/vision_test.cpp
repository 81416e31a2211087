// ViT, DeiT and DINOv2 beyond their fixtures' logits (oracle_test.cpp).
#include "models/vision_encoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "io/safetensors.h"
#include "support/checkpoint_folder.h"
#include "support/tiny_model.h"
#include "tasks/common/class_logits.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;
using test::Golden;

class Vision : public test::CheckpointFolder {
 protected:
  const ImageModel& images(const Model& model) const { return dynamic_cast<const ImageModel&>(model); }

  /// Leaves every tensor whose name has one of `parts` zero.
  void clear(const std::vector<std::string>& parts) const {
    const Golden stored(folder / "model.safetensors");
    std::vector<NamedTensor> tensors;
    for (const std::string& name : stored.names("")) {
      const bool cleared = std::any_of(parts.begin(), parts.end(),
                                       [&](const auto& part) { return name.find(part) != std::string::npos; });
      tensors.push_back({name, cleared ? at::zeros_like(stored[name]) : stored[name].clone()});
    }
    std::vector<io::TensorBytes> bytes;
    for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
    io::write_safetensors(folder / "cleared.safetensors", bytes);
    std::filesystem::rename(folder / "cleared.safetensors", folder / "model.safetensors");
  }

  Tensor trained_logits(const Model& model, uint64_t seed) const {
    const at::NoGradGuard no_grad;
    Call call{.training = true, .seed = seed};
    return images(model).forward_images(io()["pixel_values"], call);
  }
};

constexpr const char* kEveryKind[] = {"vit_cls", "deit_stretched", "dinov2_gated", "dinov2_registers_smaller"};

TEST_F(Vision, HasTheLossOfTransformers) {
  for (const char* name : {"vit_cls", "vit_reg", "vit_several", "deit_cls", "dinov2_cls", "dinov2_registers"}) {
    copy(name);
    const auto model = load();
    const Tensor loss =
        tasks::mean_loss(tasks::labels_of(*model), logits(*model), io()["labels"].to(at::kDouble), /*smoothing=*/0);
    EXPECT_EQ(differs(loss.reshape({1}), io()["loss64"], 1e-9), "") << name;
  }
}

// An observer is shown every token; without one, the last block computes the first tokens alone where they are all
// that the head reads.
TEST_F(Vision, ComputesTheFirstTokensAsItWouldWithAllOthers) {
  for (const char* name : kEveryKind) {
    copy(name);
    const auto model = load();
    const at::NoGradGuard no_grad;
    test::SeesAll sees;
    Call all{.observer = &sees};
    EXPECT_EQ(differs(logits(*model), images(*model).forward_images(io()["pixel_values"], all), 1e-12), "") << name;
  }
}

// The float32 passes go through the kernels, those in float64 through the plain formulas.
TEST_F(Vision, HasTheGradientsOfItsFormulas) {
  for (const char* name : kEveryKind) {
    copy(name);
    std::vector<std::vector<Tensor>> gradients;
    for (const char* dtype : {"float32", "float64"}) {
      const auto model = load({.dtype = dtype});
      const Adapter adapter = Adapter::create(*model, {.target_modules = "all-linear"}, 1);
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

TEST_F(Vision, HasTheSameGradientsWhereBlocksAreComputedAgain) {
  for (const char* name : {"vit_cls", "deit_stretched", "dinov2_drop_path", "dinov2_registers_smaller"}) {
    copy(name);
    edit({{"hidden_dropout_prob", 0.2}, {"attention_probs_dropout_prob", 0.1}});
    const auto model = load();
    for (const char* method : {"lora", "full", "bitfit"}) {
      AdapterConfig config{.method = method};
      if (config.method == "lora") config.target_modules = ".*\\.(projection|query|dense|fc1|weights_in)";
      const Adapter adapter = Adapter::create(*model, config, 1);
      if (config.method == "lora") test::draw_trained(adapter);
      const std::vector<Tensor> kept = test::gradients_of(*model, adapter, test::input_of(io()));
      const std::vector<Tensor> again = test::gradients_of(*model, adapter, test::input_of(io()), true);
      ASSERT_EQ(kept.size(), again.size());
      for (size_t i = 0; i < kept.size(); ++i)
        EXPECT_TRUE(kept[i].equal(again[i])) << name << " " << method << " " << i;
    }
  }
}

// Which rows go without which sublayers is drawn; what they are then is transformers'.
TEST_F(Vision, LeavesSublayersOutInTrainingByRows) {
  copy("dinov2_drop_path");
  const auto model = load();
  const Tensor choices = io()["dropped.logits64"];  // [choices, rows, labels]
  EXPECT_EQ(differs(logits(*model), io()["logits64"], 1e-9), "");
  const int64_t sublayers = std::lround(std::log2(static_cast<double>(choices.size(0))));
  std::set<int64_t> seen;
  int64_t kept = 0, all = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Tensor found = trained_logits(*model, seed);
    const auto [error, nearest] = (choices - found.unsqueeze(0)).abs().amax(2).min(0);
    EXPECT_LT(error.max().item<double>(), 1e-9) << seed;
    for (int64_t row = 0; row < nearest.size(0); ++row) {
      seen.insert(nearest[row].item<int64_t>());
      for (int64_t bits = nearest[row].item<int64_t>(), i = 0; i < sublayers; ++i) kept += bits >> i & 1;
      all += sublayers;
    }
  }
  EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(all), 0.75, 0.05);
  EXPECT_GT(seen.size(), 10u);
  EXPECT_TRUE(trained_logits(*model, 3).equal(trained_logits(*model, 3)));
}

TEST_F(Vision, DropsInTrainingAlone) {
  for (const char* name : kEveryKind) {
    copy(name);
    expect_dropouts({"hidden_dropout_prob", "attention_probs_dropout_prob"});
  }
}

// DINOv2's dropout falls on the embeddings and on nothing else: where those are zero it changes nothing.
TEST_F(Vision, DropsSublayersWhereTransformersDoes) {
  for (const char* name : {"vit_cls", "deit_cls", "dinov2_cls", "dinov2_registers"}) {
    copy(name);
    edit({{"hidden_dropout_prob", 0.5}});
    clear({".embeddings."});
    const auto model = load();
    const bool same = differs(trained_logits(*model, 1), logits(*model), 1e-12).empty();
    EXPECT_EQ(same, std::string(name).starts_with("dinov2")) << name;
  }
}

TEST_F(Vision, RefusesWhatItDoesNotCompute) {
  copy("vit_cls");
  expect_refused({{"num_channels", 1}, {"num_attention_heads", 3}, {"image_size", 3}, {"hidden_act", "softplus2"}});
  const auto bad = [&](const char* key, const Json& value) {
    edit({{key, value}});
    const Error error = error_of([&] { load(); });
    EXPECT_EQ(error.id(), "config.bad-model") << key;
    EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
  };
  bad("image_size", {16, 16, 16});
  copy("vit_cls");
  bad("patch_size", {4, 0});
  copy("dinov2_registers");
  expect_refused({{"mlp_ratio", 1e-3}});
  bad("num_register_tokens", -1);
}

TEST_F(Vision, TakesImagesOfAPatchAtLeastAndNoText) {
  copy("vit_cls");
  const auto model = load();
  Call call;
  EXPECT_EQ(images(*model).image_tokens(24, 12), 1 + 6 * 3);
  const Tensor pixels = io()["pixel_values"], wider = at::constant_pad_nd(pixels, {0, 3, 0, 1}, 1);
  EXPECT_EQ(images(*model).image_tokens(17, 19), 1 + 4 * 4);
  EXPECT_EQ(differs(images(*model).forward_images(wider, call), images(*model).forward_images(pixels, call), 1e-6), "");
  const Error error = error_of([&] { images(*model).forward_images(at::zeros({1, 3, 3, 16}), call); });
  EXPECT_EQ(error.id(), "data.image-size");
  EXPECT_NE(error.parts().what.find("3 x 16"), std::string::npos) << error.what();
  EXPECT_EQ(error_of([&] {
              model->forward({.input_ids = at::zeros({1, 3}, at::kLong)}, call);
            }).id(),
            "internal.not-text");
  for (const char* method : {"prompt_tuning", "prefix_tuning"}) {
    AdapterConfig config{.method = method};
    config.options["num_virtual_tokens"] = 2;
    EXPECT_EQ(error_of([&] { Adapter::create(*model, config, 1); }).id(), "config.no-virtual-tokens") << method;
  }
}

TEST_F(Vision, IsAdaptedByEveryMethodOnItsDefaultLayers) {
  for (const char* name : kEveryKind) {
    copy(name);
    const auto model = load();
    const test::FixtureInput input = test::input_of(io());
    for (const MethodSpec* spec : method_table()) {
      if (spec->on(ActsOn::virtual_tokens)) continue;
      SCOPED_TRACE(spec->id + " on " + name);
      const AdapterConfig config{.method = spec->id, .options = test::small_options(*spec)};
      const Adapter adapter = Adapter::create(*model, config, 1);
      test::draw_trained(adapter);
      const Tensor adapted = test::logits_of(*model, &adapter, input);
      EXPECT_NE(differs(adapted, logits(*model), 1e-3), "");
      for (const Tensor& gradient : test::gradients_of(*model, adapter, input)) {
        EXPECT_TRUE(gradient.isfinite().all().item<bool>());
      }
      const test::TemporaryFolder saved;
      adapter.save(saved.path());
      const Adapter again = Adapter::load(*model, saved.path());
      EXPECT_EQ(differs(test::logits_of(*model, &again, input), adapted, 1e-5), "");
    }
  }
}

// The convolution of the patches and the head stay whole.
TEST_F(Vision, HoldsItsLayersInFewBits) {
  copy("vit_cls");
  for (const bool four : {false, true}) {
    const auto model = load({.dtype = "float32", .load_in_4bit = four, .load_in_8bit = !four});
    for (const Layer* layer : model->layers()) {
      const bool whole = layer->kind == LayerKind::conv2d || layer->name == "classifier";
      EXPECT_EQ(layer->weight.quantised == nullptr, whole) << layer->name;
    }
    const Tensor expected = io()["logits"];
    const double least = expected.abs().max().item<double>() * (four ? 0.5 : 0.05);
    EXPECT_EQ(differs(logits(*model), expected, least), "") << four;
    EXPECT_NE(differs(logits(*model), expected, 1e-4), "") << four;
  }
}

}  // namespace
}  // namespace deltaw
