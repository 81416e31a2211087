// Logits, gradients and ten optimiser steps against transformers and PEFT (tests/golden, written by oracle/).
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "train/adamw.h"
#include "train/batch_tensors.h"

namespace deltaw {
namespace {

using test::differs;
using test::fixture;
using test::Golden;
using test::logit_tolerance;

std::vector<std::string> folders(const std::string& kind) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("golden/" + kind))) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string base_folder(const std::string& name) {
  return fixture("golden/models/" + name).string();
}

Tensor logits_of(const Model& model, const Adapter* adapter, const ModelInput& input) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter};
  return model.forward(input, call);
}

// The model's loss on a batch of a fixture, with the adapter's penalty.
Tensor loss_of(const Model& model, const Adapter& adapter, const Golden& io, const std::string& prefix, int64_t step) {
  Call call{.adapter = &adapter, .training = true, .step = step};
  const Tensor labels = io[prefix + "labels"].to(model.is_regression() ? at::kDouble : at::kLong);
  const Tensor loss = model_loss(model, model.forward(io.input(prefix), call), labels);
  const Tensor penalty = adapter.penalty();
  return penalty.defined() ? loss + penalty : loss;
}

class ModelOracle : public testing::TestWithParam<std::string> {};

TEST_P(ModelOracle, GivesTheLogitsOfTransformers) {
  const Golden io(fixture("golden/models/" + GetParam() + "/io.safetensors"));
  for (const char* dtype : {"float32", "float64"}) {
    const bool wide = std::string(dtype) == "float64";
    const auto model = load_model(base_folder(GetParam()), {.dtype = dtype, .num_labels = io["logits"].size(1)});
    const Tensor expected = io[wide ? "logits64" : "logits"];
    if (!model->new_modules().empty()) {
      EXPECT_TRUE(io.has("classifier.weight") || io.has("classifier.out_proj.weight"));
      continue;  // its head is compared below, through an adapter
    }
    EXPECT_EQ(differs(logits_of(*model, nullptr, io.input()), expected, wide ? 1e-9 : logit_tolerance(expected)), "");
  }
}

TEST_P(ModelOracle, ComputesInBf16) {
  const Golden io(fixture("golden/models/" + GetParam() + "/io.safetensors"));
  const auto model = load_model(base_folder(GetParam()), {.dtype = "bf16", .num_labels = io["logits"].size(1)});
  if (!model->new_modules().empty()) return;
  const Tensor expected = io["logits"];
  // The fixtures' weights are ten times a real model's, and so is what becomes of bf16's rounding of 2^-8.
  EXPECT_EQ(differs(logits_of(*model, nullptr, io.input()), expected, 16 * expected.abs().max().item<double>() / 256),
            "");
}

INSTANTIATE_TEST_SUITE_P(Models, ModelOracle, testing::ValuesIn(folders("models")),
                         [](const auto& i) { return i.param; });

TEST(ModelOracle, ABareBaseModelGetsANewHeadThatAnAdapterCanBring) {
  for (const char* name : {"bert_base", "roberta_mlm"}) {
    const Golden io(fixture(std::string("golden/models/") + name + "/io.safetensors"));
    const auto model = load_model(base_folder(name), {.dtype = "float32", .num_labels = io["logits"].size(1)});
    EXPECT_FALSE(model->new_modules().empty());
    AdapterConfig config;
    Adapter adapter = Adapter::create(*model, config, 1);
    const at::NoGradGuard no_grad;
    for (const NamedTensor& tensor : adapter.trained()) {
      if (io.has(tensor.name)) tensor.value.copy_(io[tensor.name]);
    }
    EXPECT_EQ(differs(logits_of(*model, &adapter, io.input()), io["logits"], logit_tolerance(io["logits"])), "")
        << name;
  }
}

// One fixture with an adapter: those that PEFT wrote, and those of the dense formulas, which bring their own config.
struct Opened {
  std::unique_ptr<Model> model;
  std::unique_ptr<Adapter> adapter;
  Golden io;
  Json facts;
  test::TemporaryFolder folder;

  Opened(const std::string& kind, const std::string& name, const std::string& dtype)
      : io(fixture("golden/" + kind + "/" + name + "/io.safetensors")),
        facts(read_json(fixture("golden/" + kind + "/" + name + "/case.json"))) {
    const std::filesystem::path source = fixture("golden/" + kind + "/" + name);
    std::filesystem::copy(source, folder.path(), std::filesystem::copy_options::recursive);
    if (kind == "dense") write_config();
    model = load_model(base_folder(facts["base"]), {.dtype = dtype});
    adapter = std::make_unique<Adapter>(Adapter::load(*model, folder.path(), {.trainable = true}));
  }

