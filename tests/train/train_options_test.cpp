// That every option of the trainer arrives where it acts: in the calls of the model, in the log, in when a run ends.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "ops/linear/linear.h"
#include "support/temporary.h"
#include "train/named_tensors.h"
#include "train/run_state.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::lora_config;
using test::tiny_options;
using test::TinyRun;

/// One pass as the model saw it.
struct Pass {
  Call call;
  std::vector<std::vector<int64_t>> rows;  // without padding
};

/// One linear layer over a vector for each token.
class SeeingModel final : public Model {
 public:
  SeeingModel() {
    dtype_ = at::kDouble;
    labels_ = {"LABEL_0"};
    regression_ = true;
    config_ = {{"model_type", "bert"}, {"problem_type", "regression"}};
    folder_ = "seeing";
    Linear& layer = linears_.emplace_back();
    layer.name = "layer.0.key";
    layer.index = 0;
    layer.weight = {.name = layer.name + ".weight", .value = drawn({6, 5}, 1), .slot = 0};
    layer.bias = {.name = layer.name + ".bias", .value = drawn({6}, 2), .slot = 1};
    layer.view = std::make_unique<BaseView>(layer.matrix());
    layers_ = {&layer};
    parameters_ = {&layer.weight, &layer.bias};
    modules_ = {layer.name};
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    Pass pass{call, {}};
    for (int64_t i = 0; i < input.input_ids.size(0); ++i) {
      const Tensor own = input.input_ids[i].masked_select(input.attention_mask[i].gt(0));
      pass.rows.emplace_back(own.data_ptr<int64_t>(), own.data_ptr<int64_t>() + own.numel());
    }
    passes.push_back(std::move(pass));
    const Tensor x = at::embedding(drawn({kTokens, 5}, 3), input.input_ids);
    return ops::linear(x, linears_[0], call).mean(1);
  }

  Tensor logits(const Tensor& features, Call& /*call*/) const override { return features.sum(1, /*keepdim=*/true); }

  static constexpr int64_t kTokens = 64;
  mutable std::vector<Pass> passes;

 private:
  static Tensor drawn(at::IntArrayRef shape, uint64_t seed) {
    return at::empty(shape, at::kDouble).normal_(0, 0.5, at::make_generator<at::CPUGeneratorImpl>(seed));
  }
};

std::vector<EncodedRow> short_rows(int64_t count) {
  std::vector<EncodedRow> rows = test::invented_rows(count, 1);
  for (EncodedRow& row : rows) row.ids[0] = row.index;  // so that all rows are different
  return rows;
}

/// A run of 13 rows in batches of 2, three to a step, two epochs.
std::vector<Pass> passes_of(TrainOptions options, bool group_by_length) {
  const test::TemporaryFolder folder;
  options.output_dir = folder.path().string();
  options.per_device_train_batch_size = 2;
  options.gradient_accumulation_steps = 3;
  options.num_train_epochs = 2;
  const SeeingModel model;
  AdapterConfig config = lora_config();
  config.target_modules = Json::array({"key"});
  Adapter adapter = Adapter::create(model, config, 7);
  const auto task = task_of(model);
  Trainer trainer(model, adapter, *task, options);
  trainer.set_data(test::source_of(short_rows(13)), nullptr, group_by_length);
  trainer.train();
  for (const Pass& pass : model.passes) EXPECT_EQ(pass.call.adapter, &adapter);
  return model.passes;
}

TEST(TrainerOptions, AreInEveryCallOfTheModel) {
  TrainOptions options;
  options.seed = 17;
  for (const bool again : {false, true}) {
    options.gradient_checkpointing = again;
    const std::vector<Pass> passes = passes_of(options, false);
    ASSERT_EQ(passes.size(), 14u);  // seven batches an epoch
    const std::vector<std::pair<int64_t, int64_t>> expected = {{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0},
                                                               {3, 0}, {3, 1}, {3, 2}, {4, 0}, {4, 1}, {4, 2}, {5, 0}};
    for (size_t i = 0; i < passes.size(); ++i) {
      const Call& call = passes[i].call;
      EXPECT_TRUE(call.training);
      EXPECT_EQ(call.seed, 17u);
      EXPECT_EQ(std::pair(call.step, call.micro_step), expected[i]) << i;
      EXPECT_EQ(call.recompute, again);
      EXPECT_EQ(call.draws, 0);
    }
  }
}

