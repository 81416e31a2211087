// Starts that follow from data: PEFT's own factors on the same rows (tests/golden/starts), and what creating, saving
// and loading such an adapter must keep.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "support/golden.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::base_folder;
using test::differs;
using test::error_of;
using test::fixture;
using test::Golden;

struct Start {
  Json facts;
  Golden io;
  std::unique_ptr<Model> model;

  explicit Start(const std::string& name)
      : facts(read_json(fixture("golden/starts/" + name + "/case.json"))),
        io(fixture("golden/starts/" + name + "/io.safetensors")),
        model(load_model(base_folder(facts["base"]), {.dtype = "float32"})) {}

  std::vector<CalibrationBatch> batches() const {
    std::vector<CalibrationBatch> all;
    for (int i = 0; i < facts["batches"]; ++i) {
      const std::string prefix = fmt::format("batch{}.", i);
      all.push_back(test::calibration_batch(io.input(prefix), io[prefix + "labels"]));
    }
    return all;
  }
  AdapterConfig config(Json more = Json::object()) const {
    Json values = facts["options"];
    values.update(more);
    return adapter_config_from_json(values, "test");
  }
  Adapter create(const Json& more = Json::object()) const {
    return Adapter::create(*model, config(more), 1, [&](int64_t) { return batches(); });
  }
  Tensor logits(const Adapter* adapter) const { return test::logits_of(*model, adapter, io.input("batch0.")); }
};

double update_scale(const AdaptedLayer& layer) {
  return layer.update().scale;
}

class DataStart : public testing::TestWithParam<std::string> {};

TEST_P(DataStart, TakesTheFactorsThatPeftTakes) {
  const Start start(GetParam());
  const Adapter adapter = start.create();
  std::set<std::string> expected;
  for (const std::string& name : start.io.names("")) {
    if (name.ends_with(".lora_A")) expected.insert(name.substr(0, name.rfind('.')));
  }
  for (const AdaptedLayer* layer : adapter.layers()) {
    const std::string& name = layer->info.name;
    ASSERT_TRUE(expected.erase(name)) << "PEFT leaves out " << name;
    const Tensor A = start.io[name + ".lora_A"], B = start.io[name + ".lora_B"];
    EXPECT_DOUBLE_EQ(update_scale(*layer), start.io[name + ".scale"].item<double>()) << name;
    // Signs of singular vectors are free. PEFT's decompositions are randomised, for weight_svd coarsely.
    const double size = std::max(1.0, B.abs().max().item<double>());
    const bool coarse = GetParam() == "lora_ga_weight_svd";
    EXPECT_EQ(differs(layer->params["lora_A"].abs(), A.abs(), 5e-3), "") << name;
    EXPECT_EQ(differs(layer->params["lora_B"].abs(), B.abs(), (coarse ? 2e-2 : 5e-3) * size), "") << name;
  }
  EXPECT_TRUE(expected.empty()) << "PEFT adapts " << *expected.begin() << " too";
}

// The product of both factors has no free sign where the same triplets make both.
TEST_P(DataStart, TakesTheProductThatPeftTakes) {
  const Start start(GetParam());
  if (start.facts["options"]["init_lora_weights"] != "corda") return;
  const Adapter adapter = start.create();
  for (const AdaptedLayer* layer : adapter.layers()) {
    const std::string& name = layer->info.name;
    const Tensor expected = at::mm(start.io[name + ".lora_B"], start.io[name + ".lora_A"]);
    const Tensor product = at::mm(layer->params["lora_B"].detach(), layer->params["lora_A"].detach());
    EXPECT_EQ(differs(product, expected, 1e-3), "") << name;
  }
}

TEST_P(DataStart, WritesTheRanksThatPeftWrites) {
  const Start start(GetParam());
  if (start.facts["options"]["init_lora_weights"] != "eva") return;
  const Adapter adapter = start.create();
  EXPECT_EQ(nlohmann::json(adapter.config().options["rank_pattern"]), nlohmann::json(start.facts["rank_pattern"]));
  const Json alphas = adapter.config().options["alpha_pattern"];
  EXPECT_EQ(alphas.size(), start.facts["alpha_pattern"].size());
  for (const auto& [name, alpha] : start.facts["alpha_pattern"].items()) {
    EXPECT_DOUBLE_EQ(alphas.value(name, 0.0), alpha.get<double>()) << name;
  }
}

