// Models whose frozen layers are held in few bits.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/adapter.h"
#include "io/safetensors.h"
#include "ops/fixed_updates.h"
#include "ops/quantised.h"
#include "support/compared.h"
#include "support/fixture_input.h"
#include "support/gradcheck.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::base_folder;
using test::differs;
using test::error_of;
using test::fixture;
using test::Golden;
using test::logits_of;
using test::TemporaryFolder;

struct Kind {
  const char* name;
  ModelOptions options;
};

std::vector<Kind> kinds(const std::string& dtype) {
  return {{"nf4", {.dtype = dtype, .load_in_4bit = true}},
          {"fp4", {.dtype = dtype, .load_in_4bit = true, .bnb_4bit_quant_type = "fp4"}},
          {"nf4, double quantisation", {.dtype = dtype, .load_in_4bit = true, .bnb_4bit_use_double_quant = true}},
          {"int8", {.dtype = dtype, .load_in_8bit = true}}};
}

// Its inputs are quantised too: no model of numbers computes the same.
Kind multiplied_in_int8(const std::string& dtype) {
  return {"int8, multiplied in int8", {.dtype = dtype, .base_compute_dtype = "int8"}};
}

test::FixtureInput fixture_input(const std::string& base) {
  return test::input_of(Golden(fixture("golden/models/" + base + "/io.safetensors")));
}

// The checkpoint that holds the model's dequantised weights, in float64.
void write_dequantised(const Model& model, const std::filesystem::path& folder) {
  std::vector<NamedTensor> tensors;
  for (const Layer* layer : model.layers()) {
    if (layer->weight.quantised) {
      tensors.push_back({layer->weight.name, as_stored(layer->info(), layer->matrix()).contiguous()});
    }
  }
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->value.defined() && parameter->tied_to.empty()) {
      tensors.push_back({parameter->name, parameter->value.contiguous()});
    }
  }
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  io::write_safetensors(folder / "model.safetensors", bytes);
  write_json(folder / "config.json", model.config());
}

AdapterConfig config_for(const std::string& method, const Model& model) {
  const Preset* preset = find_preset(method);
  const MethodSpec& spec = find_method(method);
  Json more = preset ? preset->options : Json::object();
  more["target_modules"] = "all-linear";
  AdapterConfig config = test::small_config(spec, more);
  config.task_type = model.task_type();
  return config;
}

class QuantisedModel : public testing::TestWithParam<const char*> {};

TEST_P(QuantisedModel, IsTheModelOfItsDequantisedWeights) {
  for (const Kind& kind : kinds("float64")) {
    SCOPED_TRACE(kind.name);
    const auto model = load_model(base_folder(GetParam()), kind.options);
    const TemporaryFolder folder;
    write_dequantised(*model, folder.path());
    const auto plain = load_model(folder.path().string(), {.dtype = "float64"});
    const test::FixtureInput input = fixture_input(GetParam());
    EXPECT_EQ(differs(logits_of(*model, nullptr, input), logits_of(*plain, nullptr, input), 1e-10), "");
    const auto whole = load_model(base_folder(GetParam()), {.dtype = "float64"});
    EXPECT_NE(differs(logits_of(*model, nullptr, input), logits_of(*whole, nullptr, input), 1e-4), "");
  }
}