 private:
  void write_config() const {
    const MethodSpec& spec = find_method(facts["method"].get<std::string>());
    Json config = facts["options"];
    config.update(spec.peft_settings);
    config["peft_type"] = spec.peft_type;
    config["task_type"] = "SEQ_CLS";
    config["target_modules"] = facts["target_modules"];
    config["modules_to_save"] = facts["modules_to_save"];
    write_json(folder / "adapter_config.json", config);
  }
};

struct AdapterCase {
  std::string kind, name;
};

void PrintTo(const AdapterCase& c, std::ostream* out) { *out << c.kind << "/" << c.name; }

// What PEFT can and deltaw cannot: see RefusesWhatItDoesNotImplement.
const std::map<std::string, std::string> kRefused = {
    {"lora_bias_on_B", "lora_bias"},
    {"lora_embedding", "word_embeddings"},
    {"prefix_tuning_bert", "PREFIX_TUNING"},
    {"prefix_tuning_roberta", "PREFIX_TUNING"},
    {"prompt_tuning_bert", "PROMPT_TUNING"},
    {"prompt_tuning_roberta", "PROMPT_TUNING"},
};

std::vector<AdapterCase> adapter_cases() {
  std::vector<AdapterCase> cases;
  for (const char* kind : {"adapters", "dense"}) {
    for (const std::string& name : folders(kind)) {
      if (!kRefused.contains(name)) cases.push_back({kind, name});
    }
  }
  return cases;
}

// PEFT decomposes the base in float32 whatever its type, and its start is in the result.
bool decomposes_base(const Opened& c) {
  const Json start = c.adapter->config().options.value("init_lora_weights", Json());
  return start == "pissa" || start == "olora";
}

class AdapterOracle : public testing::TestWithParam<AdapterCase> {
 protected:
  static constexpr const char* kPrefix = "base_model.model.";
};

TEST_P(AdapterOracle, GivesTheLogitsOfThePythonSide) {
  for (const char* dtype : {"float32", "float64"}) {
    const bool wide = std::string(dtype) == "float64";
    const Opened c(GetParam().kind, GetParam().name, dtype);
    const Tensor expected = c.io[wide ? "logits64" : "logits"];
    const double tolerance = !wide ? logit_tolerance(expected) : decomposes_base(c) ? 1e-5 : 1e-7;
    EXPECT_EQ(differs(logits_of(*c.model, c.adapter.get(), c.io.input()), expected, tolerance), "") << dtype;
    EXPECT_NE(differs(logits_of(*c.model, nullptr, c.io.input()), expected, 100 * logit_tolerance(expected)), "")
        << "the adapter makes no difference";
  }
}

TEST_P(AdapterOracle, GivesTheLossAndEveryGradient) {
  const Opened c(GetParam().kind, GetParam().name, "float64");
  const Tensor loss = loss_of(*c.model, *c.adapter, c.io, "", 1);
  const double tolerance = decomposes_base(c) ? 1e-5 : 1e-7;
  EXPECT_EQ(differs(loss.reshape({1}), c.io["loss64"], tolerance), "");
  loss.backward();
  std::set<std::string> expected;
  for (const std::string& name : c.io.names(std::string("grad.") + kPrefix)) expected.insert(name);
  for (const NamedTensor& tensor : c.adapter->trained()) {
    if (tensor.value.numel() == 0) continue;
    ASSERT_TRUE(expected.erase(tensor.name)) << "PEFT does not train " << tensor.name;
    const Tensor gradient = c.io[fmt::format("grad.{}{}", kPrefix, tensor.name)];
    const double scale = std::max(1.0, gradient.abs().max().item<double>());
    EXPECT_EQ(differs(tensor.value.grad(), gradient, tolerance * scale), "") << tensor.name;
  }
  EXPECT_TRUE(expected.empty()) << "not trained here: " << *expected.begin();
}

