#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include <unordered_set>

#include "ops/gradient_checkpointing.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string model;
  std::string method;
  Json options;
  Json targets;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.method << " on " << c.model;
}

/// A fixture whose dropouts all act.
std::unique_ptr<Model> dropping_model(const std::string& name, const fs::path& folder) {
  fs::copy(test::fixture("golden/models/" + name), folder, fs::copy_options::recursive);
  Json config = read_json(folder / "config.json");
  for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "attn_pdrop", "embd_pdrop",
                          "resid_pdrop", "attention_dropout"}) {
    if (config.contains(key)) config[key] = 0.2;
  }
  write_json(folder / "config.json", config);
  return load_model(folder.string(), {.dtype = "float32"});
}

struct Pass {
  Tensor loss;
  std::vector<Tensor> gradients;
  int64_t draws = 0;
  size_t nodes = 0;  // that autograd keeps for the backward pass
};

size_t nodes_behind(const Tensor& output) {
  std::unordered_set<torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> open{output.grad_fn().get()};
  while (!open.empty()) {
    torch::autograd::Node* node = open.back();
    open.pop_back();
    if (!node || !seen.insert(node).second) continue;
    for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return seen.size();
}

/// Two micro-steps, whose gradients are added up.
Pass backward(const Model& model, const Adapter& adapter, const ModelInput& input, bool recompute) {
  Pass pass;
  for (int64_t micro_step = 0; micro_step < 2; ++micro_step) {
    Call call{
        .adapter = &adapter, .training = true, .seed = 3, .step = 1, .micro_step = micro_step, .recompute = recompute};
    const Tensor features = model.features(input, call);
    pass.nodes = nodes_behind(features);
    pass.loss = model.logits(features, call).square().mean();
    pass.loss.backward();
    pass.draws = call.draws;
  }
  for (const NamedTensor& tensor : adapter.trained()) {
    pass.gradients.push_back(tensor.value.grad().clone());
    tensor.value.mutable_grad() = Tensor();
  }
  return pass;
}

class GradientCheckpointing : public testing::TestWithParam<Case> {};

TEST_P(GradientCheckpointing, ChangesNoNumber) {
  const Case& c = GetParam();
  const test::TemporaryFolder folder;
  const auto model = dropping_model(c.model, folder / "model");
  const test::Golden io(test::fixture("golden/models/" + c.model + "/io.safetensors"));
  AdapterConfig config = test::adapter_config(c.method, c.options);
  config.target_modules = c.targets;
  Adapter adapter = Adapter::create(*model, config, 7);
  test::randomise(adapter, 8);

  const Pass kept = backward(*model, adapter, io.input(), false);
  const Pass again = backward(*model, adapter, io.input(), true);
  EXPECT_GT(kept.draws, 0);
  EXPECT_EQ(again.draws, kept.draws);
  EXPECT_TRUE(at::equal(again.loss, kept.loss));
  const std::vector<NamedTensor> trained = adapter.trained();
  ASSERT_EQ(again.gradients.size(), kept.gradients.size());
  for (size_t i = 0; i < kept.gradients.size(); ++i) {
    EXPECT_TRUE(at::equal(again.gradients[i], kept.gradients[i])) << trained[i].name;
    EXPECT_GT(kept.gradients[i].abs().max().item<double>(), 0) << trained[i].name;
  }
  EXPECT_LT(again.nodes, kept.nodes);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string model : {"bert_cls", "llama_tied", "gpt2"}) {
    all.push_back({model, "lora", {{"r", 3}, {"lora_dropout", 0.1}}, "all-linear"});
    all.push_back({model, "randlora", {{"r", 3}, {"randlora_alpha", 3}}, "all-linear"});
    all.push_back({model, "prefix_tuning", {{"num_virtual_tokens", 3}}, Json()});
    all.push_back({model, "pfeiffer", Json::object(), Json()});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Models, GradientCheckpointing, testing::ValuesIn(cases()));

TEST(Checkpointed, KeepsWhatEntersABlockOnly) {
  using Weak = c10::weak_intrusive_ptr<c10::StorageImpl>;
  for (const bool recompute : {false, true}) {
    std::vector<Weak> inner;
    const ops::Block block = [&](const std::vector<Tensor>& inputs, Call&) {
      const Tensor y = inputs[0].exp();  // which autograd keeps
      inner.emplace_back(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(y.storage().unsafeGetStorageImpl()));
      return y * y;
    };
    const Tensor x = at::linspace(0, 1, 5).requires_grad_();
    Call call{.training = true, .recompute = recompute};
    const Tensor output = ops::checkpointed(block, {x}, call);
    ASSERT_EQ(inner.size(), 1u);
    EXPECT_EQ(inner[0].expired(), recompute);
    output.sum().backward();
    EXPECT_EQ(inner.size(), recompute ? 2u : 1u);
    EXPECT_TRUE(at::allclose(x.grad(), 2 * (2 * x.detach()).exp()));
  }
}

TEST(Checkpointed, PassesWithoutGradientsRunOnce) {
  int runs = 0;
  const ops::Block block = [&](const std::vector<Tensor>& inputs, Call&) {
    ++runs;
    return inputs[0] + 1;
  };
  Call call{.recompute = true};
  EXPECT_FALSE(ops::checkpointed(block, {at::ones({2})}, call).requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(ops::checkpointed(block, {at::ones({2}).requires_grad_()}, call).requires_grad());
  EXPECT_EQ(runs, 2);
}

TEST(Checkpointed, ARunMaySwitchItWhenItGoesOn) {
  const test::TemporaryFolder folder;
  TrainOptions options = test::tiny_options(folder / "without");
  options.save_strategy = "epoch";
  const AdapterConfig config = test::adapter_config("lora", {{"r", 3}, {"lora_dropout", 0.1}});
  test::TinyRun without(config, options);
  without.trainer.train();

  options.output_dir = (folder / "without").string();
  options.resume_from_checkpoint = (folder / "without" / "checkpoint-6").string();
  options.gradient_checkpointing = true;
  test::TinyRun resumed(config, options);
  EXPECT_EQ(resumed.trainer.train().steps, 12);
  EXPECT_TRUE(test::equal(test::copies(resumed.adapter), test::copies(without.adapter)));
}

}  // namespace
}  // namespace deltaw