TEST_P(QuantisedModel, KeepsHeadsEmbeddingsAndNormsAsTheyAre) {
  std::vector<Kind> all = kinds("float32");
  all.push_back(multiplied_in_int8("float32"));
  for (const Kind& kind : all) {
    const bool in_8_bits = std::string(kind.name).starts_with("int8");
    SCOPED_TRACE(kind.name);
    const auto model = load_model(base_folder(GetParam()), kind.options);
    const auto whole = load_model(base_folder(GetParam()), {.dtype = "float32"});
    const bool in_tiles = kind.options.base_compute_dtype == "int8";
    int64_t quantised = 0, bytes = 0, most_bytes = 0;
    double worst = 0;
    for (const Layer* layer : model->layers()) {
      const Tensor W0 = whole->layers()[layer->index]->matrix();
      EXPECT_EQ(layer->view->d_out(), W0.size(0));
      EXPECT_EQ(layer->view->d_in(), W0.size(1));
      const bool spared = layer->kind == LayerKind::embedding || layer->kind == LayerKind::conv2d ||
                          layer->name.starts_with(model->head()) || layer->name.ends_with("pooler.dense");
      EXPECT_EQ(layer->weight.quantised == nullptr, spared) << layer->name;
      if (spared) continue;
      ++quantised;
      EXPECT_FALSE(layer->weight.value.defined());
      EXPECT_EQ(layer->weight.numel(), W0.numel());
      const double error = ((layer->matrix() - W0).norm() / W0.norm()).item<double>();
      worst = std::max(worst, error);
      EXPECT_EQ(differs(layer->view->row_norms(), layer->matrix().norm(2, 1), 1e-5), "");
      bytes += layer->weight.nbytes();
      // Codes in whole tiles and two scales for a row (the largest magnitude and its 127th part); or 8 bits and one for
      // a row, which is short here, or 4 bits and one for 64 elements.
      if (in_tiles) {
        most_bytes += (W0.size(0) + 31) / 32 * 32 * ((W0.size(1) + 63) / 64 * 64) + 8 * W0.size(0);
      } else {
        most_bytes += static_cast<int64_t>(W0.nbytes()) / (in_8_bits ? 2 : 6);
      }
    }
    const auto error = model->quantisation_error();
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->type, kind.name);
    EXPECT_EQ(error->layers, quantised);
    EXPECT_NEAR(error->worst, worst, 1e-5);
    EXPECT_GT(error->mean, 0);
    EXPECT_LE(error->mean, error->worst);
    EXPECT_LT(error->worst, in_8_bits ? 0.02 : 0.2);
    EXPECT_LE(bytes, most_bytes);
    EXPECT_FALSE(whole->quantisation_error().has_value());
  }
}

