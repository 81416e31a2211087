// Few rows of each class.
#include "data/few_shot.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "data/files.h"

namespace deltaw {
namespace {

using data::FewShot;
using test::expect_error;
using Strings = std::vector<std::string>;

const LabelSet kThree{.names = {"a", "b", "c"}};

/// 5 rows of the first class, 20 of the second and 2 of the third, mixed.
Dataset rows() {
  Dataset set;
  for (int i = 0; i < 27; ++i) {
    const int label = i % 5 == 4 && i < 25 ? 0 : i == 3 || i == 17 ? 2 : 1;
    set.rows.push_back({.text = std::to_string(i), .label = static_cast<double>(label), .line = i + 1});
  }
  return set;
}

std::vector<int> kept(const FewShot& few, uint64_t seed = 1, Strings* warnings = nullptr) {
  Dataset set = rows();
  Strings ignored;
  few.apply(set, kThree, seed, warnings != nullptr ? *warnings : ignored);
  std::vector<int> found;
  for (const Example& row : set.rows) found.push_back(std::stoi(row.text));
  return found;
}

std::map<int, int> counts(const std::vector<int>& rows_kept) {
  const Dataset set = rows();
  std::map<int, int> found;
  for (const int row : rows_kept) ++found[static_cast<int>(set.rows[static_cast<size_t>(row)].label)];
  return found;
}

TEST(FewShots, AreSoManyOfEachClassInTheOrderOfTheFile) {
  const std::vector<int> two = kept({.train_samples_per_class = 2});
  EXPECT_EQ(counts(two), (std::map<int, int>{{0, 2}, {1, 2}, {2, 2}}));
  EXPECT_TRUE(std::is_sorted(two.begin(), two.end()));
  EXPECT_EQ(kept({.train_samples_per_class = 0}).size(), 27);
}

TEST(FewShots, FollowFromTheSeedAndFewerAreAmongMore) {
  EXPECT_EQ(kept({.train_samples_per_class = 4}, 7), kept({.train_samples_per_class = 4}, 7));
  std::set<std::vector<int>> draws;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const std::vector<int> two = kept({.train_samples_per_class = 2}, seed);
    const std::vector<int> four = kept({.train_samples_per_class = 4}, seed);
    EXPECT_TRUE(std::includes(four.begin(), four.end(), two.begin(), two.end()));
    draws.insert(two);
  }
  EXPECT_GE(draws.size(), 8);
}

TEST(FewShots, AreAllOfAClassThatHasFewerWithAWarning) {
  Strings warnings;
  EXPECT_EQ(counts(kept({.train_samples_per_class = 16}, 1, &warnings)), (std::map<int, int>{{0, 5}, {1, 16}, {2, 2}}));
  ASSERT_EQ(warnings.size(), 1);
  EXPECT_NE(warnings[0].find("2 of 3 classes have fewer rows"), std::string::npos) << warnings[0];
}

TEST(FewShots, BelowOneAreAShareOfEachClassAndAtLeastOneRow) {
  EXPECT_EQ(counts(kept({.train_samples_per_class = 0.2})), (std::map<int, int>{{0, 1}, {1, 4}, {2, 1}}));
}

TEST(FewShots, AreRefusedWhereRowsHaveNoClassToBeCountedBy) {
  Dataset set = rows();
  Strings warnings;
  const FewShot two{.train_samples_per_class = 2};
  expect_error([&] { two.apply(set, {.regression = true}, 1, warnings); }, "config.conflict", {"regression"});
  expect_error([&] { two.apply(set, {.multi_label = true, .names = {"a", "b"}}, 1, warnings); }, "config.conflict", {});
  expect_error([&] { kept({.train_samples_per_class = 2.5}); }, "config.out-of-range", {"2.5"});
}

TEST(FewShots, AreRepeatedWholeUntilAnEpochIsLongEnough) {
  const std::vector<int> six = kept({.train_samples_per_class = 2});
  std::vector<int> repeated = kept({.train_samples_per_class = 2, .min_train_samples = 13});
  ASSERT_EQ(repeated.size(), 18);
  for (size_t i = 0; i < repeated.size(); ++i) EXPECT_EQ(repeated[i], six[i % 6]);
  EXPECT_EQ(kept({.min_train_samples = 27}).size(), 27);
  EXPECT_EQ(kept({.min_train_samples = 28}).size(), 54);
}

}  // namespace
}  // namespace deltaw
