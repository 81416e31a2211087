#include <algorithm>
#include <set>

#include "data/files.h"
#include "deltaw/data.h"

namespace deltaw {
namespace {

using test::expect_error;
using Strings = std::vector<std::string>;
class LoadTrainingData : public test::Files {};
class LoadSplit : public test::Files {};

TrainingData load(const DataOptions& options) {
  return load_training_data(options, 42);
}

LabelSet labels_of(const std::filesystem::path& file, const std::string& problem_type = "auto") {
  return load({.train_file = file.string(), .problem_type = problem_type}).labels;
}

TEST_F(LoadTrainingData, SortsStringLabelsAndMapsThemToClasses) {
  const auto train = write("t.csv", "text,label\na,law\nb,art\nc,food\nd, law \n");
  const auto validation = write("v.jsonl", "{\"label\": \"food\", \"text\": \"x\"}\n");
  const TrainingData data = load({.train_file = train.string(), .validation_file = validation.string()});
  EXPECT_FALSE(data.labels.regression);
  EXPECT_EQ(data.labels.names, (Strings{"art", "food", "law"}));
  ASSERT_EQ(data.train.rows.size(), 4u);
  EXPECT_TRUE(data.train.labelled);
  EXPECT_EQ(data.train.rows[0].label, 2);
  EXPECT_EQ(data.train.rows[3].label, 2);
  EXPECT_EQ(data.train.rows[3].line, 5);
  EXPECT_FALSE(data.train.rows[0].has_pair);
  ASSERT_EQ(data.validation.rows.size(), 1u);
  EXPECT_EQ(data.validation.rows[0].label, 1);
}

TEST_F(LoadTrainingData, SortsWholeNumbersByValue) {
  EXPECT_EQ(labels_of(write("t.tsv", "text\tlabel\na\t10\nb\t2\nc\t-1\n")).names, (Strings{"-1", "2", "10"}));
}

TEST_F(LoadTrainingData, SortsNumbersAmongWordsAsText) {
  EXPECT_EQ(labels_of(write("t.tsv", "text\tlabel\na\t10\nb\t2\nc\tnone\n")).names, (Strings{"10", "2", "none"}));
}

TEST_F(LoadTrainingData, TakesLabelsAsScoresWhenOneIsWrittenWithAPoint) {
  EXPECT_TRUE(labels_of(write("a.tsv", "text\tlabel\na\t1\nb\t2.0\n")).regression);
  EXPECT_TRUE(labels_of(write("b.jsonl", "{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":0.5}\n")).regression);
  EXPECT_FALSE(labels_of(write("c.tsv", "text\tlabel\na\t1\nb\t2\n")).regression);
  const LabelSet strings =
      labels_of(write("d.jsonl", "{\"text\":\"a\",\"label\":\"1.0\"}\n{\"text\":\"b\",\"label\":\"2.0\"}\n"));
  EXPECT_EQ(strings.names, (Strings{"1.0", "2.0"}));  // JSON says that these are strings
}

TEST_F(LoadTrainingData, LetsProblemTypeDecideAgainstTheLook) {
  const auto points = write("a.tsv", "text\tlabel\na\t1.0\nb\t2.0\n");
  EXPECT_EQ(labels_of(points, "single_label_classification").names, (Strings{"1.0", "2.0"}));
  const auto whole = write("b.tsv", "text\tlabel\na\t1\nb\t2\n");
  const TrainingData data = load({.train_file = whole.string(), .problem_type = "regression"});
  EXPECT_TRUE(data.labels.regression);
  EXPECT_EQ(data.labels.outputs(), 1);
  EXPECT_EQ(data.train.rows[1].label, 2.0);
}

TEST_F(LoadTrainingData, KeepsTheOrderOfGivenLabelNames) {
  const auto train = write("t.tsv", "text\tlabel\na\tpos\nb\tneg\n");
  const TrainingData data = load({.train_file = train.string(), .label_names = {"pos", "neutral", "neg"}});
  EXPECT_EQ(data.labels.outputs(), 3);
  EXPECT_EQ(data.train.rows[1].label, 2);
  expect_error(
      [&] {
        load({.train_file = train.string(), .label_names = {"pos", "pos"}});
      },
      "config.label-names", {"pos, pos"});
}

TEST_F(LoadTrainingData, FindsTheUsualTextColumns) {
  const auto pair = write("a.tsv", "id\tsentence1\tsentence2\tlabel\n0\ta\tb\tx\n1\tc\td\ty\n");
  const TrainingData data = load({.train_file = pair.string()});
  EXPECT_TRUE(data.train.rows[1].has_pair);
  EXPECT_EQ(data.train.rows[1].text, "c");
  EXPECT_EQ(data.train.rows[1].text_pair, "d");
  const auto only = write("b.tsv", "label\treview\nx\tgood\ny\tbad\n");
  EXPECT_EQ(load({.train_file = only.string()}).train.rows[0].text, "good");
}

TEST_F(LoadTrainingData, DoesNotGuessAmongSeveralColumns) {
  const auto train = write("a.tsv", "id\ttitle\tlabel\n0\ta\tx\n1\tc\ty\n");
  expect_error([&] { load({.train_file = train.string()}); }, "config.text-column",
               {"id, title, label", "text_column"});
  EXPECT_EQ(load({.train_file = train.string(), .text_column = "title"}).train.rows[0].text, "a");
}

TEST_F(LoadTrainingData, NamesAColumnThatIsNotThere) {
  const auto train = write("a.tsv", "text\tlable\na\tx\nb\ty\n");
  expect_error([&] { load({.train_file = train.string()}); }, "config.missing-column",
               {"'label'", "text, lable", "label_column", "did you mean 'lable'"});
}

TEST_F(LoadTrainingData, NamesRowAndSetOfALabelThatOnlyTheValidationFileHas) {
  const auto train = write("t.tsv", "text\tlabel\na\tham\nb\tspam\n");
  const auto validation = write("v.tsv", "text\tlabel\na\tham\nb\tspem\n");
  expect_error([&] { load({.train_file = train.string(), .validation_file = validation.string()}); },
               "data.unknown-label", {"'spem'", "{ham, spam}", "v.tsv, line 3", "did you mean 'spam'"});
}

TEST_F(LoadTrainingData, TakesRowsOfSeveralLabels) {
  const auto list = write("a.jsonl",
                          "{\"text\":\"a\",\"label\":[\"joy\",\"awe\"]}\n{\"text\":\"b\",\"label\":[]}\n"
                          "{\"text\":\"c\",\"label\":\"rage\"}\n");
  const auto commas = write("a.csv", "text,label\na,\"joy, awe\"\nb,\nc,rage\n");
  for (const auto& file : {list, commas}) {
    DataOptions options{.train_file = file.string()};
    if (file == commas) options.problem_type = "multi_label_classification";
    const TrainingData data = load(options);
    EXPECT_EQ(data.labels.problem_type(), std::string("multi_label_classification"));
    EXPECT_EQ(data.labels.names, (std::vector<std::string>{"awe", "joy", "rage"}));
    const std::vector<std::vector<double>> expected = {{1, 1, 0}, {0, 0, 0}, {0, 0, 1}};
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(data.train.rows[i].labels, expected[i]) << file << " " << i;
    EXPECT_EQ(metric_names(options, data.labels).front(), "f1_micro");
  }
  const auto other = write("v.jsonl", "{\"text\":\"a\",\"label\":[\"joy\",\"fear\"]}\n");
  expect_error([&] { load({.train_file = list.string(), .validation_file = other.string()}); }, "data.unknown-label",
               {"'fear'", "{awe, joy, rage}", "v.jsonl, line 1"});
  const auto twice = write("t.jsonl", "{\"text\":\"a\",\"label\":[\"joy\",\"joy\"]}\n");
  expect_error([&] { load({.train_file = twice.string()}); }, "data.several-labels",
               {"'joy' twice", "t.jsonl, line 1"});
  const auto bits = write("b.jsonl", "{\"text\":\"a\",\"label\":[1,0]}\n{\"text\":\"b\",\"label\":[0,1]}\n");
  expect_error([&] { load({.train_file = bits.string()}); }, "data.several-labels", {"zeros and ones", "b.jsonl"});
  const auto none = write("n.jsonl", "{\"text\":\"a\",\"label\":[]}\n{\"text\":\"b\",\"label\":[]}\n");
  expect_error([&] { labels_of(none); }, "data.one-label", {"no row has a label", "n.jsonl"});
}

TEST_F(LoadTrainingData, RefusesRowsWithoutALabelWithoutTextAndWithABadScore) {
  const auto blank = write("a.tsv", "text\tlabel\na\tx\nb\t \n");
  expect_error([&] { labels_of(blank); }, "data.missing-label", {"a.tsv, line 3", "'label'"});
  const auto score = write("b.tsv", "text\tlabel\na\t1.5\nb\tnan\n");
  expect_error([&] { labels_of(score, "regression"); }, "data.not-a-number", {"'nan'", "b.tsv, line 3"});
  const auto text = write("c.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":[1],\"label\":\"y\"}\n");
  expect_error([&] { labels_of(text); }, "data.not-text", {"c.jsonl, line 2", "list"});
  const auto missing = write("d.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"label\":\"y\"}\n");
  expect_error([&] { labels_of(missing); }, "data.not-text", {"d.jsonl, line 2", "missing"});
}

TEST_F(LoadTrainingData, SaysThatALabelIsAListAndThatATextIsNull) {
  const auto list = write("a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":[1,0]}\n");
  expect_error([&] { labels_of(list, "single_label_classification"); }, "data.several-labels",
               {"a list", "multi_label_classification", "a.jsonl, line 2"});
  const auto deep = write("d.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":[[1],0]}\n");
  expect_error([&] { labels_of(deep); }, "data.several-labels", {"a list", "d.jsonl, line 2"});
  const auto null = write("b.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":null}\n");
  expect_error([&] { labels_of(null); }, "data.missing-label", {"'label' is null", "b.jsonl, line 2"});
  const auto text = write("c.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":null,\"label\":\"y\"}\n");
  expect_error([&] { labels_of(text); }, "data.not-text", {"'text' is null", "c.jsonl, line 2"});
}

TEST_F(LoadTrainingData, LeavesColumnsWithoutANameAlone) {
  const auto index = write("a.csv", ",review,label\n0,good,x\n1,bad,y\n");
  EXPECT_EQ(load({.train_file = index.string()}).train.rows[1].text, "bad");
  EXPECT_EQ(load({.train_file = index.string(), .text_column = "Unnamed: 0"}).train.rows[1].text, "1");
}

TEST_F(LoadTrainingData, ReadsTextAndLabelsInTheEncodingThatIsNamed) {
  const auto file = write("a.csv", "text,label\n\xE9t\xE9,caf\xE9\nb,c\n").string();
  const TrainingData data = load({.train_file = file, .validation_file = file, .encoding = "latin-1"});
  EXPECT_EQ(data.labels.names, (Strings{"c", "caf\xC3\xA9"}));
  EXPECT_EQ(data.validation.rows[0].text, "\xC3\xA9t\xC3\xA9");
  expect_error([&] { load({.train_file = file}); }, "format.encoding", {"line 2, column 1"});
}

TEST_F(LoadTrainingData, RefusesASetOfOneLabel) {
  expect_error([&] { labels_of(write("a.tsv", "text\tlabel\na\tx\nb\tx\n")); }, "data.one-label", {"'x'", "a.tsv"});
}

TEST_F(LoadTrainingData, SaysWhatIsMissingWhenNothingIsNamed) {
  expect_error([&] { load({}); }, "config.no-data", {"train_file", "task_name"});
  expect_error([&] { load({.dataset_dir = folder_.string()}); }, "config.dataset-dir", {"task_name"});
}

TEST_F(LoadTrainingData, HoldsOutANumberOfRows) {
  std::string text = "text\tlabel\n";
  for (int i = 0; i < 20; ++i) text += "row " + std::to_string(i) + (i % 2 ? "\tx\n" : "\ty\n");
  DataOptions options{.train_file = write("t.tsv", text).string(), .validation_split = 7};
  const TrainingData data = load(options);
  EXPECT_EQ(data.train.rows.size(), 13u);
  EXPECT_EQ(data.validation.rows.size(), 7u);
  options.validation_split = 20;
  expect_error([&] { load(options); }, "data.too-few-rows", {"20 rows", "t.tsv"});
  for (const double neither : {1.0, 2.5}) {
    options.validation_split = neither;
    expect_error([&] { load(options); }, "config.out-of-range", {"validation_split"});
  }
}

TEST_F(LoadTrainingData, HoldsOutAShareThatLoadSplitFindsAgain) {
  std::string text = "text\tlabel\n";
  for (int i = 0; i < 50; ++i) text += "row " + std::to_string(i) + (i % 2 ? "\tx\n" : "\ty\n");
  const DataOptions options{.train_file = write("t.tsv", text).string(), .validation_split = 0.2};
  const TrainingData data = load(options);
  EXPECT_EQ(data.train.rows.size(), 40u);
  ASSERT_EQ(data.validation.rows.size(), 10u);
  std::set<std::string> seen;
  for (const Example& row : data.train.rows) seen.insert(row.text);
  for (const Example& row : data.validation.rows) seen.insert(row.text);
  EXPECT_EQ(seen.size(), 50u);

  const Dataset again = load_split(options, Split::validation, data.labels, Labels::needed, 42);
  const Dataset other = load_split(options, Split::validation, data.labels, Labels::needed, 43);
  ASSERT_EQ(again.rows.size(), 10u);
  bool differs = false;
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(again.rows[i].line, data.validation.rows[i].line);
    differs = differs || other.rows[i].line != again.rows[i].line;
  }
  EXPECT_TRUE(differs);
  EXPECT_EQ(load_split(options, Split::train, data.labels, Labels::needed, 42).rows.size(), 40u);
}

TEST_F(LoadTrainingData, CutsToTheFirstRows) {
  const auto file = write("t.tsv", "text\tlabel\na\tx\nb\ty\nc\tx\n").string();
  const DataOptions options{.train_file = file, .validation_file = file, .max_train_samples = 2, .max_eval_samples = 1};
  const TrainingData data = load(options);
  ASSERT_EQ(data.train.rows.size(), 2u);
  EXPECT_EQ(data.train.rows[1].text, "b");
  EXPECT_EQ(data.validation.rows.size(), 1u);
}

TEST_F(LoadSplit, NeedsNoLabelsForPrediction) {
  const LabelSet labels{.regression = false, .names = {"x", "y"}};
  const auto bare = write("a.tsv", "text\na\nb\n");
  const Dataset dataset = load_split({.test_file = bare.string()}, Split::test, labels, Labels::ignored, 42);
  EXPECT_EQ(dataset.rows.size(), 2u);
  EXPECT_FALSE(dataset.labelled);
  const auto strange = write("b.tsv", "text\tlabel\na\tunheard of\n");
  EXPECT_EQ(load_file(strange, {}, labels, Labels::ignored).rows[0].text, "a");
  expect_error([&] { load_file(bare, {}, labels, Labels::needed); }, "config.missing-column", {"'label'", "a.tsv"});
}

TEST_F(LoadSplit, KeepsWhatTheFileCallsItsRows) {
  const LabelSet labels{.regression = false, .names = {"x", "y"}};
  const auto named = write("a.csv", "id,text\n007,a\n,b\n");
  EXPECT_EQ(load_file(named, {}, labels, Labels::ignored).rows[0].id, "007");
  const auto numbered = write("b.jsonl", "{\"id\": 7, \"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const Dataset dataset = load_file(numbered, {.text_column = "text"}, labels, Labels::ignored);
  EXPECT_EQ(dataset.rows[0].id, 7);
  EXPECT_TRUE(dataset.rows[1].id.is_null());
}

TEST(LabelSet, TakesClassNumbersWhereNamesAreWords) {
  const LabelSet words{.regression = false, .names = {"no", "yes"}};
  EXPECT_EQ(words.find("yes"), 1);
  EXPECT_EQ(words.find("0"), 0);
  EXPECT_EQ(words.find("2"), std::nullopt);
  EXPECT_EQ(words.find("-1"), std::nullopt);
  EXPECT_EQ(words.find("99999999999999999999"), std::nullopt);
  const LabelSet numbers{.regression = false, .names = {"1", "2", "3"}};
  EXPECT_EQ(numbers.find("1"), 0);
  EXPECT_EQ(numbers.find("0"), std::nullopt);
}

TEST(HoldOut, KeepsARowOnEitherSide) {
  Dataset three{.file = "t.tsv", .labelled = true, .rows = {{.text = "a"}, {.text = "b"}, {.text = "c"}}};
  EXPECT_EQ(hold_out(three, 0.001, 1).second.rows.size(), 1u);
  EXPECT_EQ(hold_out(three, 0.999, 1).first.rows.size(), 1u);
  three.rows.resize(1);
  expect_error([&] { hold_out(three, 0.5, 1); }, "data.too-few-rows", {"t.tsv", "two rows"});
}

TEST(HoldOut, TakesTheNearestWholeNumberOfRows) {
  const Dataset seven{.file = "t.tsv", .labelled = true, .rows = std::vector<Example>(7)};
  EXPECT_EQ(hold_out(seven, 0.2, 1).second.rows.size(), 1u);   // 1.4
  EXPECT_EQ(hold_out(seven, 0.25, 1).second.rows.size(), 2u);  // 1.75
}

TEST(MetricNames, FollowTheKindOfLabels) {
  const LabelSet classes{.regression = false, .names = {"x", "y"}};
  const LabelSet scores{.regression = true};
  EXPECT_EQ(metric_names({}, classes), (Strings{"accuracy", "f1", "roc_auc"}));
  EXPECT_EQ(metric_names({}, scores), (Strings{"mse", "rmse", "r2", "pearson", "spearmanr"}));
  EXPECT_EQ(metric_names({.task_name = "cola"}, classes), (Strings{"matthews_correlation"}));
  EXPECT_EQ(metric_names({.task_name = "cola"}, scores), (Strings{"mse", "rmse", "r2", "pearson", "spearmanr"}));
}

TEST(DataOptions, RefusesWhatIsOutOfRange) {
  DataOptions options;
  expect_error(
      [&] {
        read_fields(fields_of(options), Json{{"validation_split", -0.1}}, "run.yaml");
      },
      "config.out-of-range", {"validation_split", "run.yaml"});
  expect_error(
      [&] {
        read_fields(fields_of(options), Json{{"problem_type", "regresion"}}, "run.yaml");
      },
      "config.out-of-range", {"problem_type", "regression"});
  read_fields(fields_of(options), Json{{"label_names", "no,yes"}, {"max_length", "64"}}, "command line");
  EXPECT_EQ(options.label_names, (Strings{"no", "yes"}));
  EXPECT_EQ(options.max_length, 64);
}

}  // namespace
}  // namespace deltaw