double relative_difference(const Tensor& actual, const Tensor& expected) {
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

// The codes are those of load_in_8bit; what is multiplied with them is off by some hundredths of its size.
TEST_P(QuantisedModel, IsNearTheModelOfTheSameCodesWhereItMultipliesInInt8) {
  const auto held = load_model(base_folder(GetParam()), {.dtype = "float32", .load_in_8bit = true});
  const auto model = load_model(base_folder(GetParam()), multiplied_in_int8("float32").options);
  for (const Layer* layer : model->layers()) {
    EXPECT_TRUE(layer->matrix().equal(held->layers()[layer->index]->matrix())) << layer->name;
  }
  const test::FixtureInput input = fixture_input(GetParam());
  const Tensor logits = logits_of(*model, nullptr, input);
  const double apart = relative_difference(logits, logits_of(*held, nullptr, input));
  EXPECT_GT(apart, 1e-5);
  EXPECT_LT(apart, 0.1);
  EXPECT_TRUE(test::in_threads(2, [&] { return logits_of(*model, nullptr, input); }).equal(logits));
}

INSTANTIATE_TEST_SUITE_P(Families, QuantisedModel,
                         testing::Values("llama_tied", "llama_heads", "phi3_short", "gemma2", "gpt2", "bert_cls",
                                         "roberta_cls", "vit_cls", "dinov2_gated"));

class QuantisedAdapter : public testing::TestWithParam<const char*> {};

// What the adapter computes over the codes is what it computes over the dequantised weights, gradients included; those
// are compared with differences in the tests of the methods.
TEST_P(QuantisedAdapter, TrainsAsOverTheDequantisedWeights) {
  for (const char* base : {"llama_tied", "gpt2"}) {
    SCOPED_TRACE(base);
    const auto model = load_model(base_folder(base), {.dtype = "float64", .load_in_4bit = true});
    const TemporaryFolder folder;
    write_dequantised(*model, folder.path());
    const auto plain = load_model(folder.path().string(), {.dtype = "float64"});
    const ModelInput input = fixture_input(base).text;
    Adapter adapter = Adapter::create(*model, config_for(GetParam(), *model), 7);
    Adapter expected = Adapter::create(*plain, config_for(GetParam(), *plain), 7);
    if (adapter.spec().identity_at_init) {
      EXPECT_EQ(differs(logits_of(*model, &adapter, input), logits_of(*model, nullptr, input), 1e-9), "");
    }
    const auto trained = adapter.trained(), others = expected.trained();
    ASSERT_EQ(trained.size(), others.size());
    test::randomise(adapter, 5, 0.05);
    for (size_t i = 0; i < trained.size(); ++i) {
      const at::NoGradGuard no_grad;
      Tensor(others[i].value).copy_(trained[i].value);
    }
    for (const LinearPath path : {LinearPath::sequence, LinearPath::folded}) {
      const auto loss = [&](const Model& over, const Adapter& with) {
        Call call{.adapter = &with, .path = path};
        return over.forward(input, call).square().mean();
      };
      for (const auto* list : {&trained, &others}) {
        for (const NamedTensor& tensor : *list) Tensor(tensor.value).mutable_grad() = Tensor();
      }
      const Tensor first = loss(*model, adapter), second = loss(*plain, expected);
      EXPECT_NEAR(first.item<double>(), second.item<double>(), 1e-9 * std::max(1.0, second.item<double>()));
      first.backward();
      second.backward();
      for (size_t i = 0; i < trained.size(); ++i) {
        if (!others[i].value.grad().defined()) continue;
        const double size = std::max(1.0, others[i].value.grad().abs().max().item<double>());
        EXPECT_EQ(differs(trained[i].value.grad(), others[i].value.grad(), 1e-8 * size), "") << trained[i].name;
      }
    }
    // Passes of generation, whose updates are settled once.
    const at::NoGradGuard no_grad;
    for (const LinearPath path : {LinearPath::automatic, LinearPath::sequence}) {
      FixedUpdates fixed(adapter);
      Call call{.adapter = &adapter, .path = path, .fixed = &fixed};
      const Tensor logits = model->forward(input, call), again = model->forward(input, call);
      EXPECT_TRUE(logits.equal(again));
      const Tensor padding = input.attention_mask.eq(0).unsqueeze(-1);
      EXPECT_EQ(differs(logits.masked_fill(padding, 0), logits_of(*plain, &expected, input), 1e-8), "");
    }
  }
}

// Over a base that multiplies in int8 losses and gradients of every method stay near those over the same codes.
TEST_P(QuantisedAdapter, TrainsNearlyAlikeWhereTheBaseMultipliesInInt8) {
  for (const char* base : {"llama_tied", "gpt2"}) {
    SCOPED_TRACE(base);
    const auto held = load_model(base_folder(base), {.dtype = "float32", .load_in_8bit = true});
    const auto model = load_model(base_folder(base), multiplied_in_int8("float32").options);
    const ModelInput input = fixture_input(base).text;
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(9);
    const Tensor direction = at::empty_like(logits_of(*held, nullptr, input)).normal_(0, 1, generator);
    const auto gradients = [&](const Model& over, LinearPath path) {
      Adapter adapter = Adapter::create(over, config_for(GetParam(), over), 7);
      test::randomise(adapter, 5, 0.05);
      Call call{.adapter = &adapter, .path = path};
      (over.forward(input, call) * direction).mean().backward();
      std::vector<Tensor> parts;
      for (const NamedTensor& tensor : adapter.trained()) {
        if (tensor.value.grad().defined()) parts.push_back(tensor.value.grad().flatten());
      }
      return at::cat(parts);
    };
    for (const LinearPath path : {LinearPath::sequence, LinearPath::folded}) {
      const Tensor expected = gradients(*held, path), actual = gradients(*model, path);
      EXPECT_LT(relative_difference(actual, expected), 0.2);
      const Tensor again = test::in_threads(2, [&] { return gradients(*model, path); });
      EXPECT_TRUE(again.equal(actual));
    }
    // Passes of generation multiply as those of training do.
    const at::NoGradGuard no_grad;
    Adapter adapter = Adapter::create(*model, config_for(GetParam(), *model), 7);
    test::randomise(adapter, 5, 0.05);
    FixedUpdates fixed(adapter);
    Call call{.adapter = &adapter, .path = LinearPath::sequence, .fixed = &fixed};
    const Tensor padding = input.attention_mask.eq(0).unsqueeze(-1);
    const Tensor logits = model->forward(input, call).masked_fill(padding, 0);
    EXPECT_LT(relative_difference(logits, logits_of(*model, &adapter, input)), 0.05);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, QuantisedAdapter,
                         testing::Values("lora", "dora", "moslora", "randlora", "lora2", "lora_xs", "vera", "oft",
                                         "lokr", "loha", "ia3", "pissa", "olora"));

TEST(QuantisedGradient, AgreesWithDifferences) {
  const auto model = load_model(base_folder("llama_tied"), {.dtype = "float64", .load_in_4bit = true});
  const ModelInput input = fixture_input("llama_tied").text;
  AdapterConfig config = config_for("moslora", *model);
  config.target_modules = Json::array({"q_proj", "down_proj"});
  config.layers_to_transform = 0;  // so that gradients go back through layers that no adapter changes
  Adapter adapter = Adapter::create(*model, config, 3);
  test::randomise(adapter, 4, 0.1);
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(9);
  const Tensor direction = at::empty_like(logits_of(*model, nullptr, input)).normal_(0, 1, generator);
  const auto loss = [&] {
    Call call{.adapter = &adapter};
    return (model->forward(input, call) * direction).mean();
  };
  loss().backward();
  for (const NamedTensor& tensor : adapter.trained()) {
    const Tensor gradient = tensor.value.grad().clone();
    EXPECT_EQ(test::check_gradient([&] { return loss().item<double>(); }, tensor.value, gradient), "") << tensor.name;
  }
}

// W0 + dW over the checkpoint's own weights, whatever the adapter was trained on.
TEST(QuantisedMerge, GoesIntoTheCheckpointAndMeasuresTheQuantisation) {
  for (const std::string method : {"lora", "dora", "pissa", "oft", "lora in int8"}) {
    SCOPED_TRACE(method);
    const bool in_int8 = method.ends_with("in int8");
    const auto model =
        load_model(base_folder("llama_tied"), in_int8 ? multiplied_in_int8("float32").options
                                                      : ModelOptions{.dtype = "float32", .load_in_4bit = true});
    Adapter adapter = Adapter::create(*model, config_for(in_int8 ? "lora" : method, *model), 7);
    test::randomise(adapter, 5, 0.05);
    const TemporaryFolder folder;
    const ModelInput input = fixture_input("llama_tied").text;
    const MergeReport report = merge_checkpoint(adapter, folder / "merged", test::probe_of(input));
    EXPECT_TRUE(report.passed) << report.problem;
    const auto merged = load_model((folder / "merged").string(), {.dtype = "float32"});
    const auto apart =
        (logits_of(*merged, nullptr, input) - logits_of(*model, &adapter, input)).abs().max().item<double>();
    ASSERT_TRUE(report.quantisation_difference.has_value());
    EXPECT_GT(*report.quantisation_difference, in_int8 ? 1e-4 : 1e-3);
    EXPECT_GT(apart, in_int8 ? 1e-4 : 1e-3);
    for (const Layer* layer : merged->layers()) EXPECT_EQ(layer->weight.stored, at::kFloat);
  }
  const auto whole = load_model(base_folder("llama_tied"), {.dtype = "float32"});
  const Adapter adapter = Adapter::create(*whole, config_for("lora", *whole), 7);
  const TemporaryFolder folder;
  EXPECT_FALSE(merge_checkpoint(adapter, folder / "merged", test::probe_of(fixture_input("llama_tied")))
                   .quantisation_difference.has_value());
}

TEST(QuantisedOptions, RefuseWhatCannotBe) {
  const std::string base = base_folder("llama_tied");
  const auto error = [&](const ModelOptions& options) { return error_of([&] { load_model(base, options); }).id(); };
  EXPECT_EQ(error({.load_in_4bit = true, .load_in_8bit = true}), "config.conflict");
  EXPECT_EQ(error({.load_in_8bit = true, .bnb_4bit_use_double_quant = true}), "config.conflict");
  EXPECT_EQ(error({.load_in_4bit = true, .bnb_4bit_quant_type = "nf8"}), "config.out-of-range");
  EXPECT_EQ(error({.load_in_4bit = true, .base_compute_dtype = "int8"}), "config.conflict");
  EXPECT_EQ(error({.base_compute_dtype = "int8", .dequantize = false}), "config.conflict");
  EXPECT_EQ(error({.base_compute_dtype = "int4"}), "config.out-of-range");

  const auto model = load_model(base, {.dtype = "float32", .load_in_4bit = true});
  const auto create = [&](const Json& values) {
    return error_of([&] { Adapter::create(*model, adapter_config_from_json(values, "test"), 1); });
  };
  EXPECT_EQ(create({{"method", "full"}}).id(), "config.quantised");
  const Error saved = create({{"method", "lora"}, {"modules_to_save", {"o_proj"}}, {"target_modules", {"q_proj"}}});
  EXPECT_EQ(saved.id(), "config.quantised");
  EXPECT_NE(saved.parts().what.find("o_proj.weight"), std::string::npos);
  EXPECT_EQ(create({{"method", "lora"}, {"modules_to_save", {"lm_head"}}}).id(), "none");
}

TEST(QuantisedOptions, RefuseACheckpointThatIsQuantisedAlready) {
  const TemporaryFolder folder;
  std::filesystem::copy(fixture("golden/models/llama_tied"), folder.path());
  Json config = read_json(folder / "config.json");
  config["quantization_config"] = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}};
  write_json(folder / "config.json", config);
  const Error error = error_of([&] { load_model(folder.path().string(), {.load_in_4bit = true}); });
  EXPECT_EQ(error.id(), "format.unsupported");
  EXPECT_NE(error.parts().what.find("bitsandbytes"), std::string::npos);
  EXPECT_NE(error.parts().where.find("quantization_config"), std::string::npos);
}

TEST(QuantisedOptions, RefuseWeightsThatAreNotFinite) {
  const auto model = load_model(base_folder("llama_tied"), {.dtype = "float32"});
  const TemporaryFolder folder;
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : model->parameters()) {
    if (!parameter->value.defined() || !parameter->tied_to.empty()) continue;
    tensors.push_back({parameter->name, parameter->value.clone()});
    if (parameter->name.ends_with("1.mlp.up_proj.weight")) tensors.back().value[2][3].fill_(NAN);
  }
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  io::write_safetensors(folder / "model.safetensors", bytes);
  write_json(folder / "config.json", model->config());
  for (const ModelOptions& options : {ModelOptions{.load_in_8bit = true}, {.base_compute_dtype = "int8"}}) {
    const Error error = error_of([&] { load_model(folder.path().string(), options); });
    EXPECT_EQ(error.id(), "numeric.non-finite");
    EXPECT_NE(error.parts().what.find("1.mlp.up_proj.weight"), std::string::npos);
  }
}

}  // namespace
}  // namespace deltaw
