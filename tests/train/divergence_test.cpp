// Runs that end far above where they began, and those that do not.
#include "train/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

using train::LossTrace;

/// What a run of these losses on `classes` classes comes to.
TrainResult result_of(const std::vector<double>& losses, double classes = 2) {
  LossTrace trace;
  for (const double loss : losses) trace.add(loss);
  TrainResult result;
  result.first_loss = trace.first.value_or(0);
  result.last_loss = trace.end(static_cast<int64_t>(losses.size())).value_or(result.first_loss);
  result.chance_loss = std::log(classes);
  return result;
}

bool diverged(const std::vector<double>& losses, double classes = 2, const Json& metrics = Json::object()) {
  return has_diverged(result_of(losses, classes), metrics);
}

TEST(LossTrace, EndsWithTheMedianOfTheLastSteps) {
  LossTrace trace;
  EXPECT_EQ(trace.end(0), std::nullopt);
  trace.add(7);
  EXPECT_EQ(trace.first, 7);
  EXPECT_EQ(trace.end(1), std::nullopt);
  trace.add(3);
  EXPECT_EQ(trace.end(2), 3);
  for (const double loss : {5., 1., 2.}) trace.add(loss);
  EXPECT_EQ(trace.end(5), 2) << "of half the steps";
  for (int i = 0; i < 100; ++i) trace.add(i == 97 ? 1e9 : 4);
  EXPECT_EQ(trace.first, 7);
  EXPECT_EQ(trace.end(105), 4);
  EXPECT_EQ(trace.last.size(), 8u);
}

TEST(HasDiverged, SeesARunThatEndsFarAboveItsBeginning) {
  EXPECT_TRUE(diverged({0.7, 6e5}));
  EXPECT_TRUE(diverged({0.7, 0.5, 9, 1e30}));
  EXPECT_TRUE(diverged({0.7, 0.6, 0.5, 40, 60, 80, 70, 90, 60, 50}));
  EXPECT_TRUE(diverged({2.5, 30, 40, 50}, 512));
}

TEST(HasDiverged, LeavesNoiseAndRecoveryAlone) {
  EXPECT_FALSE(diverged({}));
  EXPECT_FALSE(diverged({1e30}));
  EXPECT_FALSE(diverged({0.7, 0.6}));
  EXPECT_FALSE(diverged({1e-6, 1.9})) << "a run that began with rows it knew";
  EXPECT_FALSE(diverged({60, 100, 90, 110})) << "a head that began far off";
  EXPECT_FALSE(diverged({0.7, 1e4, 1e4, 1e4, 0.6, 0.7, 0.6, 0.5, 0.6, 0.7, 0.6, 0.6}));
  std::mt19937_64 engine(3);
  std::exponential_distribution<double> noise(1);  // single rows, some of them hard
  for (int run = 0; run < 2000; ++run) {
    std::vector<double> losses;
    for (int step = 0; step < 30; ++step) losses.push_back(0.6 * noise(engine));
    ASSERT_FALSE(diverged(losses)) << "run " << run;
  }
}

TEST(HasDiverged, LooksAtTheEvaluationToo) {
  EXPECT_TRUE(diverged({0.7}, 2, {{"eval_loss", 5000.0}}));
  EXPECT_FALSE(diverged({0.7, 0.01}, 2, {{"eval_loss", 3.5}})) << "learnt by heart";
  EXPECT_FALSE(diverged({0.7, 0.01}, 2, {{"eval_loss", nullptr}}));
}

TEST(ChanceLoss, IsThatOfGuessing) {
  const auto model = test::tiny_model();
  const auto loss = [](const Model& of, std::vector<EncodedRow> rows) {
    return task_of(of)->chance_loss(of, *test::source_of(std::move(rows)));
  };
  EXPECT_DOUBLE_EQ(loss(*model, {}), std::log(3));
  const auto scores = load_model(test::fixture("golden/models/bert_reg").string(), {.dtype = "float32"});
  EXPECT_DOUBLE_EQ(loss(*scores, {{.label = 1}, {.label = -3}}), 5);
  const auto words = load_model(test::fixture("golden/models/gpt2").string(), {.dtype = "float32"});
  EXPECT_DOUBLE_EQ(loss(*words, {}), std::log(static_cast<double>(words->vocab_size())));
}

TrainResult trained(double rate, const std::filesystem::path& folder, const std::string& resume = "") {
  TrainOptions options = test::tiny_options(folder);
  options.learning_rate = rate;
  options.save_strategy = "steps";
  options.save_steps = 5;
  options.resume_from_checkpoint = resume;
  test::TinyRun run(test::lora_config(), options);
  return run.trainer.train();
}

TEST(Trainer, TellsWhetherItDiverged) {
  const test::TemporaryFolder good, bad;
  EXPECT_FALSE(has_diverged(trained(5e-3, good.path()), Json::object()));
  const TrainResult result = trained(50, bad.path());
  EXPECT_TRUE(has_diverged(result, Json::object())) << result.first_loss << " to " << result.last_loss;
  EXPECT_DOUBLE_EQ(result.chance_loss, std::log(3));
  const TrainResult resumed = trained(50, bad.path(), (bad / "checkpoint-10").string());
  EXPECT_EQ(resumed.first_loss, result.first_loss);
  EXPECT_EQ(resumed.last_loss, result.last_loss);
}

}  // namespace
}  // namespace deltaw
