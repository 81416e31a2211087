// Loss, scores and predictions of token classification, by a model that looks its logits up.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "deltaw/error.h"
#include "deltaw/task_reader.h"
#include "support/golden.h"
#include "tasks/token_cls/predictions.h"
#include "tasks/token_cls/reader.h"
#include "tasks/token_cls/rows.h"

namespace deltaw {
namespace {

using test::differs;
using test::fixture;
using test::Golden;
using token_cls::WordWindows;

const std::vector<std::string> kNames = {"O", "B-PER", "I-PER", "B-LOC", "I-LOC"};

/// Logits by the token's id alone, of padding no number.
class Tagger final : public Model {
 public:
  explicit Tagger(Tensor table, std::vector<std::string> labels = kNames) : table_(std::move(table)) {
    labels_ = std::move(labels);
    vocab_size_ = table_.size(0);
    folder_ = "tagger";
    config_ = {{"model_type", "bert"}};
  }
  std::string task_type() const override { return "TOKEN_CLS"; }
  Tensor features(const ModelInput& input, Call& /*call*/) const override {
    const Tensor found = at::embedding(table_, input.input_ids);
    return found.masked_fill(input.attention_mask.eq(0).unsqueeze(-1), std::numeric_limits<double>::quiet_NaN());
  }
  Tensor logits(const Tensor& features, Call& /*call*/) const override { return features; }

