// The model's own dropouts and the adapter's: rates, and masks that come again in the backward pass.
#include <ATen/ATen.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/dropout_mask.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "support/compared.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

TEST(DropoutMask, KeepsTheShareThatItSays) {
  const Tensor like = at::empty({1000, 1000}, at::kFloat);
  for (const double p : {0.1, 0.5, 0.9}) {
    const Tensor mask = ops::dropout_mask(like, p, 7);
    EXPECT_NEAR(mask.eq(0).to(at::kFloat).mean().item<double>(), p, 5 * std::sqrt(p * (1 - p) / 1e6));
    EXPECT_NEAR(mask.max().item<double>(), 1 / (1 - p), 1e-4 / (1 - p));  // p in 65,536ths
    EXPECT_NEAR(mask.mean().item<double>(), 1, 5 * std::sqrt(p / (1 - p) / 1e6));
  }
}

TEST(DropoutMask, FollowsFromTheKeyAlone) {
  const Tensor like = at::empty({40, 5000}, at::kFloat);
  const Tensor mask = ops::dropout_mask(like, 0.3, 11);
  EXPECT_TRUE(test::in_threads(1, [&] { return ops::dropout_mask(like, 0.3, 11); }).equal(mask));
  const Tensor other = ops::dropout_mask(like, 0.3, 12);
  // Two independent masks agree on 0.3^2 + 0.7^2 of the elements.
  EXPECT_NEAR(other.eq(mask).to(at::kFloat).mean().item<double>(), 0.58, 0.01);
}

// The words of Philox4x32-10 as another implementation draws them, two numbers to a word.
TEST(DropoutMask, IsThatOfPhilox) {
  const uint64_t key = 0x0123456789ABCDEFull;
  const Tensor mask = ops::dropout_mask(at::empty({1000}, at::kFloat), 0.25, key);
  constexpr int64_t kLanes = 16, kBlock = 8 * kLanes;
  for (int64_t i = 0; i < mask.numel(); ++i) {
    const int64_t block = i / kBlock, word = i % kBlock / (2 * kLanes), half = i / kLanes % 2, lane = i % kLanes;
    at::Philox4_32 engine(key, 0, static_cast<uint64_t>(block * kLanes + lane));
    uint32_t value = 0;
    for (int64_t j = 0; j <= word; ++j) value = engine();
    const uint32_t number = half ? value >> 16 : value & 0xFFFF;
    EXPECT_EQ(mask[i].item<float>() == 0, number < 16384) << i;
  }
}

// What a regular pattern would show: rows and columns that lean together, or a direction of its own in the spectrum.
TEST(DropoutMask, IsWhiteInTwoDimensions) {
  constexpr double p = 0.1, n = 512;
  for (const uint64_t key : {1, 2, 3}) {
    const Tensor mask = ops::dropout_mask(at::empty({512, 512}, at::kDouble), p, key).ne(0).to(at::kDouble) - (1 - p);
    const double deviation = std::sqrt(p * (1 - p));
    for (const int64_t axis : {0, 1}) {
      EXPECT_NEAR(mask.mean(axis).std().item<double>(), deviation / std::sqrt(n), 0.15 * deviation / std::sqrt(n));
    }
    // Of a random matrix: deviation * 2 sqrt(n) and little more (Bai and Yin 1988).
    EXPECT_LT(at::linalg_svdvals(mask).max().item<double>(), deviation * 2 * std::sqrt(n) * 1.05);
    const Tensor next =
        ops::dropout_mask(at::empty({512, 512}, at::kDouble), p, key + 1).ne(0).to(at::kDouble) - (1 - p);
    EXPECT_LT(std::abs((mask * next).mean().item<double>()), 4 * p * (1 - p) / n);
  }
}

TEST(Dropout, UsesOneMaskForwardAndBackward) {
  const Tensor x = at::ones({64, 64}, at::kDouble).requires_grad_();
  Call call{.training = true, .seed = 3, .step = 4};
  const Tensor y = ops::dropout(x, 0.25, call);
  y.sum().backward();
  EXPECT_TRUE(x.grad().equal(y.detach()));
  EXPECT_GT(y.eq(0).sum().item<int64_t>(), 0);
}

