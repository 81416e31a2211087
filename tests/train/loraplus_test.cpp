// The learning rates of LoRA+, against the groups that PEFT's create_loraplus_optimizer makes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "support/opened.h"
#include "train/adamw.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

AdapterConfig config_of(const Json& facts) {
  AdapterConfig config = test::adapter_config("lora", {{"r", 2}});
  for (const char* key : {"loraplus_lr_ratio", "loraplus_lr_embedding"}) config.options[key] = facts[key];
  config.target_modules = Json::array({"query", "word_embeddings"});
  config.bias = "all";
  return config;
}

TEST(LoraPlus, HasTheGroupsOfPeft) {
  const Json facts = read_json(test::fixture("golden/combined/loraplus.json"));
  const double rate = facts["learning_rate"];
  const auto model = test::tiny_model();
  const Adapter adapter = Adapter::create(*model, config_of(facts), 1);
  const Json& groups = facts["groups"];
  EXPECT_EQ(adapter.trained().size(), groups.size());
  for (const NamedTensor& tensor : adapter.trained()) {
    ASSERT_TRUE(groups.contains(tensor.name)) << tensor.name;
    const double own = tensor.own_rate > 0 ? tensor.own_rate : tensor.rate * rate;
    EXPECT_NEAR(own, groups[tensor.name]["lr"].get<double>(), 1e-12) << tensor.name;
    EXPECT_EQ(train::decays(tensor.name), groups[tensor.name]["decays"].get<bool>()) << tensor.name;
  }
}

// Adam's first step moves every element by the rate, whatever its gradient.
TEST(LoraPlus, TrainsAtTheseRates) {
  const Json facts = read_json(test::fixture("golden/combined/loraplus.json"));
  const test::TemporaryFolder folder;
  TrainOptions options = test::tiny_options(folder.path());
  options.learning_rate = facts["learning_rate"];
  options.warmup_ratio = 0;
  options.max_steps = 1;
  options.weight_decay = 0;
  test::TinyRun run(config_of(facts), options);
  const std::vector<Tensor> before = test::copies(run.adapter);
  run.trainer.train();
  const auto after = run.adapter.trained();
  std::set<std::string> moved;
  for (size_t i = 0; i < after.size(); ++i) {
    const double step = (after[i].value - before[i]).abs().max().item<double>();
    if (step == 0) continue;  // a factor behind a zero, the bias of a key
    const double rate = facts["groups"][after[i].name]["lr"].get<double>();
    EXPECT_LT(step, 1.001 * rate + 1e-6) << after[i].name;
    if (step > 0.9 * rate) moved.insert(after[i].name);
  }
  for (const char* name :
       {"classifier.weight", "classifier.bias", "bert.encoder.layer.0.attention.self.query.lora_B.weight",
        "bert.embeddings.word_embeddings.lora_embedding_A"}) {
    EXPECT_TRUE(moved.contains(name)) << name;
  }
}

TEST(LoraPlus, IsOffWithARatioOfOne) {
  AdapterConfig config = test::adapter_config("lora", {{"r", 2}});
  config.target_modules = Json::array({"query", "word_embeddings"});
  const auto model = test::tiny_model();
  const Adapter adapter = Adapter::create(*model, config, 1);
  for (const NamedTensor& tensor : adapter.trained()) {
    EXPECT_EQ(tensor.rate, 1) << tensor.name;
    EXPECT_EQ(tensor.own_rate, 0) << tensor.name;
  }
}

}  // namespace
}  // namespace deltaw
