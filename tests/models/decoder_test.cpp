// Decoders on a tiny checkpoint of their own: where tokens stand, what they see, what a cache keeps, what is refused.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/adapter.h"
#include "io/safetensors.h"
#include "models/loader.h"
#include "models/rotary.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;

// ---- rotary positions, against the formulas of the papers in double precision

Rotary rotary(const Json& parameters, double theta = 10000, int64_t max_positions = 50) {
  return {ConfigValues({{"rope_theta", theta}, {"rope_scaling", parameters}}, "test"), 8, max_positions};
}

void expect_frequencies(const Rotary& rotary, int64_t length, const std::vector<double>& expected) {
  const Tensor relative = rotary.frequencies(length).to(at::kDouble) / at::tensor(expected);
  EXPECT_EQ(differs(relative, at::ones_like(relative), 1e-6), "");
}

TEST(Rotary, TurnsAtTheFrequenciesOfEachType) {
  expect_frequencies(rotary(nullptr), 200, {1, 0.1, 0.01, 0.001});
  expect_frequencies(rotary({{"type", "linear"}, {"factor", 4}}), 200, {0.25, 0.025, 0.0025, 0.00025});
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8},
                       {"low_freq_factor", 1},
                       {"high_freq_factor", 4},
                       {"original_max_position_embeddings", 128}};
  expect_frequencies(rotary(llama3), 200, {1, 0.0427512, 0.00125, 0.000125});
}

TEST(Rotary, StretchesDynamicallyBehindTheLongestInput) {
  const Rotary dynamic = rotary({{"rope_type", "dynamic"}, {"factor", 2}});
  expect_frequencies(dynamic, 50, {1, 0.1, 0.01, 0.001});
  expect_frequencies(dynamic, 100, {1, 0.0693361274, 0.00480749857, 0.000333333333});
}

TEST(Rotary, StretchesSlowTurnsWithYarn) {
  const Rotary yarn = rotary({{"rope_type", "yarn"},
                              {"factor", 4},
                              {"beta_fast", 4},
                              {"beta_slow", 0.5},
                              {"original_max_position_embeddings", 64}},
                             100, 256);
  expect_frequencies(yarn, 200, {1, 0.237170825, 0.05, 0.00790569415});
  EXPECT_NEAR(yarn.attention_factor(), 1.138629436, 1e-9);
}

TEST(Rotary, HasOneListForShortRowsAndOneForLong) {
  const Rotary longrope = rotary({{"rope_type", "longrope"},
                                  {"short_factor", {1, 1.5, 2, 3}},
                                  {"long_factor", {2, 4, 8, 16}},
                                  {"original_max_position_embeddings", 32}},
                                 10000, 128);
  expect_frequencies(longrope, 32, {1, 0.0666666667, 0.005, 0.000333333333});
  expect_frequencies(longrope, 33, {0.5, 0.025, 0.00125, 0.0000625});
  EXPECT_NEAR(longrope.attention_factor(), 1.18321595662, 1e-9);
}

TEST(Rotary, ReadsBothPlacesOfItsParameters) {
  const Rotary old = rotary({{"type", "linear"}, {"factor", 4}}, 500);
  const Json parameters = {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 500}};
  const Rotary now(ConfigValues({{"rope_parameters", parameters}}, "test"), 8, 50);
  EXPECT_TRUE(old.frequencies(1).equal(now.frequencies(1)));
}

TEST(Rotary, RefusesWhatItDoesNotKnow) {
  const Error type = error_of([] { rotary({{"rope_type", "mrope"}}); });
  EXPECT_EQ(type.id(), "config.unsupported");
  EXPECT_NE(type.parts().what.find("\"mrope\""), std::string::npos);
  EXPECT_EQ(error_of([] { rotary({{"rope_type", "linear"}}); }).id(), "config.bad-model");
  const Json longrope = {{"rope_type", "longrope"}, {"short_factor", {1, 2}}, {"long_factor", {1, 2, 3, 4}}};
  EXPECT_NE(error_of([&] { rotary(longrope); }).parts().what.find("short_factor"), std::string::npos);
  const Json nested = {{"full_attention", {{"rope_type", "default"}}}};
  EXPECT_EQ(error_of([&] { rotary(nested); }).id(), "config.unsupported");
}

