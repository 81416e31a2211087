// Runs that go on from a finished adapter.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "adapt/rank_allocator.h"
#include "deltaw/error.h"
#include "support/model_calls.h"
#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::tiny_options;

struct Way {
  std::string name;  // a method's or a short one
  Json options = Json::object();
};

class Continue : public testing::TestWithParam<Way> {
 protected:
  static AdapterConfig config() {
    Json values = GetParam().options;
    values["method"] = GetParam().name;
    return adapter_config_from_json(values, "test");
  }
  static std::vector<CalibrationBatch> calibration(int64_t /*samples*/) {
    const Tensor ids = at::arange(5, 29, at::kLong).view({4, 6});
    return {test::calibration_batch({.input_ids = ids, .attention_mask = at::ones_like(ids)},
                                    at::tensor({0, 1, 2, 0}, at::kLong))};
  }
  void train(Adapter& adapter, int64_t steps, double rate) const {
    const test::TemporaryFolder run;
    TrainOptions options = tiny_options(run.path());
    options.max_steps = steps;
    options.learning_rate = rate;
    const auto task = task_of(*model);
    Trainer trainer(*model, adapter, *task, options);
    trainer.set_data(test::invented_source(22, 1), test::invented_source(9, 2), true);
    trainer.set_metrics({"accuracy"});
    trainer.train();
  }
  fs::path saved(const Adapter& adapter, const std::string& name) const {
    fs::create_directories(folder / name);
    adapter.save(folder / name);
    return folder / name;
  }
  static std::string bytes(const fs::path& at) {
    return read_file(at / "adapter_config.json") + read_file(at / "adapter_model.safetensors");
  }

  std::unique_ptr<Model> model = test::tiny_model();
  test::TemporaryFolder folder;
};

TEST_P(Continue, StartsWithTheSavedTensorsAndMovesThem) {
  Adapter first = Adapter::create(*model, config(), 7, calibration);
  train(first, 6, 5e-3);
  const fs::path a = saved(first, "a");
  {
    const Json options = config().method == "sora" ? Json{{"sparse_lambda_2", 0}} : Json::object();  // it prunes anyway
    Adapter still = Adapter::load(*model, a, {.trainable = true, .options = options});
    if (has_lost_components(still) || !still.method().rank_budget()) {
      train(still, 3, 0);
      const fs::path b = saved(still, "b");
      EXPECT_EQ(read_file(b / "adapter_model.safetensors"), read_file(a / "adapter_model.safetensors"));
      if (options.empty()) {
        EXPECT_EQ(read_file(b / "adapter_config.json"), read_file(a / "adapter_config.json"));
      }
    }
  }
  Adapter more = Adapter::load(*model, a, {.trainable = true});
  const std::vector<Tensor> before = test::copies(more);
  const bool pruned = has_lost_components(more);
  train(more, 10, 5e-3);
  const std::vector<NamedTensor> after = more.trained();
  size_t moved = 0;
  for (size_t i = 0; i < after.size(); ++i) {
    moved += !after[i].value.equal(before[i]);
    EXPECT_TRUE(pruned || !after[i].value.equal(before[i])) << after[i].name;
  }
  EXPECT_GE(moved, after.size() / 2) << "layers whose components are all gone stay";
  const fs::path c = saved(more, "c");
  const Adapter read = Adapter::load(*model, c);
  EXPECT_EQ(bytes(saved(read, "d")), bytes(c)) << "what was saved can be read";
}

std::vector<Way> ways() {
  std::vector<Way> all;
  for (const MethodSpec* spec : method_table()) {
    Json options = Json::object();
    if (spec->id == "randlora" || spec->id == "lora") options["r"] = 4;
    if (spec->id == "adalora" || spec->id == "lora2") options = {{"target_r", 2}, {"tfinal", 1}};
    if (spec->id == "sora") options = {{"sparse_lambda_2", 0.02}};
    all.push_back({spec->id, options});
    for (const Preset& preset : spec->presets) all.push_back({preset.id, {{"r", 4}}});
  }
  all.push_back({"moslora", {{"target_r", 3}, {"tfinal", 1}}});
  all.push_back({"randlora", {{"r", 4}, {"target_r", 2}, {"tfinal", 1}}});
  all.push_back({"sora", {{"target_r", 3}, {"tfinal", 1}, {"sparse_lambda_2", 0}}});
  all.push_back({"lora", {{"init_lora_weights", "pissa_niter_4"}, {"r", 4}}});
  return all;
}

INSTANTIATE_TEST_SUITE_P(, Continue, testing::ValuesIn(ways()),
                         [](const auto& info) { return info.param.name + "_" + std::to_string(info.index); });

// Components that die in the second run are counted among those that the first began with.
TEST(ContinueSora, KeepsCountOfWhatEachRunLost) {
  const auto model = test::tiny_model();
  const test::TemporaryFolder folder;
  Adapter adapter = Adapter::create(*model, test::adapter_config("sora", {{"r", 4}, {"sparse_lambda_2", 0}}), 1);
  const auto kill = [](const Adapter& of, size_t layer, std::vector<int64_t> dead) {
    const at::NoGradGuard no_grad;
    Tensor gate = of.layers()[layer]->params["gate"];
    for (const int64_t i : dead) gate.select(1, i).zero_();
  };
  kill(adapter, 0, {1});
  kill(adapter, 1, {0, 3});
  adapter.save(folder.path());
  Adapter more = Adapter::load(*model, folder.path(), {.trainable = true});
  kill(more, 0, {1});  // the third of four
  more.save(folder.path());
  const Json kept = read_json(folder / "adapter_config.json").at("kept_components");
  const auto flags = [&](size_t layer) { return kept.at(more.layers()[layer]->info.name + ".gate"); };
  EXPECT_EQ(flags(0), Json({true, false, false, true}));
  EXPECT_EQ(flags(1), Json({false, true, true, false}));
  EXPECT_NO_THROW(Adapter::load(*model, folder.path()));
}

class ContinueBudget : public testing::Test {
 protected:
  std::unique_ptr<Model> model = test::tiny_model();
  test::TemporaryFolder folder;
};

TEST_F(ContinueBudget, ThatHasNotPrunedCountsTheStepsThatCome) {
  Adapter adapter =
      Adapter::create(*model, test::adapter_config("adalora", {{"target_r", 4}, {"total_step", 1000}}), 1);
  adapter.save(folder.path());
  const auto steps = [&](const Adapter::LoadOptions& options) {
    return make_rank_allocator(Adapter::load(*model, folder.path(), options), 50)->total_steps();
  };
  EXPECT_EQ(steps({.trainable = true}), 50);
  EXPECT_EQ(steps({.trainable = true, .options = {{"total_step", 80}}}), 80);
  EXPECT_EQ(steps({}), 1000);
}

TEST_F(ContinueBudget, TakesOptionsThatOnlyTrainingLooksAt) {
  Adapter::create(*model, test::lora_config(), 1).save(folder.path());
  const Adapter::LoadOptions dropout{.trainable = true, .options = {{"lora_dropout", 0.25}}};
  EXPECT_EQ(Adapter::load(*model, folder.path(), dropout).method().dropout(), 0.25);
  const Adapter::LoadOptions alpha{.trainable = true, .options = {{"lora_alpha", 3}}};
  const Error error = test::error_of([&] { Adapter::load(*model, folder.path(), alpha); });
  EXPECT_EQ(error.id(), "config.unsupported");
  EXPECT_NE(error.parts().what.find("lora_alpha"), std::string::npos);
}

}  // namespace
}  // namespace deltaw
