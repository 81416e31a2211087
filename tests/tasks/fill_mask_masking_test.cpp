// Which tokens are masked, with what, and when.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "deltaw/error.h"
#include "support/temporary.h"
#include "tasks/fill_mask/rows.h"

namespace deltaw {
namespace {

using namespace fill_mask;  // NOLINT

constexpr int64_t kMask = 4, kVocabulary = 1000;

/// Rows of these lengths, the ids of row i being 100 i, 100 i + 1, ...; the first and the last token are special.
std::vector<EncodedRow> rows_of_lengths(const std::vector<int64_t>& lengths) {
  std::vector<EncodedRow> rows;
  for (const int64_t length : lengths) {
    EncodedRow row{.index = static_cast<int64_t>(rows.size())};
    for (int64_t i = 0; i < length; ++i) row.ids.push_back(100 * row.index + i);
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Words of `width` tokens.
Units units_of_row(int64_t length, int64_t width = 1) {
  Units units(static_cast<size_t>(length), -1);
  for (int64_t i = 1; i + 1 < length; ++i) units[static_cast<size_t>(i)] = (i - 1) / width;
  return units;
}

std::shared_ptr<const MaskedRows> masked_rows(const std::vector<int64_t>& lengths, MaskingOptions options = {},
                                              int64_t width = 1, bool pads_left = false) {
  std::vector<Units> units;
  for (const int64_t length : lengths) units.push_back(units_of_row(length, width));
  return std::make_shared<const MaskedRows>(rows_of_lengths(lengths), units, Masking{options, kMask, kVocabulary},
                                            /*pad_id=*/0, pads_left);
}

struct Counts {
  double chosen = 0, masked = 0, random = 0, kept = 0, tokens = 0;
};

Counts drawn(const MaskingOptions& options, int64_t width = 1) {
  constexpr int64_t kLength = 402;
  std::vector<int64_t> ids(kLength);
  std::iota(ids.begin(), ids.end(), 2000);  // none of which is a random one
  const Units units = units_of_row(kLength, width);
  Counts counts;
  for (uint64_t key = 0; key < 200; ++key) {
    counts.tokens += kLength - 2;
    for (const Replacement& token : draw_masks(ids, units, {options, kMask, kVocabulary}, key)) {
      EXPECT_TRUE(token.position > 0 && token.position < kLength - 1) << "a special token";
      const bool kept = token.id == ids[static_cast<size_t>(token.position)];
      counts.chosen += 1;
      counts.kept += kept;
      counts.masked += token.id == kMask;
      counts.random += !kept && token.id != kMask;
      EXPECT_TRUE(kept || token.id < kVocabulary);
    }
  }
  return counts;
}

TEST(DrawMasks, TakesTheSharesThatAreAskedFor) {
  const Counts usual = drawn({});  // of 80,000 tokens: three standard deviations are 0.4 %, of the chosen 1 %
  EXPECT_NEAR(usual.chosen / usual.tokens, 0.15, 0.005);
  EXPECT_NEAR(usual.masked / usual.chosen, 0.8, 0.012);
  EXPECT_NEAR(usual.random / usual.chosen, 0.1, 0.01);
  EXPECT_NEAR(usual.kept / usual.chosen, 0.1, 0.01);
  const Counts other = drawn({.mlm_probability = 0.4, .mask_replace_prob = 0.5, .random_replace_prob = 0.5});
  EXPECT_NEAR(other.chosen / other.tokens, 0.4, 0.007);
  EXPECT_NEAR(other.masked / other.chosen, 0.5, 0.01);
  EXPECT_EQ(other.kept, 0);
  const Counts all = drawn({.mlm_probability = 1, .mask_replace_prob = 1, .random_replace_prob = 0});
  EXPECT_EQ(all.masked, all.tokens);
}

TEST(DrawMasks, TakesWordsWhole) {
  const Units units = units_of_row(302, 3);
  std::vector<int64_t> ids(302, 7);
  double chosen = 0;
  for (uint64_t key = 0; key < 100; ++key) {
    std::vector<int64_t> of_unit(100);
    for (const Replacement& token : draw_masks(ids, units, {{}, kMask, kVocabulary}, key)) {
      ++of_unit[static_cast<size_t>(units[static_cast<size_t>(token.position)])];
    }
    for (const int64_t count : of_unit) {
      EXPECT_TRUE(count == 0 || count == 3) << "a part of a word";
      chosen += count == 3;
    }
  }
  EXPECT_NEAR(chosen / 10'000, 0.15, 0.011);
}

TEST(DrawMasks, TakesOneUnitAtLeast) {
  std::set<int64_t> places;
  for (uint64_t key = 0; key < 300; ++key) {
    const auto chosen = draw_masks({1, 9, 9, 9, 2}, units_of_row(5), {{.mlm_probability = 1e-6}, kMask, 10}, key);
    ASSERT_EQ(chosen.size(), 1u);
    places.insert(chosen[0].position);
  }
  EXPECT_EQ(places, (std::set<int64_t>{1, 2, 3}));
  EXPECT_TRUE(draw_masks({1, 2}, {-1, -1}, {{}, kMask, 10}, 0).empty()) << "nothing may be masked";
}

TEST(MaskingOptions, RefusesSharesOfMoreThanAll) {
  const MaskingOptions options{.mask_replace_prob = 0.8, .random_replace_prob = 0.3};
  const Error error = test::error_of([&] { options.check("run.yaml"); });
  EXPECT_EQ(error.id(), "config.out-of-range");
  EXPECT_NE(error.parts().what.find("0.8"), std::string::npos);
  MaskingOptions{.mask_replace_prob = 0.9, .random_replace_prob = 0.1}.check("run.yaml");
}

/// What stands at each row's targets, by row: position, label, input.
std::vector<std::vector<std::vector<int64_t>>> targets(const Batch& batch) {
  std::vector<std::vector<std::vector<int64_t>>> found(static_cast<size_t>(batch.rows));
  const int64_t length = batch["input_ids"].size(1);
  const Tensor ids = batch["input_ids"].flatten();
  for (int64_t i = 0; i < batch["target_labels"].numel(); ++i) {
    const int64_t place = batch["target_positions"][i].item<int64_t>(), row = batch["target_rows"][i].item<int64_t>();
    EXPECT_EQ(place / length, row);
    const Tensor mask = batch["attention_mask"].flatten();
    EXPECT_EQ(mask[place].item<int64_t>(), 1) << "padding";
    const int64_t before = mask.narrow(0, row * length, place - row * length).ne(0).sum().item<int64_t>();
    found[static_cast<size_t>(row)].push_back(
        {before, batch["target_labels"][i].item<int64_t>(), ids[place].item<int64_t>()});
  }
  return found;
}

TEST(MaskedRows, HideTheTokensThatTheyAskFor) {
  for (const bool pads_left : {false, true}) {
    const auto rows = masked_rows({40, 12, 25}, {}, 1, pads_left);
    const Batch batch = rows->collate({2, 0, 1}, {.seed = 3});
    const auto found = targets(batch);
    for (size_t i = 0; i < 3; ++i) {
      const int64_t row = std::vector<int64_t>{2, 0, 1}[i];
      ASSERT_FALSE(found[i].empty());
      for (const auto& token : found[i]) EXPECT_EQ(token[1], 100 * row + token[0]) << "the token that stood there";
    }
    const Tensor labels = batch["labels"];
    EXPECT_EQ(labels.sizes(), batch["input_ids"].sizes());
    EXPECT_TRUE(at::equal(labels.flatten().index_select(0, batch["target_positions"]), batch["target_labels"]));
    EXPECT_EQ(labels.ne(kNoLabel).sum().item<int64_t>(), batch["target_labels"].numel());
  }
}

TEST(MaskedRows, AreMaskedAlikeInBatchesOfAnySizeAndAnewInEveryEpoch) {
  const auto rows = masked_rows({60, 30, 45, 50});
  const Draw draw{.seed = 5, .epoch = 2, .step = 17, .micro_step = 1};
  const auto together = targets(rows->collate({0, 1, 2, 3}, draw));
  for (const int64_t row : {3, 1, 0, 2}) {
    const Draw later{.seed = 5, .epoch = 2, .step = 40};
    EXPECT_EQ(targets(rows->collate({row}, later))[0], together[static_cast<size_t>(row)]);
  }
  for (const Draw& other : {Draw{.seed = 5, .epoch = 3}, Draw{.seed = 6, .epoch = 2}}) {
    EXPECT_NE(targets(rows->collate({0}, other))[0], together[0]);
  }
  EXPECT_EQ(targets(rows->collate({0}, {}))[0], targets(rows->collate({0}, {}))[0]) << "evaluation draws from one key";
  EXPECT_NE(
      masked_rows({60, 60})->masks_of(0, draw).size() * 1000 + masked_rows({60, 60})->masks_of(0, draw)[0].position,
      masked_rows({60, 60})->masks_of(1, draw).size() * 1000 + masked_rows({60, 60})->masks_of(1, draw)[0].position)
      << "rows have masks of their own";
}

TEST(MaskedRows, AreOthersWhereTheirMasksAre) {
  const std::string own = masked_rows({20, 30})->fingerprint();
  EXPECT_EQ(masked_rows({20, 30})->fingerprint(), own);
  EXPECT_NE(masked_rows({20, 31})->fingerprint(), own);
  EXPECT_NE(masked_rows({20, 30}, {.mlm_probability = 0.2})->fingerprint(), own);
  EXPECT_NE(masked_rows({20, 30}, {.mask_replace_prob = 0.9})->fingerprint(), own);
  EXPECT_NE(masked_rows({20, 30}, {.random_replace_prob = 0})->fingerprint(), own);
  EXPECT_NE(masked_rows({20, 30}, {}, 2)->fingerprint(), own) << "other words";
}

TEST(UnitsInTurn, MaskEveryTokenOnceAndAlone) {
  const auto rows = masked_rows({5, 4});
  const UnitsInTurn turns(rows);
  ASSERT_EQ(turns.size(), 5);
  EXPECT_EQ(costs_of(turns), (std::vector<int64_t>{5, 5, 5, 4, 4}));
  const Batch batch = turns.collate({4, 0, 2}, {});
  EXPECT_EQ(batch.positions, (std::vector<int64_t>{4, 0, 2}));
  const auto found = targets(batch);
  EXPECT_EQ(found[0], (std::vector<std::vector<int64_t>>{{2, 102, kMask}}));
  EXPECT_EQ(found[1], (std::vector<std::vector<int64_t>>{{1, 1, kMask}}));
  EXPECT_EQ(found[2], (std::vector<std::vector<int64_t>>{{3, 3, kMask}}));
  EXPECT_NE(turns.fingerprint(), rows->fingerprint());
}

TEST(UnitsInTurn, MaskWordsWhole) {
  const UnitsInTurn turns(masked_rows({7}, {}, 2));
  ASSERT_EQ(turns.size(), 3);
  const auto found = targets(turns.collate({0, 2}, {}));
  EXPECT_EQ(found[0], (std::vector<std::vector<int64_t>>{{1, 1, kMask}, {2, 2, kMask}}));
  EXPECT_EQ(found[1], (std::vector<std::vector<int64_t>>{{5, 5, kMask}}));
}

}  // namespace
}  // namespace deltaw