// ---- a Llama with grouped heads, written here

class TinyDecoder : public testing::Test {
 protected:
  TinyDecoder() {
    config = {{"model_type", "llama"},      {"vocab_size", 23},
              {"hidden_size", 16},          {"intermediate_size", 20},
              {"num_hidden_layers", 2},     {"num_attention_heads", 4},
              {"num_key_value_heads", 2},   {"max_position_embeddings", 64},
              {"tie_word_embeddings", true}};
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
    const auto draw = [&](const std::string& name, std::vector<int64_t> shape) {
      tensors[name] = at::empty(shape, at::kFloat).normal_(0, 0.4, generator);
    };
    draw("model.embed_tokens.weight", {23, 16});
    draw("model.norm.weight", {16});
    for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
      const std::string p = layer;
      for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) draw(p + norm + ".weight", {16});
      for (const char* wide : {"q_proj", "o_proj"}) draw(p + "self_attn." + wide + ".weight", {16, 16});
      for (const char* narrow : {"k_proj", "v_proj"}) draw(p + "self_attn." + narrow + ".weight", {8, 16});
      for (const char* up : {"gate_proj", "up_proj"}) draw(p + "mlp." + up + ".weight", {20, 16});
      draw(p + "mlp.down_proj.weight", {16, 20});
    }
  }

  std::unique_ptr<Model> open(const ModelOptions& options = {.dtype = "float64"}) const {
    std::vector<io::TensorBytes> bytes;
    for (const auto& [name, tensor] : tensors) bytes.push_back(to_bytes(name, tensor));
    io::write_safetensors(folder / "model.safetensors", bytes);
    write_json(folder / "config.json", config);
    return load_model(folder.path().string(), options);
  }
  Error error(const ModelOptions& options = {.dtype = "float32"}) const {
    return error_of([&] { open(options); });
  }

  test::TemporaryFolder folder;
  Json config;
  std::map<std::string, Tensor> tensors;
};

Tensor row_of(const std::vector<int64_t>& ids) {
  return at::tensor(ids, at::kLong).unsqueeze(0);
}

Tensor run(const Model& model, const Tensor& ids, const Tensor& mask, const Adapter* adapter = nullptr,
           KeyValueCache* cache = nullptr) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter, .cache = cache};
  return model.forward({.input_ids = ids, .attention_mask = mask}, call);
}

Tensor run(const Model& model, const Tensor& ids) {
  return run(model, ids, at::ones_like(ids));
}

const std::vector<int64_t> kFirst = {3, 14, 1, 5, 9, 2, 6}, kSecond = {5, 3, 5, 8};

TEST_F(TinyDecoder, SaysWhatItIs) {
  const auto model = open();
  EXPECT_TRUE(model->is_causal());
  EXPECT_EQ(model->task_type(), "CAUSAL_LM");
  EXPECT_EQ(model->architecture(), "LlamaForCausalLM");
  EXPECT_EQ(model->vocab_size(), 23);
  EXPECT_EQ(model->max_positions(), 64);
  EXPECT_EQ(model->num_labels(), 0);
  EXPECT_EQ(model->layers().back()->name, "lm_head");
  EXPECT_EQ(model->layers().back()->weight.tied_to, "model.embed_tokens.weight");
  EXPECT_TRUE(model->layers().back()->weight.value.is_same(model->layers().front()->weight.value));
}

TEST_F(TinyDecoder, SeesNoLaterToken) {
  const auto model = open();
  const Tensor row = row_of(kFirst);
  EXPECT_EQ(differs(run(*model, row.narrow(1, 0, 4)), run(*model, row).narrow(1, 0, 4), 1e-12), "");
}

TEST_F(TinyDecoder, TakesPaddingOnEitherSide) {
  const auto model = open();
  const Tensor row = row_of(kSecond), zeros = at::zeros({1, 3}, at::kLong), ones = at::ones({1, 4}, at::kLong);
  const Tensor alone = run(*model, row);
  const Tensor left = run(*model, at::cat({zeros, row}, 1), at::cat({zeros, ones}, 1));
  const Tensor right = run(*model, at::cat({row, zeros}, 1), at::cat({ones, zeros}, 1));
  EXPECT_EQ(differs(left.narrow(1, 3, 4), alone, 1e-12), "");
  EXPECT_EQ(differs(right.narrow(1, 0, 4), alone, 1e-12), "");
  EXPECT_TRUE(left.isfinite().all().item<bool>());
}

