#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "data/shuffle.h"
#include "deltaw/data.h"

namespace deltaw {
namespace {

using Numbers = std::vector<int64_t>;

EncodedRow row(Numbers ids, Numbers type_ids, double label, int64_t index) {
  return {.ids = std::move(ids), .type_ids = std::move(type_ids), .label = label, .index = index};
}

Numbers lengths_for(int64_t rows) {
  std::mt19937_64 engine(7);
  Numbers lengths;
  for (int64_t i = 0; i < rows; ++i) lengths.push_back(4 + static_cast<int64_t>(data::draw_below(engine, 125)));
  return lengths;
}

// Share of the tokens of all batches that is padding.
double padding(const std::vector<Numbers>& batches, const Numbers& lengths) {
  int64_t tokens = 0;
  int64_t places = 0;
  for (const Numbers& batch : batches) {
    int64_t longest = 0;
    for (const int64_t i : batch) {
      tokens += lengths[static_cast<size_t>(i)];
      longest = std::max(longest, lengths[static_cast<size_t>(i)]);
    }
    places += longest * static_cast<int64_t>(batch.size());
  }
  return 1 - static_cast<double>(tokens) / static_cast<double>(places);
}

void expect_every_row_once(const std::vector<Numbers>& batches, int64_t rows, int64_t batch_size) {
  Numbers all;
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto size = static_cast<int64_t>(batches[i].size());
    const int64_t rest = rows % batch_size;
    EXPECT_EQ(size, i + 1 == batches.size() && rest != 0 ? rest : batch_size);
    all.insert(all.end(), batches[i].begin(), batches[i].end());
  }
  std::sort(all.begin(), all.end());
  Numbers expected(static_cast<size_t>(rows));
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

TEST(Collate, PadsOnTheRightToTheLongestRowOfTheBatch) {
  const std::vector<EncodedRow> rows = {row({5, 6, 7, 8, 9, 10}, {0, 0, 0, 0, 0, 0}, 0, 0), row({2, 3}, {0, 1}, 1, 1),
                                        row({4, 5, 6}, {0, 1, 1}, 2.5, 2)};
  const PaddedRows batch = pad_rows(rows, {2, 1}, 99, false);
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch.length, 3);
  EXPECT_EQ(batch.input_ids, (Numbers{4, 5, 6, 2, 3, 99}));
  EXPECT_EQ(batch.attention_mask, (Numbers{1, 1, 1, 1, 1, 0}));
  EXPECT_EQ(batch.token_type_ids, (Numbers{0, 1, 1, 0, 1, 0}));
  EXPECT_EQ(batch.labels, (std::vector<double>{2.5, 1}));
}

TEST(Collate, PadsOnTheLeftWhereTheTokenizerDoes) {
  const std::vector<EncodedRow> rows = {row({2, 3}, {1, 1}, 0, 0), row({4, 5, 6}, {0, 0, 0}, 0, 1)};
  const PaddedRows batch = pad_rows(rows, {0, 1}, 9, true);
  EXPECT_EQ(batch.input_ids, (Numbers{9, 2, 3, 4, 5, 6}));
  EXPECT_EQ(batch.attention_mask, (Numbers{0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(batch.token_type_ids, (Numbers{0, 1, 1, 0, 0, 0}));
}

TEST(RowLengths, CountsTokens) {
  EXPECT_EQ(row_lengths({row({1, 2}, {0, 0}, 0, 0), row({}, {}, 0, 1)}), (Numbers{2, 0}));
}

TEST(PlanBatches, HoldsEveryRowOnceAndOnlyTheLastBatchIsSmaller) {
  for (const bool grouped : {false, true}) {
    for (const int64_t rows : {1, 7, 8, 64, 3667}) {
      expect_every_row_once(plan_batches(lengths_for(rows), 8, 42, 0, grouped), rows, 8);
    }
    EXPECT_TRUE(plan_batches({}, 8, 42, 0, grouped).empty());
  }
}

TEST(PlanBatches, DependsOnSeedAndEpochAlone) {
  const Numbers lengths = lengths_for(200);
  for (const bool grouped : {false, true}) {
    const auto plan = plan_batches(lengths, 8, 42, 1, grouped);
    EXPECT_EQ(plan, plan_batches(lengths, 8, 42, 1, grouped));
    EXPECT_NE(plan, plan_batches(lengths, 8, 42, 2, grouped));
    EXPECT_NE(plan, plan_batches(lengths, 8, 43, 1, grouped));
    EXPECT_NE(plan, plan_batches(lengths, 8, 43, 0, grouped));
  }
}

TEST(PlanBatches, GroupsRowsOfSimilarLength) {
  const Numbers lengths = lengths_for(3667);
  EXPECT_LT(padding(plan_batches(lengths, 32, 42, 0, true), lengths), 0.05);
  EXPECT_GT(padding(plan_batches(lengths, 32, 42, 0, false), lengths), 0.40);
}

TEST(PlanBatches, MixesShortAndLongBatchesThroughTheEpoch) {
  const Numbers lengths = lengths_for(3200);
  const auto plan = plan_batches(lengths, 32, 42, 0, true);
  const auto longest = [&](const Numbers& batch) { return lengths[static_cast<size_t>(batch.front())]; };
  int descents = 0;
  for (size_t i = 1; i < plan.size(); ++i) descents += longest(plan[i]) < longest(plan[i - 1]) ? 1 : 0;
  EXPECT_NEAR(descents, 50, 15);  // of 99: nearly all where runs stay sorted, 50 +- 3 where they are shuffled
}

// The numbers are this plan's own: they change only when a run with a given seed would change.
TEST(PlanBatches, IsTheSamePlanOnEveryMachine) {
  const auto plan = plan_batches({1, 2, 3, 4, 5, 6, 7}, 3, 42, 0, false);
  EXPECT_EQ(plan, (std::vector<Numbers>{{0, 1, 3}, {2, 4, 5}, {6}}));
}

TEST(PlanEvaluation, GoesFromLongestToShortest) {
  EXPECT_EQ(plan_evaluation({3, 9, 5, 9, 1}, 2), (std::vector<Numbers>{{1, 3}, {2, 0}, {4}}));
}

TEST(DrawBelow, ReachesEveryNumberAboutEquallyOften) {
  std::mt19937_64 engine(1);
  std::vector<int> counts(10);
  for (int i = 0; i < 100000; ++i) ++counts.at(data::draw_below(engine, 10));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
}

}  // namespace
}  // namespace deltaw