TEST_P(DataStart, BeginsAsTheBaseAndComesBackFromItsFile) {
  const Start start(GetParam());
  Adapter adapter = start.create();
  const Tensor base = start.logits(nullptr);
  EXPECT_EQ(differs(start.logits(&adapter), base, test::logit_tolerance(base)), "");

  test::randomise(adapter, 2);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter again = Adapter::load(*start.model, folder.path());
  EXPECT_EQ(again.layers().size(), adapter.layers().size());
  EXPECT_TRUE(start.logits(&again).equal(start.logits(&adapter)));
  EXPECT_EQ(read_json(folder / "adapter_config.json")["init_lora_weights"],
            start.facts["options"]["init_lora_weights"]);
}

INSTANTIATE_TEST_SUITE_P(Starts, DataStart, testing::ValuesIn(test::folders("starts")),
                         [](const auto& i) { return i.param; });

TEST(DataStart, NeedsRows) {
  const Start start("eva");
  for (const char* name : {"eva", "corda", "lora_ga"}) {
    const Error none = error_of([&] { Adapter::create(*start.model, start.config({{"init_lora_weights", name}}), 1); });
    EXPECT_EQ(none.id(), "config.no-calibration") << name;
  }
  const auto empty = [](int64_t) { return std::vector<CalibrationBatch>(); };
  EXPECT_EQ(error_of([&] { Adapter::create(*start.model, start.config(), 1, empty); }).id(), "config.no-calibration");
}

TEST(DataStart, AsksForTheRowsThatItsOptionsSay) {
  const Start start("eva");
  int64_t asked = 0;
  const auto count = [&](int64_t samples) {
    asked = samples;
    return start.batches();
  };
  Adapter::create(*start.model, start.config(), 1, count);
  EXPECT_EQ(asked, 256);
  Adapter::create(*start.model, start.config({{"calibration_samples", 7}}), 1, count);
  EXPECT_EQ(asked, 7);
  Adapter::create(*start.model, start.config({{"init_lora_weights", true}, {"calibration_samples", 9}}), 1, count);
  EXPECT_EQ(asked, 7) << "a start without data asked for rows";
}

TEST(DataStart, LeavesNoGradientBehind) {
  const Start start("lora_ga");
  start.create();
  for (const Parameter* parameter : start.model->parameters()) {
    EXPECT_FALSE(parameter->value.defined() && parameter->value.requires_grad()) << parameter->name;
  }
}

TEST(DataStart, RefusesWhatItCannotStartFrom) {
  const Start start("lora_ga");
  const auto id = [&](const Json& more) { return error_of([&] { start.create(more); }).id(); };
  EXPECT_EQ(id({{"target_modules", {"word_embeddings", "query"}}}), "config.no-embedding");
  EXPECT_EQ(id({{"r", 9}}), "config.unsupported") << "of 16 triplets there are no 18";
  EXPECT_EQ(id({{"r", 17}, {"init_lora_weights", "corda"}}), "config.unsupported");
  EXPECT_EQ(id({{"lora_ga_config", {{"direction", "ArB3r"}}}}), "config.out-of-range");
  EXPECT_EQ(id({{"eva_config", {{"rho", 0.5}}}}), "config.out-of-range");
  EXPECT_EQ(id({{"corda_config", {{"corda_mode", "kpm"}}}}), "config.unknown-key");
  EXPECT_EQ(id({{"eva_config", {1, 2}}}), "config.unsupported");
}

TEST(DataStart, WhitensEvasDirections) {
  const Start start("eva_even");
  const Adapter plain = start.create(), white = start.create({{"eva_config", {{"rho", 1.0}, {"whiten", true}}}});
  for (size_t i = 0; i < plain.layers().size(); ++i) {
    const Tensor a = plain.layers()[i]->params["lora_A"], w = white.layers()[i]->params["lora_A"];
    const Tensor sizes = w.norm(2, {1});
    EXPECT_EQ(differs(w / sizes.unsqueeze(1), a, 1e-5), "");
    EXPECT_TRUE(sizes.narrow(0, 1, 3).gt(sizes.narrow(0, 0, 3)).all().item<bool>()) << "larger variances shrink more";
  }
}

}  // namespace
}  // namespace deltaw