TEST_P(AdapterOracle, TakesTenStepsOfAdamW) {
  const Opened c(GetParam().kind, GetParam().name, "float64");
  // The oracle decays every tensor, so the names that would be spared are hidden.
  std::vector<NamedTensor> moved;
  for (const NamedTensor& tensor : c.adapter->trained()) {
    if (tensor.value.numel() > 0) moved.push_back({fmt::format("w{}", moved.size()), tensor.value});
  }
  train::AdamW adamw(moved, {.weight_decay = 0.01});
  for (int64_t step = 1; step <= 10; ++step) {
    const Tensor loss = loss_of(*c.model, *c.adapter, c.io, step % 2 == 1 ? "" : "batch1.", step);
    EXPECT_NEAR(loss.item<double>(), c.io["losses"][step - 1].item<double>(),
                decomposes_base(c) ? 1e-3 : 1e-7)
        << "step " << step;
    loss.backward();
    c.adapter->before_step();
    adamw.step(0.01);
    c.adapter->after_step();
    for (const NamedTensor& tensor : moved) tensor.value.mutable_grad() = Tensor();
  }
  std::set<std::string> loose;
  for (const Json& name : c.facts.value("rounding_only", Json::array())) loose.insert(name.get<std::string>());
  for (const NamedTensor& tensor : c.adapter->trained()) {
    if (tensor.value.numel() == 0) continue;
    const std::string name = fmt::format("{}{}", kPrefix, tensor.name);
    const double tolerance = decomposes_base(c) ? 1e-4 : loose.contains(name) ? 1e-5 : 1e-8;
    EXPECT_EQ(differs(tensor.value, c.io[fmt::format("step10.{}", name)], tolerance), "") << name;
  }
}

TEST_P(AdapterOracle, MergesIntoACheckpointWithTheSameLogits) {
  const Opened c(GetParam().kind, GetParam().name, "float32");
  const std::filesystem::path output = c.folder / "merged";
  if (!c.adapter->spec().mergeable) {
    const auto merge = [&] { merge_checkpoint(*c.adapter, output, c.io.input()); };
    EXPECT_EQ(test::error_of(merge).id(), "config.not-mergeable");
    EXPECT_FALSE(std::filesystem::exists(output));
    return;
  }
  const MergeReport report = merge_checkpoint(*c.adapter, output, c.io.input());
  EXPECT_TRUE(report.passed) << report.max_difference << " > " << report.tolerance;
  const auto merged = load_model(output.string(), {.dtype = "float32"});
  EXPECT_EQ(differs(logits_of(*merged, nullptr, c.io.input()), c.io["logits"], logit_tolerance(c.io["logits"])), "");
}

TEST_P(AdapterOracle, SavesWhatItRead) {
  const Opened c(GetParam().kind, GetParam().name, "float32");
  const test::TemporaryFolder folder;
  c.adapter->save(folder.path());
  const Adapter again = Adapter::load(*c.model, folder.path());
  const Tensor first = logits_of(*c.model, c.adapter.get(), c.io.input());
  EXPECT_TRUE(first.equal(logits_of(*c.model, &again, c.io.input())));
}

INSTANTIATE_TEST_SUITE_P(Adapters, AdapterOracle, testing::ValuesIn(adapter_cases()),
                         [](const auto& i) { return i.param.name; });

TEST(AdapterOracle, RefusesWhatItDoesNotImplement) {
  for (const auto& [name, said] : kRefused) {
    const Error error = test::error_of([&, &name = name] { Opened("adapters", name, "float32"); });
    EXPECT_EQ(error.id().rfind("config.", 0), 0u) << name << ": " << error.id();
    EXPECT_NE(error.parts().what.find(said), std::string::npos) << name << ": " << error.parts().what;
  }
}

TEST(AdapterOracle, Lora2RegularisersAreThoseOfTheDenseFormula) {
  Opened c("dense", "lora2_penalty", "float64");
  for (const std::string term : {"PQ", "UV", "uv"}) {
    Json options = c.facts["options"];
    options["orth_reg_weight"] = 1.0;
    options["regularizers"] = {term};
    const auto method = find_method("lora2").make(options, "test");
    for (const AdaptedLayer* layer : c.adapter->layers()) {
      const Tensor value = method->penalty({&layer->params});
      EXPECT_EQ(differs(value.reshape({1}), c.io[fmt::format("reg.{}.{}", term, layer->info.name)], 1e-8), "") << term;
    }
    std::vector<const Params*> layers;
    for (const AdaptedLayer* layer : c.adapter->layers()) layers.push_back(&layer->params);
    (method->penalty(layers) * static_cast<double>(layers.size())).backward();
    for (const NamedTensor& tensor : c.adapter->trained()) {
      const std::string name = fmt::format("reg.{}.grad.base_model.model.{}", term, tensor.name);
      if (!c.io.has(name)) continue;
      const Tensor gradient = tensor.value.grad().defined() ? tensor.value.grad() : at::zeros_like(tensor.value);
      EXPECT_EQ(differs(gradient, c.io[name], 1e-8), "") << name;
      tensor.value.mutable_grad() = Tensor();
    }
  }
}

}  // namespace
}  // namespace deltaw