TEST(TrainerOptions, DecideTheOrderOfTheRows) {
  const std::vector<EncodedRow> rows = short_rows(13);
  TrainOptions options;
  options.seed = 17;
  for (const int64_t data_seed : {int64_t{-1}, int64_t{3}}) {
    for (const bool grouped : {false, true}) {
      options.data_seed = data_seed;
      const std::vector<Pass> passes = passes_of(options, grouped);
      std::vector<std::vector<int64_t>> epochs[2];
      for (int64_t epoch = 0; epoch < 2; ++epoch) {
        const auto batches =
            plan_batches(row_lengths(rows), 2, static_cast<uint64_t>(data_seed < 0 ? 17 : data_seed), epoch, grouped);
        ASSERT_EQ(batches.size(), 7u);
        for (size_t i = 0; i < batches.size(); ++i) {
          const Pass& pass = passes.at(static_cast<size_t>(epoch) * 7 + i);
          std::vector<std::vector<int64_t>> expected;
          for (const int64_t row : batches[i]) expected.push_back(rows[static_cast<size_t>(row)].ids);
          EXPECT_EQ(pass.rows, expected);
          epochs[epoch].insert(epochs[epoch].end(), pass.rows.begin(), pass.rows.end());
        }
      }
      EXPECT_NE(epochs[0], epochs[1]) << "both epochs have one order";
      std::sort(epochs[0].begin(), epochs[0].end());
      std::sort(epochs[1].begin(), epochs[1].end());
      EXPECT_EQ(epochs[0], epochs[1]) << "an epoch has every row once";
    }
  }
}

TEST(TrainerOptions, EvaluateOnStartBeforeTheFirstStep) {
  const test::TemporaryFolder folder;
  for (const bool on_start : {true, false}) {
    TrainOptions options = tiny_options(folder / (on_start ? "with" : "without"));
    options.eval_on_start = on_start;
    TinyRun run(lora_config(), options);
    std::vector<TrainEvent> events;
    run.trainer.on_event([&](const TrainEvent& event) { events.push_back(event); });
    const Json before = run.trainer.evaluate();
    run.trainer.train();
    const Json first = read_json(fs::path(options.output_dir) / "trainer_state.json").at("log_history").at(0);
    EXPECT_EQ(events[0].kind, on_start ? TrainEvent::Kind::eval : TrainEvent::Kind::step);
    if (!on_start) continue;
    EXPECT_EQ(events[0].step, 0);
    EXPECT_EQ(events[0].epoch, 0.0);
    EXPECT_EQ(events[0].values.at("eval_loss"), before.at("eval_loss"));
    EXPECT_EQ(first.at("eval_loss"), before.at("eval_loss"));
    EXPECT_EQ(first.at("step"), 0);
  }
}

TEST(TrainerOptions, CountEpochsInParts) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder.path());
  options.num_train_epochs = 1.5;  // nine steps of six an epoch
  TinyRun run(lora_config(), options);
  run.trainer.on_event([](const TrainEvent& event) {
    EXPECT_DOUBLE_EQ(event.epoch, static_cast<double>(event.step) / 6);
    EXPECT_EQ(event.max_steps, 9);
    if (event.kind != TrainEvent::Kind::log) return;
    EXPECT_DOUBLE_EQ(event.values.at("epoch").get<double>(), event.epoch);
  });
  EXPECT_EQ(run.trainer.train().steps, 9);
  const Json state = read_json(folder / "trainer_state.json");
  EXPECT_DOUBLE_EQ(state.at("epoch").get<double>(), 1.5);
  EXPECT_DOUBLE_EQ(state.at("log_history").at(0).at("epoch").get<double>(), 4 / 6.0);
}

TEST(TrainerOptions, StopEarlyWhereTheGainIsBelowTheThreshold) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder / "none");
  options.eval_strategy = "steps";
  options.eval_steps = 2;
  options.early_stopping_patience = 2;
  options.metric_for_best_model = "loss";
  TinyRun run(lora_config(), options);
  EXPECT_GT(run.trainer.train().steps, 6) << "the loss falls";
  options.early_stopping_threshold = 10;  // it never falls so far
  options.output_dir = (folder / "high").string();
  TinyRun stopped(lora_config(), options);
  const TrainResult result = stopped.trainer.train();
  EXPECT_EQ(result.steps, 6) << "the first evaluation is the best, two more gain too little";
  EXPECT_TRUE(result.stopped_early);
}

