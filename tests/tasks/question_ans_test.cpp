// Loss, windows, answers and scores of question answering, by logits that are known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/golden.h"
#include "support/temporary.h"
#include "tasks/question_ans/reader.h"
#include "tasks/question_ans/scorer.h"

namespace deltaw {
namespace {

using namespace question_ans;
using test::differs;
using test::fixture;
using test::Golden;

/// Logits by the token's id alone, of padding no number.
class Pointer final : public Model {
 public:
  explicit Pointer(Tensor table) : table_(std::move(table)) {
    vocab_size_ = table_.size(0);
    config_ = {{"model_type", "bert"}};
  }
  std::string task_type() const override { return "QUESTION_ANS"; }
  Tensor features(const ModelInput& input, Call& /*call*/) const override {
    const Tensor found = at::embedding(table_, input.input_ids);
    return found.masked_fill(input.attention_mask.eq(0).unsqueeze(-1), std::numeric_limits<double>::quiet_NaN());
  }
  Tensor logits(const Tensor& features, Call& /*call*/) const override { return features; }

 private:
  Tensor table_;
};

Tensor random_table(int64_t rows) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  return at::empty({rows, 2}, at::kDouble).normal_(0, 1, generator);
}

std::unique_ptr<Task> task() {
  return make_task({});
}

std::vector<EncodedRow> rows_of(int64_t count) {
  std::vector<EncodedRow> rows;
  for (int64_t i = 0; i < count; ++i) {
    EncodedRow row{.labels = {static_cast<double>(i % 3), 2}, .index = i};
    for (int64_t token = 0; token < 3 + i % 5; ++token) row.ids.push_back((7 * i + 3 * token) % 20);
    rows.push_back(row);
  }
  return rows;
}

// ---- loss ----

TEST(QuestionAns, HasTheLossOfTransformersWithoutPadding) {
  for (const char* name : {"bert_answers", "modernbert_answers"}) {
    const Golden io(fixture(std::string("golden/models/") + name + "/io.safetensors"));
    const Tensor labels = at::stack({io["start_positions"], io["end_positions"]}, 1);
    const Batch batch{.rows = labels.size(0),
                      .tensors = {{"labels", labels.to(at::kDouble)}, {"attention_mask", io["attention_mask"]}}};
    const Pointer model(random_table(2));
    Call call;
    const double weight = task()->weight(batch);
    EXPECT_EQ(weight, static_cast<double>(labels.size(0)));
    const Tensor loss = task()->loss(model, {io["logits64"]}, batch, call, {.total_weight = weight});
    EXPECT_EQ(differs(loss.reshape({1}), io["loss64"], 1e-9), "") << name;
  }
}

TEST(QuestionAns, LosesAlikeInOneBatchAndInSeveralPaddedOnEitherSide) {
  const Pointer model(random_table(20).requires_grad_());
  const auto loss_of = [&](const std::vector<std::vector<int64_t>>& batches, bool left) {
    const TextRows rows(rows_of(8), 0, left);
    Tensor sum = at::zeros({}, at::kDouble);
    for (const auto& positions : batches) {
      const Batch batch = rows.collate(positions, {});
      Call call;
      sum = sum + task()->loss(model, task()->outputs(model, batch, call), batch, call, {.total_weight = 8});
    }
    return sum.item<double>();
  };
  const double alone = loss_of({{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}, false);
  EXPECT_TRUE(std::isfinite(alone));
  for (const bool left : {false, true}) {
    EXPECT_NEAR(loss_of({{0, 1, 2, 3, 4, 5, 6, 7}}, left), alone, 1e-12) << left;
    EXPECT_NEAR(loss_of({{4, 1}, {7, 2, 0}, {3}, {6, 5}}, left), alone, 1e-12) << left;
  }
}

TEST(QuestionAns, PassesNoGradientToPadding) {
  const Pointer model(random_table(20).requires_grad_());
  const Batch batch = TextRows(rows_of(8), 0, false).collate({0, 4}, {});
  Call call;
  const Outputs outputs = task()->outputs(model, batch, call);
  outputs[0].retain_grad();
  task()->loss(model, outputs, batch, call, {.total_weight = 1}).backward();
  EXPECT_TRUE(outputs[0].grad().isfinite().all().item<bool>());
  EXPECT_EQ(outputs[0].grad()[0].slice(0, 3).abs().sum().item<double>(), 0);
}

TEST(QuestionAns, RefusesLabelsThatAreNoTokens) {
  const Pointer model(random_table(20));
  const auto id_of = [&](std::vector<double> labels) {
    return test::error_of([&] {
             task()->check(model, nullptr, TextRows({{.ids = {1, 2, 3}, .labels = std::move(labels)}}, 0, false), "x");
           })
        .id();
  };
  EXPECT_EQ(id_of({0, 2}), "none");
  EXPECT_EQ(id_of({0, 3}), "data.label");
  EXPECT_EQ(id_of({-1, 2}), "data.label");
  EXPECT_EQ(id_of({0.5, 2}), "data.label");
  EXPECT_EQ(id_of({0}), "data.label");
  EXPECT_EQ(id_of({}), "data.label");
}

TEST(QuestionAns, MakesRandomRowsThatItTakes) {
  const Pointer model(random_table(20));
  const auto rows = task()->random_rows(model, 3, 6, 1);
  task()->check(model, nullptr, *rows, "random");
  EXPECT_NEAR(task()->chance_loss(model, *rows), std::log(6.0), 1e-12);
  const auto scorer = task()->scorer(model, nullptr, *rows, {});
  score(*task(), model, nullptr, *rows, 2, *scorer);
  EXPECT_TRUE(scorer->metrics()["loss"].is_number());
}

// ---- windows ----

const char* const kContext =
    "The unaffordable school was of John's president, said the internationalization of the school.";

Question question(std::vector<Answer> answers = {}, std::string context = kContext) {
  return {.question = "  Who was the president?",
          .context = std::make_shared<const std::string>(std::move(context)),
          .answers = std::move(answers)};
}

Tokenizer word_piece() {
  return Tokenizer::from_file(fixture("text/fixtures/wordpiece/tokenizer.json"));
}

TEST(QuestionWindows, AreThoseOfTheTokenizersLibrary) {
  const Tokenizer tokenizer = word_piece();
  const EncodedQuestions encoded = encode_questions({.rows = {question()}}, tokenizer, 20, 4);
  std::vector<std::string> first_and_last;
  for (const EncodedRow& row : encoded.rows) {
    EXPECT_EQ(row.ids.size(), 20u);
    EXPECT_EQ(tokenizer.id_to_token(row.ids[0]), "[CLS]");
    EXPECT_EQ(tokenizer.id_to_token(row.ids[9]), "[SEP]");
    EXPECT_EQ(tokenizer.id_to_token(row.ids[19]), "[SEP]");
    EXPECT_EQ(row.type_ids[9], 0);
    EXPECT_EQ(row.type_ids[10], 1);
    first_and_last.push_back(*tokenizer.id_to_token(row.ids[10]) + " " + *tokenizer.id_to_token(row.ids[18]));
  }
  EXPECT_EQ(first_and_last, (std::vector<std::string>{"the of", "##l s", "##o ##id", "##ident the", "int ."}));
  EXPECT_EQ(encoded.long_contexts, 1);
  EXPECT_EQ(encode_questions({.rows = {question()}}, tokenizer, 40, 4).rows.size(), 1u);
}

TEST(QuestionWindows, PointToTheAnswerOrToTheFirstToken) {
  const auto labels_of = [](std::vector<Answer> answers, int64_t max_length) {
    std::vector<std::vector<double>> labels;
    const EncodedQuestions encoded =
        encode_questions({.rows = {question(std::move(answers))}}, word_piece(), max_length, 4);
    for (const EncodedRow& row : encoded.rows) labels.push_back(row.labels);
    return labels;
  };
  using Labels = std::vector<std::vector<double>>;
  EXPECT_EQ(labels_of({{"president", 38}}, 20), (Labels{{0, 0}, {0, 0}, {14, 15}, {0, 0}, {0, 0}}));
  EXPECT_EQ(labels_of({{"president", 38}, {"The", 0}}, 40), (Labels{{24, 25}}));
  EXPECT_EQ(labels_of({{"The", 0}}, 40), (Labels{{10, 10}}));
  EXPECT_EQ(labels_of({{"school.", 86}}, 40), (Labels{{34, 38}})) << "the last token, and not one behind it";
  EXPECT_EQ(labels_of({{"resid", 39}}, 40), (Labels{{24, 25}})) << "the tokens around it";
  EXPECT_EQ(labels_of({}, 40), (Labels{{0, 0}}));
}

TEST(QuestionWindows, LeaveRoomForWhatIsNew) {
  EXPECT_EQ(cut(5, 3, 1), (std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {2, 5}}));
  EXPECT_EQ(cut(3, 3, 1), (std::vector<std::pair<int64_t, int64_t>>{{0, 3}}));
  EXPECT_EQ(cut(0, 3, 1), (std::vector<std::pair<int64_t, int64_t>>{{0, 0}}));
  const Tokenizer tokenizer = word_piece();
  const auto error = [&](int64_t max_length, int64_t stride) {
    return test::error_of([&] { encode_questions({.rows = {question()}}, tokenizer, max_length, stride); }).id();
  };
  EXPECT_EQ(error(20, 9), "data.long-question");
  EXPECT_EQ(error(20, 8), "none");
  EXPECT_EQ(error(11, 0), "data.long-question");
  EXPECT_EQ(error(12, 0), "none");
}

// ---- answers ----

/// [CLS] question [SEP] and two tokens of the context, "a bcd".
struct Spans {
  std::vector<float> start = {1, 9, 0, 3, 2, 0}, end = {0, 9, 0, 1, 4, 0};
  Offsets offsets = {{0, 1}, {2, 5}};
  Said best(const AnswerOptions& options) const {
    const Window window{.question = 0, .input = 3, .begin = 0, .end = 2};
    return best_answer({{.start = start.data(), .end = end.data(), .tokens = 6, .window = window}}, offsets, options);
  }
};

TEST(BestAnswer, IsOfTheContextAndHasTheLargestSum) {
  const Said said = Spans().best({});
  EXPECT_EQ(said.begin, 0);
  EXPECT_EQ(said.end, 5);
  EXPECT_NEAR(said.score, 1 / (1 + std::exp(-1) + std::exp(-3)), 1e-9);
  const Said single = Spans().best({.max_answer_length = 1});
  EXPECT_EQ(single.begin, 2);
  EXPECT_EQ(single.end, 5);
  const Said none = Spans().best({.n_best_size = 1});
  EXPECT_EQ(none.end, 0) << "the best start and end are of the question";
  EXPECT_EQ(none.score, 0);
}

TEST(BestAnswer, MayBeNoneByTheThreshold) {
  const Said said = Spans().best({.version_2_with_negative = true});
  EXPECT_EQ(said.end, 5);
  EXPECT_DOUBLE_EQ(said.null_score_diff, -6);
  const double sum = 1 + std::exp(-1) + std::exp(-3) + std::exp(-6);
  EXPECT_NEAR(said.score, 1 / sum, 1e-9);
  EXPECT_EQ(Spans().best({.version_2_with_negative = true, .null_score_diff_threshold = -6}).end, 5);
  const Said none = Spans().best({.version_2_with_negative = true, .null_score_diff_threshold = -6.5});
  EXPECT_EQ(none.end, 0);
  EXPECT_NEAR(none.score, std::exp(-6) / sum, 1e-9);
  const Said few = Spans().best({.version_2_with_negative = true, .n_best_size = 2});
  EXPECT_DOUBLE_EQ(few.null_score_diff, -6) << "no answer is kept though it is not among the best";
}

TEST(BestAnswer, TakesTheLowestScoreOfNoAnswerOfAllWindows) {
  const std::vector<float> first = {5, 1, 1}, second = {-2, 1, 3};
  const Offsets offsets = {{0, 1}, {2, 3}};
  const auto logits = [&](const std::vector<float>& values, int64_t token) {
    return WindowLogits{.start = values.data(),
                        .end = values.data(),
                        .tokens = 3,
                        .window = {.input = 2, .begin = token, .end = token + 1}};
  };
  const Said said = best_answer({logits(first, 0), logits(second, 1)}, offsets, {.version_2_with_negative = true});
  EXPECT_DOUBLE_EQ(said.null_score_diff, -4 - 6);
  EXPECT_EQ(said.begin, 2);
}

// ---- scores ----

TEST(Squad, NormalisesAsItsScriptsDo) {
  EXPECT_EQ(normalised("The  Cat's\tan apple, a-b THEN!"), "cats apple ab then");
  EXPECT_EQ(normalised("an"), "");
  EXPECT_EQ(normalised("\xE2\x80\x9CThe house\xE2\x80\x9D"), "\xE2\x80\x9C house\xE2\x80\x9D");
  EXPECT_EQ(normalised("\xC3\x89"
                       "cole a\xC3\xA9"),
            "\xC3\xA9"
            "cole a\xC3\xA9");
  EXPECT_EQ(exact_match("the Eiffel Tower.", "Eiffel tower"), 1);
  EXPECT_DOUBLE_EQ(f1("the big big dog", "a big dog barks"), 2 * 2. / (3 + 3));
  EXPECT_EQ(f1("", "the"), 1);
  EXPECT_EQ(f1("dog", ""), 0);
}

TEST(Squad, CountsTheBestAnswerInPercent) {
  SquadScores scores;
  scores.add("big dog", {{"small cat", 0}, {"the big dog", 0}, {"dog", 0}});
  scores.add("dog", {{"big dog", 0}});
  scores.add("", {});
  scores.add("dog", {});
  const Json all = scores.metrics(true);
  EXPECT_DOUBLE_EQ(all["exact_match"], 50);
  EXPECT_DOUBLE_EQ(all["f1"], 100 * (1 + 2. / 3 + 1) / 4);
  EXPECT_DOUBLE_EQ(all["HasAns_exact"], 50);
  EXPECT_DOUBLE_EQ(all["NoAns_f1"], 50);
  EXPECT_FALSE(scores.metrics(false).contains("NoAns_f1"));
  EXPECT_TRUE(SquadScores().metrics(false)["f1"].is_null());
}

TEST(AnswerScorer, DoesNotDependOnBatchesAndPadding) {
  const Tokenizer tokenizer = word_piece();
  const Pointer model(random_table(tokenizer.vocab_size()));
  const QuestionSet set{
      .rows = {question({{"president", 38}}), question({{"school", 4}}, "the school was of John's"), question({})}};
  const auto scores = [&](int64_t batch_size, bool left) {
    const AnswerWindows rows(set, encode_questions(set, tokenizer, 20, 4), 0, left);
    AnswerScorer scorer(rows, {.version_2_with_negative = true});
    score(*task(), model, nullptr, rows, batch_size, scorer);
    Json all = {scorer.row(0), scorer.row(5), scorer.answer(2), scorer.metrics()};
    all[3]["loss"] = std::round(all[3]["loss"].get<double>() * 1e4);
    EXPECT_EQ(scorer.tensors().size(), 12u);
    EXPECT_EQ(scorer.tensors()[4].first, "logits.0.4");
    EXPECT_EQ(scorer.tensors()[4].second.sizes(), (std::vector<int64_t>{20, 2}));
    return all;
  };
  const Json alone = scores(1, false);
  EXPECT_EQ(scores(4, false), alone);
  EXPECT_EQ(scores(4, true), alone);
}

TEST(AnswerScorer, SaysWhichQuestionHasNoNumbers) {
  const Tokenizer tokenizer = word_piece();
  const Pointer model(at::full({tokenizer.vocab_size(), 2}, std::numeric_limits<double>::infinity(), at::kDouble));
  const QuestionSet set{.rows = {question()}};
  const AnswerWindows rows(set, encode_questions(set, tokenizer, 40, 4), 0, false);
  AnswerScorer scorer(rows, {});
  score(*task(), model, nullptr, rows, 1, scorer);
  EXPECT_EQ(test::error_of([&] { scorer.answer(0); }).id(), "numeric.non-finite");
  EXPECT_EQ(test::error_of([&] { scorer.metrics(); }).id(), "numeric.non-finite");
}

}  // namespace
}  // namespace deltaw
