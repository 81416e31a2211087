// The five tasks on their official files.
#include "data/files.h"
#include "deltaw/data.h"
#include "support/data.h"

namespace deltaw {
namespace {

using test::expect_error;
using Strings = std::vector<std::string>;
class Glue : public test::Files {};

struct Expected {
  std::string task;
  std::string folder;
  size_t train;
  size_t validation;
  size_t test;
  Strings labels;
  double first_label;  // of train.tsv
  bool pairs;
};

class GlueFiles : public ::testing::TestWithParam<Expected> {};

TEST_P(GlueFiles, HaveEveryRowWithItsLabel) {
  DELTAW_NEEDS_DATA(glue, "glue");
  const Expected& expected = GetParam();
  const DataOptions options{.task_name = expected.task, .dataset_dir = glue.string()};
  const TrainingData data = load_training_data(options, 42);
  EXPECT_EQ(data.labels.names, expected.labels);
  EXPECT_EQ(data.labels.regression, expected.labels.empty());
  EXPECT_EQ(data.train.rows.size(), expected.train);
  EXPECT_EQ(data.validation.rows.size(), expected.validation);
  EXPECT_EQ(data.train.rows[0].label, expected.first_label);
  for (const Dataset* dataset : {&data.train, &data.validation}) {
    for (const Example& row : dataset->rows) {
      ASSERT_FALSE(row.text.empty()) << "line " << row.line;
      ASSERT_EQ(row.has_pair && !row.text_pair.empty(), expected.pairs) << "line " << row.line;
    }
  }
  const Dataset test = load_split(options, Split::test, data.labels, Labels::ignored, 42);
  EXPECT_EQ(test.rows.size(), expected.test);
  EXPECT_EQ(test.rows[0].has_pair, expected.pairs);
}

TEST_P(GlueFiles, AreFoundInTheTasksOwnFolder) {
  DELTAW_NEEDS_DATA(glue, "glue");
  const Expected& expected = GetParam();
  const DataOptions options{.task_name = expected.task, .dataset_dir = (glue / expected.folder).string()};
  EXPECT_EQ(split_file(options, Split::train), glue / expected.folder / "train.tsv");
  EXPECT_EQ(split_file(options, Split::validation), glue / expected.folder / "dev.tsv");
}

// MRPC's train.tsv is one row short of GLUE's 3668: pair 2750203, 2750153 of msr_paraphrase_train.txt is in neither
// file.
INSTANTIATE_TEST_SUITE_P(
    Tasks, GlueFiles,
    ::testing::Values(Expected{"rte", "RTE", 2490, 277, 3000, {"entailment", "not_entailment"}, 1, true},
                      Expected{"mrpc", "MRPC", 3667, 408, 1725, {"not_equivalent", "equivalent"}, 1, true},
                      Expected{"cola", "CoLA", 8551, 1043, 1063, {"unacceptable", "acceptable"}, 1, false},
                      Expected{"sst2", "SST-2", 67349, 872, 1821, {"negative", "positive"}, 0, false},
                      Expected{"stsb", "STS-B", 5749, 1500, 1379, {}, 5.0, true}),
    [](const auto& tested) { return tested.param.task; });

TEST(FindTask, TakesTheNamesPeopleWrite) {
  EXPECT_EQ(find_glue_task("SST-2").name, "sst2");
  EXPECT_EQ(find_glue_task("sts-b").name, "stsb");
  EXPECT_EQ(find_glue_task("CoLA").metrics, (Strings{"matthews_correlation"}));
  EXPECT_EQ(find_glue_task("stsb").metrics, (Strings{"pearson", "spearmanr"}));
  expect_error([] { find_glue_task("mprc"); }, "config.unknown-task", {"'mprc'", "did you mean 'mrpc'"});
}

TEST_F(Glue, KeepsTheQuotesOfMrpc) {
  write("MRPC/train.tsv",
        "\xEF\xBB\xBFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tHe said \" no .\t\" Yes\n0\t3\t4\ta\tb\n");
  write("MRPC/dev.tsv", "\xEF\xBB\xBFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t5\t6\tc \"\td\n");
  const TrainingData data = load_training_data({.task_name = "mrpc", .dataset_dir = folder_.string()}, 42);
  ASSERT_EQ(data.train.rows.size(), 2u);
  EXPECT_EQ(data.train.rows[0].text, "He said \" no .");
  EXPECT_EQ(data.train.rows[0].text_pair, "\" Yes");
  EXPECT_EQ(data.train.rows[0].label, 1);
  EXPECT_EQ(data.validation.rows[0].text, "c \"");
}

TEST_F(Glue, ReadsColaWithAndWithoutAHeader) {
  const auto bare = write("bare.tsv", "gj04\t0\t*\tThem is here.\ngj04\t1\t\tThey are here.\n");
  const auto headed = write("headed.tsv", "index\tsentence\n7\tThey are here.\n");
  const LabelSet labels{.regression = false, .names = find_glue_task("cola").labels};
  const Dataset one = load_file(bare, {.task_name = "cola"}, labels, Labels::needed);
  ASSERT_EQ(one.rows.size(), 2u);
  EXPECT_EQ(one.rows[0].text, "Them is here.");
  EXPECT_EQ(one.rows[1].label, 1);
  const Dataset two = load_file(headed, {.task_name = "cola"}, labels, Labels::ignored);
  ASSERT_EQ(two.rows.size(), 1u);
  EXPECT_EQ(two.rows[0].text, "They are here.");
}

TEST_F(Glue, SaysWhichFolderItLookedFor) {
  expect_error([&] { load_training_data({.task_name = "rte", .dataset_dir = folder_.string()}, 42); },
               "config.dataset-dir", {(folder_ / "RTE").string(), "dataset_dir", "RTE/train.tsv"});
}

}  // namespace
}  // namespace deltaw