/// The rows of the last input that a layer of this name had.
class CountsRows : public Observer {
 public:
  void see(const Layer& layer, const Tensor& x, Tensor& /*y*/) override { rows[layer.name] = x.numel() / x.size(-1); }
  std::map<std::string, int64_t> rows;
};

// The first token of a row always stays.
TEST_F(TinyDecoder, HasItsLinearLayersReadTokensAlone) {
  const auto model = open();
  const Tensor ids = at::zeros({3, 7}, at::kLong), mask = at::ones_like(ids);
  mask[1].narrow(0, 4, 3).zero_();
  mask[2].narrow(0, 0, 3).zero_();
  const at::NoGradGuard no_grad;
  CountsRows counted;
  Call call{.observer = &counted};
  model->forward({.input_ids = ids, .attention_mask = mask}, call);
  EXPECT_EQ(counted.rows.size(), 2u * 7 + 1);
  for (const auto& [name, rows] : counted.rows) {
    EXPECT_EQ(rows, name == "lm_head" ? 3 * 7 : 7 + 4 + 4 + 1) << name;
  }
}

TEST_F(TinyDecoder, TakesPaddingBehindVirtualTokens) {
  const auto model = open();
  AdapterConfig options;
  options.task_type = "CAUSAL_LM";
  options.options = {{"num_virtual_tokens", 3}};
  for (const char* method : {"prefix_tuning", "prompt_tuning"}) {
    options.method = method;
    const Adapter adapter = Adapter::create(*model, options, 1);
    const Tensor row = row_of(kSecond), zeros = at::zeros({1, 3}, at::kLong), ones = at::ones_like(row);
    const Tensor ids = at::cat({row_of(kFirst), at::cat({row, zeros}, 1), at::cat({zeros, row}, 1)});
    const Tensor mask = at::cat({at::ones({1, 7}, at::kLong), at::cat({ones, zeros}, 1), at::cat({zeros, ones}, 1)});
    const Tensor alone = run(*model, row, ones, &adapter), all = run(*model, ids, mask, &adapter);
    EXPECT_EQ(differs(all[1].narrow(0, 0, 4), alone[0], 1e-9), "") << method;
    EXPECT_EQ(differs(all[2].narrow(0, 3, 4), alone[0], 1e-9), "") << method;
    EXPECT_EQ(differs(all[0], run(*model, row_of(kFirst), mask.narrow(0, 0, 1), &adapter)[0], 1e-9), "") << method;
  }
}

TEST_F(TinyDecoder, KeepsDocumentsOfARowApart) {
  for (const Json& window : {Json(nullptr), Json(3)}) {
    config["model_type"] = "mistral";
    config["sliding_window"] = window;
    const auto model = open();
    const Tensor ids = at::cat({row_of(kFirst), row_of(kSecond), at::zeros({1, 2}, at::kLong)}, 1);
    const Tensor numbers =
        at::cat({at::full({1, 7}, 1, at::kLong), at::full({1, 4}, 2, at::kLong), at::zeros({1, 2}, at::kLong)}, 1);
    const Tensor packed = run(*model, ids, numbers);
    EXPECT_EQ(differs(packed.narrow(1, 0, 7), run(*model, row_of(kFirst)), 1e-12), "");
    EXPECT_EQ(differs(packed.narrow(1, 7, 4), run(*model, row_of(kSecond)), 1e-12), "");
  }
}

TEST_F(TinyDecoder, ForgetsWhatLeavesTheWindow) {
  config["model_type"] = "mistral";
  config["num_hidden_layers"] = 1;
  std::erase_if(tensors, [](const auto& item) { return item.first.starts_with("model.layers.1."); });
  config["sliding_window"] = 3;
  const auto model = open();
  Tensor other = row_of(kFirst);
  other[0][0] = 20;
  const Tensor change = (run(*model, other) - run(*model, row_of(kFirst))).abs().amax({0, 2});
  EXPECT_GT(change.narrow(0, 0, 3).min().item<double>(), 1e-6);
  EXPECT_LT(change.narrow(0, 3, 4).max().item<double>(), 1e-12);
}

