// Means, spreads and the forms of the table.
#include "core/comparison_table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace deltaw {
namespace {

using Rows = std::vector<std::vector<std::string>>;

CellResult run(const std::string& setting, int64_t seed, const Json& results, const std::string& task = "") {
  return {.cell = {.task = task, .setting = setting, .seed = seed, .keys = Json::object()},
          .state = results.empty() ? "failed" : "finished",
          .results = results};
}

Json scores(double accuracy, double f1, double seconds = 10, double bytes = 1 << 20) {
  return {{"train_runtime", seconds}, {"peak_memory_bytes", bytes}, {"trainable_parameters", 1234},
          {"eval_loss", 0.5},         {"eval_accuracy", accuracy},  {"eval_f1", f1},
          {"eval_samples", 8},        {"eval_truncated_rows", 0}};
}

TEST(Spread, IsOfTheSample) {
  const auto spread = spread_of({2, 4, 4, 4, 5, 5, 7, 9});
  ASSERT_TRUE(spread && spread->deviation);
  EXPECT_EQ(spread->count, 8u);
  EXPECT_DOUBLE_EQ(spread->mean, 5);
  EXPECT_DOUBLE_EQ(*spread->deviation, std::sqrt(32.0 / 7));
}

TEST(Spread, OfValuesFarFromZeroIsExact) {
  const auto spread = spread_of({1e9 + 1, 1e9 + 2, 1e9 + 3});
  EXPECT_DOUBLE_EQ(*spread->deviation, 1);
}

TEST(Spread, NeedsTwoValues) {
  EXPECT_FALSE(spread_of({}));
  EXPECT_FALSE(spread_of({3})->deviation);
  EXPECT_EQ(spread_of({3})->mean, 3);
  EXPECT_EQ(*spread_of({3, 3})->deviation, 0);
}

TEST(FirstMetric, IsTheFirstThatIsAScore) {
  EXPECT_EQ(first_metric(scores(0.5, 0.6)), "accuracy");
  EXPECT_EQ(first_metric({{"eval_loss", 1.0}, {"eval_tokens_per_second", 3.0}, {"eval_samples", 3}}), "loss");
  EXPECT_EQ(first_metric({{"train_loss", 1.0}}), std::nullopt);
}

TEST(Table, HasALineForEachSettingWithItsSeeds) {
  const auto tasks = summarise({run("b", 1, scores(0.5, 0.25, 100)), run("a", 1, scores(0.75, 0.5)),
                                run("b", 2, scores(1, 0.75, 200, 3 << 20)), run("a", 2, scores(0.75, 0.5))},
                               {});
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(table_rows(tasks[0]), (Rows{{"setting", "accuracy", "sd", "n", "parameters", "seconds", "memory"},
                                        {"b", "0.7500", "0.3536", "2", "1,234", "150", "3 MiB"},
                                        {"a", "0.7500", "0.0000", "2", "1,234", "10.0", "1 MiB"}}));
}

TEST(Table, ShowsTheMetricsThatAreAskedForWhereATaskHasThem) {
  const std::vector<CellResult> cells = {run("a", 1, scores(0.5, 0.6), "x"),
                                         run("a", 1, {{"eval_loss", 1.0}, {"eval_pearson", 0.25}}, "y")};
  const auto both = summarise(cells, {"eval_f1", "accuracy"});
  EXPECT_EQ(both[0].metrics, (std::vector<std::string>{"f1", "accuracy"}));
  EXPECT_EQ(both[1].metrics, (std::vector<std::string>{"pearson"}));
  std::vector<CellResult> best = {cells[0]};
  best[0].cell.keys["metric_for_best_model"] = "eval_f1";
  EXPECT_EQ(summarise(best, {})[0].metrics, (std::vector<std::string>{"f1"}));
}

TEST(Table, CountsWhatIsFinishedAlone) {
  std::vector<CellResult> cells = {run("a", 1, scores(0.5, 0)), run("a", 2, Json::object()),
                                   run("b", 1, Json::object())};
  const auto tasks = summarise(cells, {});
  const Rows rows = table_rows(tasks[0]);
  EXPECT_EQ(rows[1], (std::vector<std::string>{"a", "0.5000", "-", "1 of 2", "1,234", "10.0", "1 MiB"}));
  EXPECT_EQ(rows[2], (std::vector<std::string>{"b", "-", "-", "0 of 1", "-", "-", "-"}));
}

TEST(Table, TakesNoTimesOfRunsThatWereCut) {
  std::vector<CellResult> cells = {run("a", 1, scores(0.5, 0, 10)), run("a", 2, scores(0.5, 0, 1))};
  cells[1].resumed = true;
  EXPECT_EQ(table_rows(summarise(cells, {})[0])[1][5], "10.0");
  cells[0].resumed = true;
  EXPECT_EQ(table_rows(summarise(cells, {})[0])[1][5], "-");
}

TEST(Table, InMarkdownHasMeansOverTheTasksThatAllSettingsHave) {
  const auto tasks = summarise({run("a|b", 1, scores(0.5, 0), "x"), run("c", 1, scores(0.25, 0), "x"),
                                run("a|b", 1, scores(1, 0), "y"), run("c", 1, Json::object(), "y")},
                               {});
  const std::string text = markdown(tasks);
  EXPECT_NE(text.find("### x\n\n| setting | accuracy | sd |"), std::string::npos);
  EXPECT_NE(text.find("| setting | x | y | mean |\n|---|---|---|---|\n| a\\|b | 0.5000 | 1.0000 | 0.7500 |\n"
                      "| c | 0.2500 | - | - |\n"),
            std::string::npos)
      << text;
}

TEST(Table, AsJsonKeepsEveryRun) {
  const std::vector<CellResult> cells = {run("a", 1, scores(0.5, 0)), run("a", 2, scores(0.75, 0))};
  const Json json = to_json(summarise(cells, {}), cells);
  EXPECT_DOUBLE_EQ(json["settings"][0]["metrics"]["accuracy"]["mean"].get<double>(), 0.625);
  EXPECT_EQ(json["settings"][0]["metrics"]["accuracy"]["n"], 2);
  EXPECT_EQ(json["settings"][0]["peak_memory_bytes"], 1 << 20);
  EXPECT_EQ(json["runs"][1]["seed"], 2);
  EXPECT_EQ(json["runs"][1]["results"]["eval_accuracy"], 0.75);
}

}  // namespace
}  // namespace deltaw