TEST(Dropout, DrawsAnewForEveryStepMicroStepAndCall) {
  const Tensor x = at::ones({64, 64}, at::kFloat);
  std::vector<Tensor> masks;
  for (const auto& [step, micro] : {std::pair{1, 0}, {2, 0}, {1, 1}}) {
    Call call{.training = true, .seed = 3, .step = step, .micro_step = micro};
    masks.push_back(ops::dropout(x, 0.5, call));
    masks.push_back(ops::dropout(x, 0.5, call));
  }
  for (size_t i = 0; i < masks.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(masks[i].equal(masks[j])) << i << " " << j;
  }
}

TEST(Dropout, OfTheAdapterActsOnItsInputOnlyAndOnlyInTraining) {
  const test::TinyModel model(6, 5, at::kDouble);
  Adapter adapter = Adapter::create(model, test::small_config(find_method("lora"), {{"lora_dropout", 0.5}}), 1);
  test::randomise(adapter, 2);
  const Tensor x = at::randn({400, 5}, at::kDouble).requires_grad_();
  Call eval{.adapter = &adapter}, training{.adapter = &adapter, .training = true, .seed = 5, .step = 1}, base;
  const Tensor y = model.run(x, training), steady = model.run(x, eval), plain = model.run(x, base);
  EXPECT_FALSE(y.equal(steady));
  Call again = Call{.adapter = &adapter, .training = true, .seed = 5, .step = 1};
  EXPECT_TRUE(y.equal(model.run(x, again)));
  // The adapter's part of a row is that of the dropped row: linear in x * mask, whose mean is x.
  EXPECT_LT(((y - plain).mean(0) - (steady - plain).mean(0)).abs().max().item<double>(),
            (steady - plain).abs().max().item<double>() * 0.3);

  // The gradient of x and of A goes through the same mask: differences along a random direction.
  const Tensor direction = at::randn_like(x), weights = at::randn_like(y.detach());
  (y * weights).sum().backward();
  const auto loss = [&](double h) {
    const at::NoGradGuard no_grad;
    Call call{.adapter = &adapter, .training = true, .seed = 5, .step = 1};
    return (model.run(x + h * direction, call) * weights).sum().item<double>();
  };
  const double slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
  EXPECT_NEAR((x.grad() * direction).sum().item<double>(), slope, 1e-5 * std::max(1.0, std::abs(slope)));
}

