// Which classes a run has, in which order, and what is said where a file and a head disagree.
#include "data/files.h"
#include "deltaw/data.h"

namespace deltaw {
namespace {

using test::expect_error;
using Strings = std::vector<std::string>;
class HeadsLabels : public test::Files {};
class ColumnDoubts : public test::Files {};

const HeadLabels kSentiment{.names = {"positive", "negative", "neutral"}, .stored = true};

bool says(const Strings& warnings, const std::string& words) {
  for (const std::string& warning : warnings) {
    if (warning.find(words) != std::string::npos) return true;
  }
  return false;
}

TEST(LabelSet, MatchesNamesAsValues) {
  const LabelSet labels{.regression = false, .names = {"1", "2.5", "-3.0", "007", "1e-3"}};
  for (const char* one : {"1", "1.0", "1.", "1.00", "1e0", "10E-1"}) EXPECT_EQ(labels.find(one), 0) << one;
  EXPECT_EQ(labels.find("2.50"), 1);
  EXPECT_EQ(labels.find("-3"), 2);
  EXPECT_EQ(labels.find("007"), 3);
  EXPECT_EQ(labels.find("0.001"), 4);
  for (const char* other : {"7", "01", "+1", "1.1", "", "0x1", "3"})
    EXPECT_EQ(labels.find(other), std::nullopt) << other;
}

TEST(LabelSet, KeepsLongNumbersApart) {
  const LabelSet labels{.regression = false, .names = {"9007199254740992", "9007199254740993"}};
  EXPECT_EQ(labels.find("9007199254740993.0"), 1);
}

TEST(LabelSet, TakesAWholeNumberForAClassInWhateverSpelling) {
  const LabelSet words{.regression = false, .names = {"no", "yes"}};
  EXPECT_EQ(words.find("1.0"), 1);
  EXPECT_EQ(words.find_name("1.0"), std::nullopt);
  const LabelSet scores{.regression = false, .names = {"0.5", "1.5"}};
  EXPECT_EQ(scores.find("1"), std::nullopt);  // a name is a number, so no number stands for a place
}

TEST(LabelSet, ReadsTheFilesOfATaskWhateverTheOrderOfTheNames) {
  const LabelSet labels = label_set({.task_name = "sst2"}, {"POSITIVE", "NEGATIVE"});
  EXPECT_EQ(labels.find("0"), 1);  // of SST-2's files, 0 is negative
  EXPECT_EQ(labels.find("1"), 0);
  EXPECT_EQ(labels.find("positive"), 0);
  EXPECT_EQ(label_set({.task_name = "sst2"}, {"no", "yes"}).find("0"), 0);
}

TEST_F(HeadsLabels, KeepTheirOrderWhereTheyHoldTheFiles) {
  const std::string file = write("t.csv", "text,label\na,negative\nb,positive\n").string();
  const TrainingData data = load_training_data({.train_file = file}, 42, kSentiment);
  EXPECT_EQ(data.labels.names, kSentiment.names);
  EXPECT_EQ(data.train.rows[0].label, 1);
  EXPECT_FALSE(data.new_head);
  EXPECT_TRUE(data.warnings.empty());
  const HeadLabels scores{.names = {"3", "2", "1"}, .stored = true};
  const std::string points = write("n.csv", "text,label\na,1.0\nb,3.0\n").string();
  EXPECT_EQ(load_training_data({.train_file = points}, 42, scores).labels.names, scores.names);
}

TEST_F(HeadsLabels, GiveWayToLabelNamesAndItIsSaid) {
  const std::string file = write("t.csv", "text,label\na,negative\nb,positive\nc,neutral\nd,neutral\n").string();
  DataOptions options{.train_file = file, .label_names = {"negative", "neutral", "positive"}};
  const TrainingData data = load_training_data(options, 42, kSentiment);
  EXPECT_EQ(data.labels.names, options.label_names);
  EXPECT_TRUE(says(data.warnings, "label_names has 'negative' at place 0")) << data.warnings.size();
  options.label_names = kSentiment.names;
  EXPECT_TRUE(load_training_data(options, 42, kSentiment).warnings.empty());
}

TEST_F(HeadsLabels, RefuseAFileOfWhichTheyKnowAPart) {
  const std::string file = write("t.csv", "text,label\na,negative\nb,mixed\nc,neutral\n").string();
  expect_error([&] { load_training_data({.train_file = file}, 42, kSentiment); }, "config.head-labels",
               {"'mixed'", "positive, negative, neutral", "t.csv", "label_names", "ignore_mismatched_sizes"});
  HeadLabels replaceable = kSentiment;
  replaceable.replaceable = true;
  const TrainingData data = load_training_data({.train_file = file}, 42, replaceable);
  EXPECT_TRUE(data.new_head);
  EXPECT_EQ(data.labels.names, (Strings{"mixed", "negative", "neutral"}));
  EXPECT_TRUE(says(data.warnings, "a new head is drawn"));
}

TEST_F(HeadsLabels, NameTheLabelThatDiffersInCapitals) {
  const std::string file = write("t.csv", "text,label\na,Positive\nb,negative\n").string();
  expect_error([&] { load_training_data({.train_file = file}, 42, kSentiment); }, "config.head-labels",
               {"'Positive' is not a label", "did you mean 'positive'?"});
  const LabelSet labels{.regression = false, .names = kSentiment.names};
  expect_error([&] { load_file(file, {}, labels, Labels::needed); }, "data.unknown-label",
               {"'Positive'", "did you mean 'positive'?"});
}

TEST_F(HeadsLabels, OfOtherClassesAreSaidToBeTrainedOn) {
  const std::string file = write("t.csv", "text,label\na,x\nb,y\nc,z\n").string();
  const TrainingData data = load_training_data({.train_file = file}, 42, kSentiment);
  EXPECT_EQ(data.labels.names, (Strings{"x", "y", "z"}));
  EXPECT_FALSE(data.new_head);
  EXPECT_TRUE(says(data.warnings, "positive, negative, neutral"));
}

TEST_F(HeadsLabels, TakeTheNumbersOfAllClassesAndSayIt) {
  const std::string file = write("t.csv", "text,label\na,2\nb,0\nc,1\nd,1\n").string();
  const TrainingData data = load_training_data({.train_file = file}, 42, kSentiment);
  EXPECT_EQ(data.labels.names, kSentiment.names);
  EXPECT_EQ(data.train.rows[0].label, 2);
  EXPECT_TRUE(says(data.warnings, "0 is 'positive', 1 is 'negative', 2 is 'neutral'"));
  const HeadLabels nameless{.names = {"LABEL_0", "LABEL_1", "LABEL_2"}, .stored = true};
  const TrainingData plain = load_training_data({.train_file = file}, 42, nameless);
  EXPECT_EQ(plain.labels.names, (Strings{"0", "1", "2"}));
  EXPECT_TRUE(plain.warnings.empty());
}

TEST_F(HeadsLabels, OrderTheLabelsOfATask) {
  const char* rows = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n";
  write("RTE/train.tsv", rows);
  write("RTE/dev.tsv", rows);
  const DataOptions options{.task_name = "rte", .dataset_dir = folder_.string()};
  const TrainingData data =
      load_training_data(options, 42, {.names = {"NOT_ENTAILMENT", "ENTAILMENT"}, .stored = true});
  EXPECT_EQ(data.labels.names, (Strings{"NOT_ENTAILMENT", "ENTAILMENT"}));
  EXPECT_EQ(data.train.rows[0].label, 1);
  EXPECT_EQ(load_training_data(options, 42).labels.names, (Strings{"entailment", "not_entailment"}));
}

TEST_F(HeadsLabels, AreNoReasonToWarnWhereEvaluationTakesNames) {
  const LabelSet labels{.regression = false, .names = {"ham", "spam"}};
  EXPECT_TRUE(load_file(write("a.csv", "text,label\na,ham\n"), {}, labels, Labels::needed).warnings.empty());
  EXPECT_TRUE(says(load_file(write("b.csv", "text,label\na,1\n"), {}, labels, Labels::needed).warnings, "1 is 'spam'"));
}

TEST_F(HeadsLabels, OfOneValueAreOneClass) {
  const std::string file = write("t.jsonl",
                                 "{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":1.0}\n"
                                 "{\"text\":\"c\",\"label\":\"1\"}\n{\"text\":\"d\",\"label\":2}\n")
                               .string();
  const TrainingData data = load_training_data({.train_file = file, .problem_type = "single_label_classification"}, 42);
  EXPECT_EQ(data.labels.names, (Strings{"1", "2"}));
  EXPECT_EQ(data.train.rows[1].label, 0);
  EXPECT_EQ(data.train.rows[2].label, 0);
}

TEST_F(ColumnDoubts, SeeLabelsThatDifferInCapitalsAlone) {
  const auto file = write("t.csv", "text,label\na,x\nb,X\nc,y\nd,y\n");
  EXPECT_TRUE(says(load_training_data({.train_file = file.string()}, 42).warnings, "'X' and 'x' differ in capitals"));
}

TEST_F(ColumnDoubts, SeeSwappedColumns) {
  std::string text = "text,label\n";
  for (int i = 0; i < 12; ++i) {
    text += std::string(i % 2 ? "good" : "bad") + ",a film of some length and number " + std::to_string(i) + "\n";
  }
  const auto file = write("t.csv", text);
  EXPECT_TRUE(says(load_training_data({.train_file = file.string()}, 42).warnings, "look swapped"));
  const DataOptions right{.train_file = file.string(), .text_column = "label", .label_column = "text"};
  EXPECT_TRUE(load_training_data(right, 42).warnings.empty());
}

TEST_F(ColumnDoubts, SeeAsManyClassesAsRows) {
  std::string text = "text,label\n";
  for (int i = 0; i < 12; ++i) text += "row " + std::to_string(i) + ",id" + std::to_string(i) + "\n";
  EXPECT_TRUE(
      says(load_training_data({.train_file = write("t.csv", text).string()}, 42).warnings, "12 classes in 12 rows"));
}

}  // namespace
}  // namespace deltaw