TEST(TrainerOptions, SayWhichMetricIsBetter) {
  const test::TemporaryFolder folder;
  struct Choice {
    std::string metric;
    bool greater, keeps_greatest;
  };
  for (const auto& [metric, greater, keeps_greatest] :
       std::vector<Choice>{{"accuracy", true, true}, {"accuracy", false, false}, {"loss", true, false}}) {
    TrainOptions options = tiny_options(folder / (metric + (greater ? "-greater" : "-smaller")));
    options.eval_strategy = "steps";
    options.eval_steps = 1;
    options.learning_rate = 3e-2;
    options.metric_for_best_model = metric;
    options.greater_is_better = greater;
    TinyRun run(lora_config(), options);
    run.trainer.train();
    const Json state = read_json(fs::path(options.output_dir) / "trainer_state.json");
    std::vector<double> values;
    for (const Json& entry : state.at("log_history")) {
      if (entry.contains("eval_" + metric)) values.push_back(entry["eval_" + metric].get<double>());
    }
    ASSERT_EQ(values.size(), 12u);
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    ASSERT_LT(*least, *most);
    EXPECT_EQ(state.at("best_metric").get<double>(), keeps_greatest ? *most : *least) << metric << " " << greater;
    const auto best = std::find(values.begin(), values.end(), keeps_greatest ? *most : *least);
    EXPECT_EQ(state.at("best_global_step"), best - values.begin() + 1);
  }
}

// From no number nothing gains: it would stay the best for good.
TEST(TrainerOptions, TakeNothingThatIsNoNumberForTheBest) {
  train::RunState state;
  const auto noted = [&](double value) {
    ++state.step;
    return train::note_metric(state, {}, value, /*greater_is_better=*/false);
  };
  EXPECT_FALSE(noted(std::nan("")));
  EXPECT_FALSE(state.best_metric);
  EXPECT_TRUE(noted(0.5));
  EXPECT_FALSE(noted(std::nan("")));
  EXPECT_EQ(state.best_metric, 0.5);
  EXPECT_EQ(state.best_step, 2);
}

// A start from data sees the rows that training begins with.
TEST(CalibrationBatches, AreTheFirstOfTraining) {
  const std::vector<EncodedRow> rows = short_rows(13);
  const auto source = test::source_of(rows);
  for (const uint64_t seed : {5, 6}) {
    const SeeingModel model;
    const auto task = task_of(model);
    const std::vector<CalibrationBatch> batches = calibration_batches(*task, *source, 2, seed, 7);
    const auto planned = plan_batches(row_lengths(rows), 2, seed, /*epoch=*/0, /*group_by_length=*/false);
    ASSERT_EQ(batches.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      Call call;
      batches[i].loss(model, call);
      const std::vector<std::vector<int64_t>>& seen = model.passes.at(i).rows;
      ASSERT_EQ(static_cast<int64_t>(seen.size()), batches[i].rows);
      ASSERT_EQ(seen.size(), i < 3 ? 2u : 1u) << "seven rows in all";
      for (size_t j = 0; j < seen.size(); ++j) EXPECT_EQ(seen[j], rows[static_cast<size_t>(planned[i][j])].ids) << seed;
    }
  }
}

struct Killed {};

TEST(TrainerOptions, FindTheBestCheckpointInAFolderThatWasMoved) {
  const test::TemporaryFolder folder;
  TrainOptions options = tiny_options(folder / "before");
  options.eval_strategy = options.save_strategy = "steps";
  options.eval_steps = options.save_steps = 1;
  options.max_steps = 9;
  options.metric_for_best_model = "loss";
  options.load_best_model_at_end = true;
  const auto spoil = [](TinyRun& run, int64_t killed_at) {
    run.trainer.on_event([&run, killed_at](const TrainEvent& event) {
      const at::NoGradGuard no_grad;
      if (event.kind == TrainEvent::Kind::save && event.step == killed_at) throw Killed{};
      if (event.kind != TrainEvent::Kind::step || event.step <= 4) return;
      for (const NamedTensor& tensor : run.adapter.trained()) Tensor(tensor.value).mul_(-3).add_(1);
    });
  };
  TinyRun run(lora_config(), options);
  spoil(run, 9);  // the last step: what is found now is not written again
  EXPECT_THROW(run.trainer.train(), Killed);
  fs::rename(folder / "before", folder / "after");

  options.output_dir = (folder / "after").string();
  options.resume_from_checkpoint = "true";
  TinyRun resumed(lora_config(), options);
  const TrainResult result = resumed.trainer.train();
  const Json state = read_json(folder / "after" / "trainer_state.json");
  const int64_t best = state.at("best_global_step").get<int64_t>();
  ASSERT_LE(best, 4);
  const fs::path kept = folder / "after" / ("checkpoint-" + std::to_string(best));
  EXPECT_EQ(state.at("best_model_checkpoint"), kept.string());
  EXPECT_EQ(result.eval_metrics.at("eval_loss"), state.at("best_metric"));
  const auto stored = train::read_tensors(kept / "optimizer.safetensors");
  for (const NamedTensor& tensor : resumed.adapter.trained()) {
    EXPECT_TRUE(at::equal(tensor.value, stored.at("param." + tensor.name))) << tensor.name;
  }
}

}  // namespace
}  // namespace deltaw