 private:
  Tensor table_;
};

Tensor random_table(int64_t rows, int64_t columns) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  return at::empty({rows, columns}, at::kFloat).normal_(0, 1, generator);
}

std::unique_ptr<Task> task(const std::string& scheme = {}) {
  return token_cls::make_task(scheme);
}

/// Rows of 3 to 9 tokens of which two in three have a label.
std::vector<EncodedRow> rows_of(int64_t count) {
  std::vector<EncodedRow> rows;
  for (int64_t i = 0; i < count; ++i) {
    EncodedRow row{.index = i};
    for (int64_t token = 0; token < 3 + i % 7; ++token) {
      row.ids.push_back((7 * i + 3 * token) % 20);
      row.token_labels.push_back(token % 3 == 0 ? kNoLabel : (i + token) % 5);
    }
    rows.push_back(row);
  }
  return rows;
}

Batch batch_of(const Tensor& labels) {
  return {.rows = labels.size(0), .tensors = {{"labels", labels}, {"attention_mask", at::ones_like(labels)}}};
}

TEST(TokenCls, HasTheLossAndTheGradientOfTransformers) {
  const Golden io(fixture("golden/token_cls/io.safetensors"));
  const Tagger model(random_table(20, 5));
  const Tensor logits = io["logits"].clone().requires_grad_();
  const Batch batch = batch_of(io["labels"]);
  const double weight = task()->weight(batch);
  EXPECT_EQ(weight, io["labels"].ne(kNoLabel).sum().item<double>());
  Call call;
  const Tensor loss = task()->loss(model, {logits}, batch, call, {.total_weight = weight});
  loss.backward();
  constexpr double kTolerance = 1e-6;  // transformers takes it in float32
  EXPECT_EQ(differs(loss, io["loss"], kTolerance), "");
  EXPECT_EQ(differs(logits.grad(), io["gradient"], kTolerance), "");
  const Tensor smoothed = task()->loss(model, {logits}, batch, call, {.total_weight = weight, .label_smoothing = 0.1});
  EXPECT_EQ(differs(smoothed, io["smoothed"], kTolerance), "");
}

TEST(TokenCls, LosesAlikeInOneBatchAndInSeveral) {
  const Tagger model(random_table(20, 5).to(at::kDouble));
  const TextRows rows(rows_of(8), 0, false);
  const auto loss_of = [&](const std::vector<std::vector<int64_t>>& batches) {
    double weight = 0, sum = 0;
    for (const auto& positions : batches) weight += task()->weight(rows.collate(positions, {}));
    for (const auto& positions : batches) {
      const Batch batch = rows.collate(positions, {});
      Call call;
      sum += task()
                 ->loss(model, task()->outputs(model, batch, call), batch, call, {.total_weight = weight})
                 .item<double>();
    }
    return sum;
  };
  const double whole = loss_of({{0, 1, 2, 3, 4, 5, 6, 7}});
  EXPECT_TRUE(std::isfinite(whole));  // though the logits of padding are no numbers
  EXPECT_NEAR(loss_of({{4, 1}, {7, 2, 0}, {3}, {6, 5}}), whole, 1e-12);
}

TEST(TokenCls, PassesNoGradientToPadding) {
  const Tagger model(random_table(20, 5).to(at::kDouble).requires_grad_());
  const TextRows rows(rows_of(8), 0, false);
  const Batch batch = rows.collate({0, 6}, {});
  Call call;
  const Outputs outputs = task()->outputs(model, batch, call);
  outputs[0].retain_grad();
  task()->loss(model, outputs, batch, call, {.total_weight = 1}).backward();
  EXPECT_TRUE(outputs[0].grad().isfinite().all().item<bool>());
}

TEST(TokenCls, RefusesLabelsThatTheModelDoesNotHave) {
  const Tagger model(random_table(20, 5));
  const auto id_of = [&](std::vector<EncodedRow> rows, const std::string& scheme = {}) -> std::string {
    try {
      task(scheme)->check(model, nullptr, TextRows(std::move(rows), 0, false), "training");
    } catch (const Error& error) {
      return error.id();
    }
    return "";
  };
  EXPECT_EQ(id_of(rows_of(3)), "");
  EXPECT_EQ(id_of({}), "");
  EXPECT_EQ(id_of({{.ids = {1, 2}, .token_labels = {5, 0}}}), "data.label");
  EXPECT_EQ(id_of({{.ids = {1, 2}, .token_labels = {0}}}), "data.label");
  EXPECT_EQ(id_of({{.ids = {1, 2}, .token_labels = {kNoLabel, kNoLabel}}}), "data.no-trained-tokens");
  EXPECT_EQ(id_of({{.ids = {1, 99}, .token_labels = {0, 0}}}), "data.token-id");
  EXPECT_EQ(id_of(rows_of(3), "BILOU"), "");
  EXPECT_EQ(id_of(rows_of(3), "IOE2"), "config.scheme");
}

TEST(TokenCls, ComparesTheLogitsOfTokensAndOfNoPadding) {
  const Tagger model(random_table(20, 5));
  const TextRows rows(rows_of(4), 0, false);
  const Batch batch = rows.collate({0, 3}, {});
  Call call;
  const Tensor compared = task()->comparable(model, task()->outputs(model, batch, call), batch, call);
  EXPECT_EQ(compared.size(0), 3 + 6);
  EXPECT_TRUE(compared.isfinite().all().item<bool>());
}

TEST(TokenCls, MakesRandomRowsThatItTakes) {
  const Tagger model(random_table(20, 5));
  const auto rows = task()->random_rows(model, 3, 6, 1);
  task()->check(model, nullptr, *rows, "random");
  EXPECT_EQ(task()->weight(rows->collate({0, 1, 2}, {})), 18);
  EXPECT_NEAR(task()->chance_loss(model, *rows), std::log(5.0), 1e-12);
}

// ---- scores ----

/// A table in which token i says label i, if there is one, else O.
Tensor saying() {
  Tensor table = at::zeros({20, 5}, at::kFloat);
  for (int64_t i = 0; i < 20; ++i) table[i][i < 5 ? i : 0] = 4;
  return table;
}

Json scores_of(const Model& model, const RowSource& rows, const std::string& scheme = {}, int64_t batch_size = 3) {
  const auto scorer = task(scheme)->scorer(model, nullptr, rows, {"f1", "precision", "recall", "accuracy", "loss"});
  score(*task(scheme), model, nullptr, rows, batch_size, *scorer);
  return scorer->metrics();
}

TEST(TokenScores, CountEntitiesOfRowsAndTheLossOfLabelledTokens) {
  const Tagger model(saying());
  // Said: B-PER I-PER O B-LOC, and B-LOC.
  const TextRows rows({{.ids = {9, 1, 2, 0, 3}, .token_labels = {kNoLabel, 1, 2, 0, 1}},
                       {.ids = {3, 9}, .token_labels = {3, kNoLabel}}},
                      0, false);
  const Json scores = scores_of(model, rows);
  EXPECT_DOUBLE_EQ(scores["precision"], 2. / 3);
  EXPECT_DOUBLE_EQ(scores["recall"], 2. / 3);
  EXPECT_DOUBLE_EQ(scores["f1"], 2. / 3);
  EXPECT_DOUBLE_EQ(scores["accuracy"], 4. / 5);
  const double right = std::log(std::exp(4.) + 4) - 4, wrong = std::log(std::exp(4.) + 4);
  EXPECT_NEAR(scores["loss"], (4 * right + wrong) / 5, 1e-6);
}

TEST(TokenScores, DoNotDependOnBatchesAndPadding) {
  const Tagger model(random_table(20, 5));
  const Json alone = scores_of(model, TextRows(rows_of(12), 0, false), {}, 1);
  for (const bool left : {false, true}) {
    EXPECT_EQ(scores_of(model, TextRows(rows_of(12), 0, left), {}, 5), alone) << left;
  }
}

data::EncodedWords encoded(const Tokenizer& tokenizer, int64_t max_length, bool labelled = true, bool all = false) {
  data::WordDataset dataset;
  dataset.rows.push_back(
      {.words = {"unaffordable", "said", "school", "was", "internationalization", "the", "of", "president", "John's"},
       .labels = {1, 0, 0, 3, 4, 0, 0, 1, 2}});
  dataset.rows.push_back({.words = {}, .labels = {}});
  dataset.rows.push_back({.words = {"said"}, .labels = {0}});
  dataset.rows.push_back({.text = "president said", .is_text = true});
  if (labelled) dataset.rows.pop_back();
  for (data::WordRow& row : dataset.rows) {
    if (!labelled) row.labels.clear();
  }
  return data::encode_words(dataset, tokenizer, {.names = kNames}, {.max_length = max_length, .label_all_tokens = all});
}

TEST(TokenScores, OfWindowsAreThoseOfWholeRows) {
  const Tokenizer tokenizer = Tokenizer::from_file(fixture("text/fixtures/wordpiece/tokenizer.json"));
  const Tagger model(random_table(tokenizer.vocab_size(), 5));
  for (const bool all : {false, true}) {
    const WordWindows whole(encoded(tokenizer, 512, true, all), 0, false),
        cut(encoded(tokenizer, 8, true, all), 0, true);
    ASSERT_GT(cut.size(), whole.size());
    const Json expected = scores_of(model, whole), own = scores_of(model, cut);
    for (const auto& [name, value] : expected.items()) EXPECT_NEAR(own[name], value, 1e-6) << name;
    // Every word is scored once, whether its further tokens are labelled or not.
    token_cls::TokenScorer scorer(model, cut, {}, {"accuracy"});
    score(*task(), model, nullptr, cut, 2, scorer);
    EXPECT_EQ(scorer.row(0)["tags"].size(), 9u);
  }
}

TEST(TokenScores, RefuseLogitsThatAreNoNumbers) {
  Tensor table = saying();
  table[3][0] = std::numeric_limits<float>::quiet_NaN();
  const TextRows rows({{.ids = {1, 2}, .token_labels = {1, 2}}, {.ids = {3, 1}, .token_labels = {3, 1}}}, 0, false);
  try {
    scores_of(Tagger(table), rows);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "numeric.non-finite");
    EXPECT_EQ(error.parts().where, "row 2 of the data");
  }
}