// Base + s B A (x mask) for the mask of each layer's own key, in the order of the layers; and so its gradients.
TEST(Dropout, OfLayersThatShareAnInputIsAMaskForEach) {
  const test::TinyModel model(6, 5, at::kDouble);
  Adapter adapter = Adapter::create(
      model, test::small_config(find_method("lora"), {{"lora_dropout", 0.4}, {"lora_alpha", 5}, {"r", 2}}), 1);
  test::randomise(adapter, 2);
  const Tensor x = at::randn({7, 5}, at::kDouble).requires_grad_(), weights = at::randn({7, 12}, at::kDouble);
  std::vector<Tensor> inputs{x};
  for (const NamedTensor& tensor : adapter.trained()) inputs.push_back(tensor.value);

  Call call{.adapter = &adapter, .training = true, .seed = 5, .step = 3, .micro_step = 1}, keys = call, base;
  std::vector<Tensor> parts;
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor mask = ops::dropout_mask(x.detach(), 0.4, keys.next_key());
    EXPECT_GT(mask.eq(0).sum().item<int64_t>(), 0);
    const Tensor narrow = at::mm(x * mask, layer->params["lora_A"].t());
    parts.push_back(2.5 * at::mm(narrow, layer->params["lora_B"].t()));
  }
  const Tensor expected = model.run(x, base) + at::cat(parts, -1), y = model.run(x, call);
  EXPECT_LT((y - expected).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(call.draws, 2);
  const auto gradients = torch::autograd::grad({(y * weights).sum()}, inputs);
  const auto written_out = torch::autograd::grad({(expected * weights).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LT((gradients[i] - written_out[i]).abs().max().item<double>(), 1e-12) << i;
  }
}

TEST(Dropout, OfTheModelDrawsOneMaskForEachOfItsPlaces) {
  const auto input = test::Golden(test::fixture("golden/models/bert_gelu_new/io.safetensors")).input();
  const auto model = load_model(test::fixture("golden/models/bert_gelu_new").string(), {.dtype = "float32"});
  const at::NoGradGuard no_grad;
  Call eval;
  const Tensor steady = model->forward(input, eval);
  Call first{.training = true, .seed = 1, .step = 1}, second{.training = true, .seed = 1, .step = 2};
  const Tensor a = model->forward(input, first);
  EXPECT_FALSE(a.equal(steady));
  EXPECT_FALSE(a.equal(model->forward(input, second)));
  Call same{.training = true, .seed = 1, .step = 1};
  EXPECT_TRUE(a.equal(model->forward(input, same)));
  // Two layers: embeddings, then for each layer probabilities, attention output and feed-forward output, then the head.
  EXPECT_EQ(same.draws, 1 + 2 * 3 + 1);
}

// Each dropout alone spreads the logits of a row as far as it does in transformers, which tells its rate and its place.
TEST(Dropout, OfTheModelActsWithTheRatesOfItsConfig) {
  const Json golden = read_json(test::fixture("golden/dropout/spread.json"));
  const auto rows = golden["rows"].get<int64_t>();
  for (const Json& c : golden["cases"]) {
    const std::string base = c["base"].get<std::string>();
    const test::TemporaryFolder folder;
    std::filesystem::copy(test::fixture("golden/models/" + base), folder.path());
    Json config = read_json(folder / "config.json");
    for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"})
      config[key] = 0.0;
    config.update(c["rates"]);
    write_json(folder / "config.json", config);
    const auto model = load_model(folder.path().string(), {.dtype = "float32"});

    ModelInput input = test::Golden(folder / "io.safetensors").input();
    for (Tensor* tensor : {&input.input_ids, &input.attention_mask, &input.token_type_ids}) {
      if (tensor->defined()) *tensor = tensor->narrow(0, 0, 1).expand({rows, -1}).contiguous();
    }
    const at::NoGradGuard no_grad;
    Call call{.training = true, .seed = 1, .step = 1};
    const Tensor spread = model->forward(input, call).std(0);
    for (int64_t i = 0; i < spread.size(0); ++i) {
      // Two standard deviations from 8,000 draws each agree within 1.1 %; four times that, with room for heavy tails.
      EXPECT_NEAR(spread[i].item<double>() / c["std"][i].get<double>(), 1, 0.06) << base << " " << c["rates"].dump();
    }
  }
}

/// In training, with these values in the fixture's config.
Tensor logits_with(const std::string& base, const Json& values) {
  const test::TemporaryFolder folder;
  std::filesystem::copy(test::fixture("golden/models/" + base), folder.path());
  Json config = read_json(folder / "config.json");
  config.update(values);
  write_json(folder / "config.json", config);
  const auto model = load_model(folder.path().string(), {.dtype = "float32"});
  const at::NoGradGuard no_grad;
  Call call{.training = true, .seed = 1, .step = 1};
  return model->forward(test::Golden(folder / "io.safetensors").input(), call);
}

TEST(Dropout, OfADecoderActsForEachOfItsKeys) {
  for (const auto& [base, key] : std::vector<std::pair<const char*, const char*>>{{"gpt2", "embd_pdrop"},
                                                                                  {"gpt2", "attn_pdrop"},
                                                                                  {"gpt2", "resid_pdrop"},
                                                                                  {"llama_tied", "attention_dropout"},
                                                                                  {"gemma2", "attention_dropout"},
                                                                                  {"phi3_short", "resid_pdrop"}}) {
    EXPECT_FALSE(logits_with(base, {{key, 0.5}}).allclose(logits_with(base, {{key, 0.0}}))) << base << " " << key;
  }
}

TEST(Dropout, OfAHeadWithoutARateIsTheHiddenOne) {
  for (const char* base : {"bert_cls", "roberta_cls"}) {
    const auto logits = [&](const Json& rate) {
      return logits_with(base, {{"hidden_dropout_prob", 0.5}, {"classifier_dropout", rate}});
    };
    EXPECT_TRUE(logits(nullptr).equal(logits(0.5))) << base;
    EXPECT_FALSE(logits(nullptr).allclose(logits(0.0))) << base;
  }
}

}  // namespace
}  // namespace deltaw