TEST_F(TinyDecoder, ContinuesFromACache) {
  const auto model = open();
  // One row is padded on the left, the other whole; the cache's rows change places in between.
  const Tensor ids = at::cat({row_of({0, 0, 5, 3, 5, 8, 1}), row_of(kFirst)}), mask = at::ones_like(ids);
  mask[0].narrow(0, 0, 2).zero_();
  const Tensor full = run(*model, ids, mask), turned = at::tensor({1, 0}, at::kLong);
  KeyValueCache cache;
  const auto step = [&](const Tensor& tokens, const Tensor& seen, int64_t begin, int64_t end) {
    return run(*model, tokens.slice(1, begin, end), seen.slice(1, 0, end), nullptr, &cache);
  };
  const Tensor first = step(ids, mask, 0, 3);
  EXPECT_EQ(differs(first[1], full[1].narrow(0, 0, 3), 1e-12), "");
  const Tensor second = step(ids, mask, 3, 5);
  EXPECT_EQ(differs(second, full.narrow(1, 3, 2), 1e-12), "");
  cache.select(turned);
  for (int64_t i = 5; i < 7; ++i) {
    const Tensor next = step(ids.index_select(0, turned), mask.index_select(0, turned), i, i + 1);
    EXPECT_EQ(differs(next, full.index_select(0, turned).narrow(1, i, 1), 1e-12), "");
  }
  EXPECT_EQ(cache.length(), 7);
  const Tensor token = at::zeros({2, 1}, at::kLong);
  EXPECT_EQ(error_of([&] { run(*model, token, at::ones_like(token), nullptr, &cache); }).id(), "shape.mismatch");
}

TEST_F(TinyDecoder, GivesTheSameWithAndWithoutTheFusedKernel) {
  const auto model = open();
  const Tensor ids = row_of(kFirst);
  Call call;
  const Tensor in_steps = model->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)}, call);
  EXPECT_EQ(differs(in_steps, run(*model, ids), 1e-12), "");
}

TEST_F(TinyDecoder, PutsVirtualTokensBeforeEveryDocument) {
  const auto model = open();
  for (const char* method : {"prefix_tuning", "prompt_tuning"}) {
    AdapterConfig options;
    options.method = method;
    options.options = {{"num_virtual_tokens", 3}};
    options.task_type = "CAUSAL_LM";
    const Adapter adapter = Adapter::create(*model, options, 1);
    const auto alone = [&](const std::vector<int64_t>& ids) {
      return run(*model, row_of(ids), at::ones({1, static_cast<int64_t>(ids.size())}, at::kLong), &adapter);
    };
    EXPECT_NE(differs(alone(kFirst), run(*model, row_of(kFirst)), 1e-3), "") << method;
    const Tensor ids = at::cat({row_of(kFirst), row_of(kSecond)}, 1);
    const Tensor numbers = at::cat({at::full({1, 7}, 1, at::kLong), at::full({1, 4}, 2, at::kLong)}, 1);
    const Tensor packed = run(*model, ids, numbers, &adapter);
    EXPECT_EQ(differs(packed.narrow(1, 0, 7), alone(kFirst), 1e-9), "") << method;
    EXPECT_EQ(differs(packed.narrow(1, 7, 4), alone(kSecond), 1e-9), "") << method;
  }
}

TEST_F(TinyDecoder, LoadsTheBareModelToo) {
  const Tensor expected = run(*open(), row_of(kFirst));
  std::map<std::string, Tensor> bare;
  for (const auto& [name, tensor] : tensors) bare[name.substr(6)] = tensor;
  bare["layers.0.self_attn.rotary_emb.inv_freq"] = at::ones({2});
  tensors = bare;
  EXPECT_TRUE(run(*open(), row_of(kFirst)).equal(expected));
}

TEST_F(TinyDecoder, TiesTheHeadUnlessTheCheckpointHasAnother) {
  const Tensor expected = run(*open(), row_of(kFirst));
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone();
  EXPECT_TRUE(run(*open(), row_of(kFirst)).equal(expected));
  tensors["lm_head.weight"].mul_(2);
  const auto untied = open();
  EXPECT_EQ(untied->layers().back()->weight.tied_to, "");
  EXPECT_EQ(differs(run(*untied, row_of(kFirst)), expected * 2, 1e-12), "");
  tensors.erase("lm_head.weight");
  config["tie_word_embeddings"] = false;
  EXPECT_EQ(error().id(), "format.missing-tensor");
}

