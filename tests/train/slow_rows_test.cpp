// Training on rows whose batches are made by threads, ahead of time.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/error.h"
#include "examples/custom_task/contrastive.h"
#include "support/slow_rows.h"
#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

using test::LateRows;
using Draws = std::vector<std::vector<int64_t>>;

constexpr int64_t kNoThreads = -1;  // the rows themselves

struct Outcome {
  std::vector<Tensor> tensors;
  std::vector<double> losses;
  Json metrics;
  Draws draws;
};

std::shared_ptr<const RowSource> late(const std::shared_ptr<const TextRows>& rows, int64_t workers) {
  if (workers == kNoThreads) return rows;
  return std::make_shared<const LateRows>(*rows, workers);
}

/// 22 rows by 4 in steps of so many batches, for two epochs with an evaluation after each.
Outcome outcome_of(int64_t workers, int64_t accumulated, int64_t stopped_after = -1) {
  const test::TemporaryFolder folder;
  TrainOptions options = test::tiny_options(folder.path());
  options.gradient_accumulation_steps = accumulated;
  options.eval_strategy = "epoch";
  options.seed = 11;
  Outcome outcome;
  const auto train = [&] {
    test::TinyRun run(test::lora_config(), options);
    const auto rows = late(test::invented_source(22, 1), workers);
    run.trainer.set_data(rows, late(test::invented_source(9, 2), workers), true);
    run.trainer.on_event([&](const TrainEvent& event) {
      if (event.kind == TrainEvent::Kind::step) outcome.losses.push_back(event.values.at("loss"));
    });
    run.trainer.stop_when([&] { return static_cast<int64_t>(outcome.losses.size()) == stopped_after ? 2 : 0; });
    outcome.metrics = run.trainer.train().eval_metrics;
    outcome.tensors = test::copies(run.adapter);
    if (const auto* slow = dynamic_cast<const LateRows*>(rows.get())) outcome.draws = slow->draws();
  };
  train();
  if (stopped_after > 0) {
    options.resume_from_checkpoint = "true";
    train();
  }
  for (const char* key : {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}) {
    outcome.metrics.erase(key);
  }
  return outcome;
}

void expect_equal(const Outcome& actual, const Outcome& expected) {
  EXPECT_TRUE(test::equal(actual.tensors, expected.tensors));
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.metrics, expected.metrics);
}

TEST(SlowRows, TrainTheSameAdapterHoweverManyThreadsMakeTheirBatches) {
  for (const int64_t accumulated : {1, 4}) {
    const Outcome expected = outcome_of(kNoThreads, accumulated);
    for (const int64_t workers : {0, 1, 3}) expect_equal(outcome_of(workers, accumulated), expected);
  }
}

TEST(SlowRows, GoOnWhereARunWasStoppedWithBatchesMadeAhead) {
  const Outcome expected = outcome_of(kNoThreads, 2);
  for (const int64_t stopped_after : {1, 3, 4}) expect_equal(outcome_of(3, 2, stopped_after), expected);
}

TEST(SlowRows, AreDrawnByTheStepThatTakesThem) {
  Draws expected;  // six batches an epoch, by four: the second step of an epoch takes the two that are left
  for (int64_t step = 0; step < 4; ++step) {
    for (int64_t batch = 0; batch < (step % 2 == 0 ? 4 : 2); ++batch) expected.push_back({11, step / 2, step, batch});
  }
  for (const int64_t workers : {0, 3}) EXPECT_EQ(outcome_of(workers, 4).draws, expected) << workers << " threads";
}

/// Two texts a row, as the example makes them.
class Pairs : public RowSource {
 public:
  explicit Pairs(std::shared_ptr<const PairRows> rows) : rows_(std::move(rows)) {}
  int64_t size() const override { return rows_->size(); }
  int64_t cost(int64_t row) const override { return rows_->cost(row); }
  std::string fingerprint() const override { return rows_->fingerprint(); }
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    return rows_->collate(positions, draw);
  }

 private:
  std::shared_ptr<const PairRows> rows_;
};

class AnyPairs final : public Contrastive {
 public:
  void check(const Model&, const Adapter*, const RowSource&, const std::string&) const override {}
};

TEST(SlowRows, MayBeComparedWithEachOther) {
  const auto model = test::tiny_model();
  std::vector<EncodedRow> first = test::invented_rows(16, 1), second = test::invented_rows(16, 2);
  for (std::vector<EncodedRow>* rows : {&first, &second}) {
    for (EncodedRow& row : *rows) row.type_ids.clear();
  }
  const Pairs pairs(std::make_shared<const PairRows>(std::move(first), std::move(second), 0));
  const auto trained_on = [&](const std::shared_ptr<const RowSource>& rows) {
    const test::TemporaryFolder folder;
    Adapter adapter = Adapter::create(*model, test::lora_config(), 7);
    TrainOptions options = test::tiny_options(folder.path());
    options.gradient_accumulation_steps = 3;
    const AnyPairs task;
    Trainer trainer(*model, adapter, task, options);
    trainer.set_data(rows);
    trainer.train();
    return test::copies(adapter);
  };
  EXPECT_TRUE(test::equal(trained_on(std::make_shared<const test::Late<Pairs>>(pairs, 2)),
                          trained_on(std::make_shared<const Pairs>(pairs))));
}

TEST(SlowRows, EndARunWithTheirOwnError) {
  for (const int64_t workers : {0, 2}) {
    const test::TemporaryFolder folder;
    test::TinyRun run(test::lora_config(), test::tiny_options(folder.path()));
    auto rows = std::make_shared<LateRows>(*test::invented_source(22, 1), workers);
    rows->while_made = [](const std::vector<int64_t>& positions) {
      if (std::count(positions.begin(), positions.end(), 5) == 0) return;
      throw Error({.id = "data.image", .what = "the image cannot be read", .where = "row 6", .fix = "remove it"});
    };
    run.trainer.set_data(rows);
    const Error error = test::error_of([&] { run.trainer.train(); });
    EXPECT_EQ(error.id(), "data.image");
    EXPECT_EQ(error.parts().where, "row 6");
  }
}

TEST(SlowRows, SayHowLongAStepWaitsForThem) {
  constexpr double kSeconds = 0.03;
  const test::TemporaryFolder folder;
  test::TinyRun run(test::lora_config(), test::tiny_options(folder.path()));
  auto rows = std::make_shared<LateRows>(*test::invented_source(22, 1), 0);
  rows->delay = static_cast<int64_t>(kSeconds * 1e3);
  run.trainer.set_data(rows);
  double waited = 0, all = 0;
  int64_t logs = 0;
  run.trainer.on_event([&](const TrainEvent& event) {
    if (event.kind == TrainEvent::Kind::step) {
      EXPECT_GE(event.values.at("data_wait_seconds").get<double>(), kSeconds);
      waited += event.values.at("data_wait_seconds").get<double>();
      for (const char* part : {"data_wait_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds"}) {
        all += event.values.at(part).get<double>();
      }
    }
    if (event.kind != TrainEvent::Kind::log) return;
    ++logs;
    EXPECT_NEAR(event.values.at("data_wait_share").get<double>(), waited / all, 0.02) << "of the steps since the last";
    waited = all = 0;
  });
  run.trainer.train();
  EXPECT_EQ(logs, 3);
}

}  // namespace
}  // namespace deltaw