// ---- predictions ----

TEST(TokenPredictions, HaveEntitiesTagsAndLogitsOfEveryRow) {
  const Tokenizer tokenizer = Tokenizer::from_file(fixture("text/fixtures/wordpiece/tokenizer.json"));
  const Tagger model(random_table(tokenizer.vocab_size(), 5));
  const auto own = task();
  const AskedModel asked{.task = *own, .model = model, .batch_size = 2};
  const auto predicted = [&](int64_t max_length) {
    auto rows = std::make_shared<const WordWindows>(encoded(tokenizer, max_length, false), 0, false);
    return token_cls::predictions_of(asked, rows, std::vector<Json>(4), tokenizer, "first");
  };
  const auto whole = predicted(512), cut = predicted(8);
  ASSERT_EQ(whole->size(), 4);
  EXPECT_EQ(whole->row(0)["tags"].size(), 9u);
  EXPECT_EQ(whole->row(1), (Json{{"entities", Json::array()}}));
  EXPECT_FALSE(whole->row(3).contains("tags"));
  for (int64_t row = 0; row < 4; ++row) EXPECT_EQ(cut->row(row), whole->row(row));  // windows are of no account here
  const auto tensors = cut->tensors();
  ASSERT_EQ(tensors.size(), 3u);  // a row without tokens has none
  EXPECT_EQ(tensors[0].first, "logits.0");
  EXPECT_EQ(tensors[1].first, "logits.2");
  EXPECT_EQ(tensors[0].second.size(1), 5);
}

}  // namespace
}  // namespace deltaw
