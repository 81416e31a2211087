#include "tasks/common/batch_stream.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/cores.h"
#include "deltaw/error.h"
#include "deltaw/task.h"
#include "support/compared.h"
#include "support/slow_rows.h"
#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

using tasks::BatchStream;
using tasks::one_by_one;
using test::LateRows;

constexpr int64_t kRows = 40;

std::vector<std::vector<int64_t>> two_by_two() {
  std::vector<std::vector<int64_t>> batches;
  for (int64_t row = 0; row < kRows; row += 2) batches.push_back({row + 1, row});
  return batches;
}

std::vector<Batch> all_of(BatchStream& stream) {
  std::vector<Batch> batches;
  while (std::optional<Batch> batch = stream.next()) batches.push_back(std::move(*batch));
  return batches;
}

void expect_equal(const std::vector<Batch>& actual, const std::vector<Batch>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].positions, expected[i].positions);
    EXPECT_EQ(actual[i].costs, expected[i].costs);
    for (const auto& [name, tensor] : expected[i].tensors) {
      EXPECT_TRUE(actual[i][name].equal(tensor)) << "batch " << i << ", " << name;
    }
  }
}

/// Until the workers have nothing to do.
void wait_until_made(const LateRows& rows, int64_t count) {
  for (int i = 0; i < 20'000 && rows.made() < count; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

TEST(BatchStream, GivesTheBatchesOfThePlanInItsOrderHoweverManyMakeThem) {
  const auto source = test::invented_source(kRows, 3);
  std::vector<Batch> expected;
  for (const std::vector<int64_t>& positions : two_by_two()) expected.push_back(source->collate(positions, {}));
  for (const int64_t workers : {0, 1, 3}) {
    const LateRows rows(*source, workers);
    BatchStream stream(rows, one_by_one(two_by_two(), {.seed = 4, .epoch = 3, .step = 2, .micro_step = 1}));
    const std::vector<Batch> batches = all_of(stream);
    expect_equal(batches, expected);
    for (const Batch& batch : batches) EXPECT_TRUE(batch["key"].equal(at::tensor({4, 3, 2, 1}).view({1, 4})));
    EXPECT_FALSE(stream.next()) << "nothing comes after the last";
    EXPECT_LE(rows.threads().size(), static_cast<size_t>(workers + 1)) << "who asks makes batches too, while it waits";
    EXPECT_EQ(rows.threads().size() > 1, workers > 0);
  }
}

TEST(BatchStream, MakesNoThreadsForRowsThatAreQuicklyMade) {
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
  };
  const auto source = test::invented_source(kRows, 3);
  const auto before = threads();
  BatchStream stream(*source, one_by_one(two_by_two()));
  EXPECT_TRUE(stream.next());
  EXPECT_EQ(threads(), before);
}

TEST(BatchStream, HoldsNoMoreBatchesThanItWasGivenRoomFor) {
  struct Case {
    int64_t workers, prefetch_factor, at_once, ahead;
  };
  for (const auto& [workers, factor, at_once, ahead] : std::vector<Case>{{1, 1, 1, 1}, {2, 3, 1, 6}, {3, 1, 5, 5}}) {
    const LateRows rows(*test::invented_source(kRows, 3), workers, factor);
    BatchStream stream(rows, one_by_one(two_by_two()), at_once);
    for (int64_t asked = 1; asked < 6; ++asked) {
      const std::optional<Batch> batch = stream.next();
      wait_until_made(rows, ahead + asked);
      EXPECT_EQ(rows.made(), ahead + asked) << "what is ahead is made while nobody asks, and no more";
    }
    EXPECT_LE(rows.most_alive(), ahead + 1) << "the one that is looked at";
  }
}

TEST(BatchStream, ThrowsWhatABatchThrewInItsPlaceAndOnce) {
  for (const int64_t workers : {0, 1, 3}) {
    LateRows rows(*test::invented_source(kRows, 3), workers);
    rows.while_made = [](const std::vector<int64_t>& positions) {
      if (positions.front() != 7) return;
      throw Error({.id = "data.image", .what = "the image cannot be read", .where = "cat.jpg", .fix = "remove it"});
    };
    BatchStream stream(rows, one_by_one(two_by_two()));
    for (int64_t first = 1; first < 7; first += 2) EXPECT_EQ(stream.next().value().positions.front(), first);
    EXPECT_EQ(test::error_of([&] { stream.next(); }).parts().where, "cat.jpg");
    EXPECT_EQ(stream.next().value().positions.front(), 9);
    EXPECT_EQ(all_of(stream).size(), 15u);
  }
}

TEST(BatchStream, EndsInTheMiddleWithoutMakingWhatNobodyWants) {
  for (const int64_t workers : {1, 3}) {
    LateRows rows(*test::invented_source(kRows, 3), workers, /*prefetch_factor=*/500);
    rows.delay = 4;
    const std::vector<std::vector<int64_t>> many(2000, {0, 1});
    { BatchStream never_asked(rows, one_by_one(many)); }
    EXPECT_EQ(rows.made(), 0);
    {
      BatchStream stream(rows, one_by_one(many));
      EXPECT_TRUE(stream.next());
    }
    EXPECT_LT(rows.made(), 500);
    EXPECT_EQ(rows.alive(), 0);
  }
}

TEST(BatchStream, LeavesTheMiddleWhereAnExceptionPasses) {
  LateRows rows(*test::invented_source(kRows, 3), 2);
  EXPECT_THROW(
      {
        BatchStream stream(rows, one_by_one(two_by_two()));
        stream.next();
        throw std::runtime_error("out of patience");
      },
      std::runtime_error);
  EXPECT_EQ(rows.alive(), 0);
}

// Else each worker would make a pool of threads of its own.
TEST(BatchStream, ComputesOnOneCoreInAWorkerAndInTheModesOfWhoAsks) {
  LateRows rows(*test::invented_source(kRows, 3), 2);
  const std::thread::id asking = std::this_thread::get_id();
  std::mutex mutex;
  std::set<std::thread::id> workers, computing;
  std::vector<bool> records;
  rows.while_made = [&](const std::vector<int64_t>&) {
    const std::thread::id worker = std::this_thread::get_id();
    if (worker == asking) return;
    at::ones({1 << 20}).exp();
    EXPECT_EQ(at::get_num_threads(), 1);
    at::parallel_for(0, 64, 1, [&](int64_t, int64_t) {
      const std::lock_guard lock(mutex);
      computing.insert(std::this_thread::get_id());
    });
    const std::lock_guard lock(mutex);
    workers.insert(worker);
    records.push_back(at::GradMode::is_enabled());
  };
  const int threads = test::in_threads(3, [&] {
    const at::NoGradGuard no_grad;
    BatchStream stream(rows, one_by_one(two_by_two()));
    while (stream.next()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return at::get_num_threads();
  });
  EXPECT_EQ(threads, 3) << "of the thread that asks";
  EXPECT_FALSE(workers.empty());
  EXPECT_EQ(computing, workers);
  EXPECT_EQ(std::count(records.begin(), records.end(), true), 0);
}

TEST(BatchStream, FeedsScoresAndStartsFromDataTheSameBatches) {
  const auto model = test::tiny_model();
  const auto task = task_of(*model);
  const auto source = test::invented_source(kRows, 3);
  const auto scores = [&](const RowSource& rows) {
    const auto scorer = task->scorer(*model, nullptr, rows, {"accuracy"});
    score(*task, *model, nullptr, rows, 3, *scorer);
    return scorer->metrics();
  };
  const auto losses = [&](const RowSource& rows) {
    std::vector<double> values;
    for (const CalibrationBatch& batch : calibration_batches(*task, rows, 3, /*seed=*/5, /*samples=*/8)) {
      Call call;
      values.push_back(batch.loss(*model, call).item<double>());
      values.push_back(static_cast<double>(batch.rows));
    }
    return values;
  };
  const LateRows late(*source, 3);
  EXPECT_EQ(scores(late), scores(*source));
  EXPECT_EQ(losses(late), losses(*source));
  EXPECT_EQ(losses(late).back(), 2) << "eight rows are three, three and two";
  EXPECT_GT(late.threads().size(), 1u);
}

TEST(LoaderOptions, TakeHalfOfTheCoresWhereNobodySays) {
  LoaderOptions loader;
  const int64_t half = usable_cores() / 2;
  EXPECT_EQ(loader.workers(), half < 1 ? 1 : half > 4 ? 4 : half);
  read_fields(fields_of(loader), {{"dataloader_num_workers", 0}, {"dataloader_prefetch_factor", "3"}}, "a file");
  EXPECT_EQ(loader.workers(), 0);
  EXPECT_EQ(loader.dataloader_prefetch_factor, 3);
  for (const Json& wrong : {Json{{"dataloader_num_workers", -2}}, Json{{"dataloader_prefetch_factor", 0}}}) {
    EXPECT_EQ(test::error_of([&] { read_fields(fields_of(loader), wrong, "a file"); }).id(), "config.out-of-range");
  }
}

}  // namespace
}  // namespace deltaw