TEST_F(TinyDecoder, RefusesByKeyAndValue) {
  EXPECT_NE(error({.dtype = "float32", .num_labels = 2}).parts().where.find("num_labels"), std::string::npos);
  config["num_key_value_heads"] = 3;
  EXPECT_NE(error().parts().what.find("num_key_value_heads = 3"), std::string::npos);
  config["num_key_value_heads"] = 2;
  config["hidden_act"] = "swoosh";
  EXPECT_EQ(error().id(), "config.unsupported");
  config["hidden_act"] = "silu";
  config["partial_rotary_factor"] = 0.5;
  EXPECT_NE(error().parts().what.find("partial_rotary_factor = 0.5"), std::string::npos);
  config.erase("partial_rotary_factor");
  config["num_hidden_layers"] = 1;
  EXPECT_EQ(error().id(), "format.unexpected-tensor");
}

// ---- classifiers of tokens

class DecoderTokens : public testing::TestWithParam<const char*> {
 protected:
  // Logits of a pass of training, with these keys of config.json; no other dropout acts.
  Tensor trained(const Json& changes) const {
    const test::TemporaryFolder folder;
    std::filesystem::copy(source, folder.path());
    Json config = read_json(folder / "config.json");
    for (const char* key : {"embd_pdrop", "attn_pdrop", "resid_pdrop"}) config[key] = 0.0;
    config.update(changes);
    write_json(folder / "config.json", config);
    return logits(*load_model(folder.path().string(), {.dtype = "float64"}), true);
  }
  Tensor logits(const Model& model, bool training) const {
    const at::NoGradGuard no_grad;
    Call call{.training = training};
    return model.forward(test::Golden(source / "io.safetensors").input(), call);
  }
  std::filesystem::path source = test::fixture("golden/models") / GetParam();
};

TEST_P(DecoderTokens, AreReadByAHeadWithABiasAndADropout) {
  const auto model = load_model(source.string(), {.dtype = "float64"});
  EXPECT_EQ(model->task_type(), "TOKEN_CLS");
  EXPECT_FALSE(model->is_causal());
  EXPECT_TRUE(model->head_layer()->bias.exists());
  const Tensor plain = logits(*model, false);
  EXPECT_FALSE(trained(Json::object()).equal(plain));
  EXPECT_FALSE(trained({{"classifier_dropout", nullptr}, {"hidden_dropout", nullptr}}).equal(plain));
  EXPECT_FALSE(trained({{"classifier_dropout", 0.5}, {"hidden_dropout", 0.0}}).equal(plain));
  EXPECT_TRUE(trained({{"classifier_dropout", 0.0}, {"hidden_dropout", 0.5}}).equal(plain));
  EXPECT_TRUE(trained({{"hidden_dropout", 0.0}}).equal(plain));
}

TEST(DecoderTokenHead, HasNoBiasWhereTheConfigSaysSo) {
  const test::TemporaryFolder folder;
  std::filesystem::copy(test::fixture("golden/models/llama_tokens"), folder.path());
  Json config = read_json(folder / "config.json");
  config["token_classification_bias"] = false;
  write_json(folder / "config.json", config);
  const Error error = error_of([&] { load_model(folder.path().string(), {.dtype = "float64"}); });
  EXPECT_EQ(error.id(), "format.unexpected-tensor");
  EXPECT_NE(error.parts().what.find("score.bias"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderTokens, testing::Values("gpt2_tokens", "llama_tokens"),
                         [](const auto& i) { return std::string(i.param); });

class DecoderRows : public DecoderTokens {};

TEST_P(DecoderRows, AreReadByAHeadWithoutADropout) {
  const auto model = load_model(source.string(), {.dtype = "float64"});
  EXPECT_EQ(model->task_type(), "SEQ_CLS");
  EXPECT_FALSE(model->head_layer()->bias.exists());
  EXPECT_TRUE(trained({{"classifier_dropout", 0.5}, {"hidden_dropout", 0.5}}).equal(logits(*model, false)));
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderRows, testing::Values("gpt2_reg", "llama_cls"),
                         [](const auto& i) { return std::string(i.param); });

}  // namespace
}  // namespace deltaw
