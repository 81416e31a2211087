// GLUE's tasks: on their official files where these are at hand, else on rows of the same layout.
#include "data/glue.h"
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
  for (const char* name : {"MNLI", "mnli_matched", "MNLI-m"}) EXPECT_EQ(find_glue_task(name).name, "mnli");
  for (const char* name : {"mnli-mm", "mnli_mismatched"}) EXPECT_EQ(find_glue_task(name).name, "mnli_mismatched");
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

TEST_F(Glue, ReadsEitherHalfOfMnliBesideTheSameTrainingRows) {
  write("MNLI/train.tsv", "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\ta\tb\tentailment\tneutral\n");
  write("MNLI/dev_matched.tsv", "sentence1\tsentence2\tgold_label\nm\tb\tentailment\n");
  write("MNLI/dev_mismatched.tsv", "sentence1\tsentence2\tgold_label\nmm\tb\tcontradiction\n");
  write("MNLI/test_mismatched.tsv", "index\tsentence1\tsentence2\n0\ttest\tb\n");
  for (const auto& [name, text, label] : {std::tuple("mnli", "m", 0), std::tuple("mnli-mm", "mm", 2)}) {
    const TrainingData data = load_training_data({.task_name = name, .dataset_dir = folder_.string()}, 42);
    EXPECT_EQ(data.train.rows.at(0).label, 1) << name;
    EXPECT_EQ(data.validation.rows.at(0).text, text) << name;
    EXPECT_EQ(data.validation.rows.at(0).label, label) << name;
  }
  const DataOptions options{.task_name = "mnli-mm", .dataset_dir = folder_.string()};
  const LabelSet labels{.names = find_glue_task("mnli").labels};
  EXPECT_EQ(load_split(options, Split::test, labels, Labels::ignored, 42).rows.at(0).text, "test");
}

TEST_F(Glue, ReadsQqpAndQnliInTheOrderOfTheirColumns) {
  for (const char* file : {"train", "dev"}) {
    write(std::string("QQP/") + file + ".tsv",
          "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n7\t1\t2\tone\ttwo\t1\n");
    write(std::string("QNLI/") + file + ".tsv", "index\tquestion\tsentence\tlabel\n0\twhy\tbecause\tnot_entailment\n");
  }
  const TrainingData qqp = load_training_data({.task_name = "qqp", .dataset_dir = folder_.string()}, 42);
  EXPECT_EQ(qqp.train.rows.at(0).text, "one");
  EXPECT_EQ(qqp.train.rows.at(0).text_pair, "two");
  EXPECT_EQ(qqp.train.rows.at(0).label, 1);
  EXPECT_EQ(metric_names({.task_name = "qqp"}, qqp.labels), (Strings{"accuracy", "f1"}));
  const TrainingData qnli = load_training_data({.task_name = "qnli", .dataset_dir = folder_.string()}, 42);
  EXPECT_EQ(qnli.train.rows.at(0).text, "why");
  EXPECT_EQ(qnli.train.rows.at(0).label, 1);
}

TEST_F(Glue, HasNothingToLearnInTheDiagnosticSet) {
  write("diagnostic/diagnostic.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n");
  const DataOptions options{.task_name = "ax", .dataset_dir = folder_.string()};
  const LabelSet labels{.names = find_glue_task("ax").labels};
  EXPECT_EQ(load_split(options, Split::test, labels, Labels::ignored, 42).rows.size(), 1u);
  expect_error([&] { load_training_data(options, 42); }, "config.no-data", {"task ax has no such rows"});
}

TEST(Submission, AnswersByNumberOrByNameAsTheServerWants) {
  const auto text = [](const char* task, const std::vector<Json>& answers) {
    return data::submission_text(find_glue_task(task), answers);
  };
  EXPECT_EQ(text("cola", {"acceptable", "unacceptable"}), "index\tprediction\n0\t1\n1\t0\n");
  EXPECT_EQ(text("wnli", {"entailment", "not_entailment"}), "index\tprediction\n0\t1\n1\t0\n");
  EXPECT_EQ(text("rte", {"Entailment", "not_entailment"}), "index\tprediction\n0\tentailment\n1\tnot_entailment\n");
  EXPECT_EQ(text("mnli-mm", {"neutral"}), "index\tprediction\n0\tneutral\n");
  EXPECT_EQ(text("stsb", {-0.25, 2.34567, 5.5}), "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n");
  EXPECT_EQ(data::files_of(find_glue_task("mnli")).submission, "MNLI-m.tsv");
  EXPECT_EQ(data::files_of(find_glue_task("mnli-mm")).submission, "MNLI-mm.tsv");
}

TEST(Submission, RefusesWhatIsNoAnswer) {
  expect_error([] { data::submission_text(find_glue_task("mrpc"), {"LABEL_0"}); }, "config.submission",
               {"LABEL_0", "mrpc", "not_equivalent"});
  expect_error([] { data::submission_text(find_glue_task("stsb"), {"neutral"}); }, "config.submission", {"scores"});
  expect_error([] { data::submission_text(find_glue_task("rte"), {0.5}); }, "config.submission", {"entailment"});
}

TEST_F(Glue, SaysWhichFolderItLookedFor) {
  expect_error([&] { load_training_data({.task_name = "rte", .dataset_dir = folder_.string()}, 42); },
               "config.dataset-dir", {(folder_ / "RTE").string(), "dataset_dir", "RTE/train.tsv"});
}

}  // namespace
}  // namespace deltaw
