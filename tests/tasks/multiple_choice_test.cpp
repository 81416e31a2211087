// Multiple choice: logits and losses of transformers, batches, texts as a model reads them, scores.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/golden.h"
#include "support/opened.h"
#include "support/oracle.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "tasks/multiple_choice/rows.h"
#include "tasks/multiple_choice/scorer.h"

namespace deltaw {
namespace {

using namespace multiple_choice;
using test::differs;
using test::fixture;
using test::Golden;
using test::logit_tolerance;

const Task& task() {
  static const std::unique_ptr<Task> task = find_task("multiple-choice").make();
  return *task;
}

// ---- transformers' heads ----

std::string folder_of(const std::string& family) {
  return fixture("golden/multiple_choice/" + family).string();
}

Golden io_of(const std::string& family) {
  return Golden(fixture("golden/multiple_choice/" + family + "/io.safetensors"));
}

/// The fixture's questions, of two choices each, as a batch.
Batch batch_of(const Golden& io) {
  const Tensor& labels = io["labels"];
  Batch batch{.rows = labels.size(0), .tensors = {{"labels", labels}}};
  for (const char* name : {"input_ids", "attention_mask", "token_type_ids"}) {
    if (io.has(name)) batch.tensors[name] = io[name].flatten(0, 1);
  }
  batch.tensors["choice_mask"] = at::ones(io["logits"].sizes(), at::kBool);
  for (int64_t row = 0; row < batch.rows; ++row) batch.positions.push_back(row);
  return batch;
}

class ChoiceOracle : public testing::TestWithParam<std::string> {};

TEST_P(ChoiceOracle, GivesTheLogitsAndTheLossOfTransformers) {
  const Golden io = io_of(GetParam());
  const Batch batch = batch_of(io);
  for (const char* dtype : {"float32", "float64"}) {
    const bool wide = std::string(dtype) == "float64";
    const auto model = load_model(folder_of(GetParam()), {.dtype = dtype});
    EXPECT_EQ(model->task_type(), "multiple-choice") << "config.json names the class";
    EXPECT_TRUE(model->new_modules().empty());
    Call call;
    const at::NoGradGuard no_grad;
    const Outputs outputs = task().outputs(*model, batch, call);
    const Tensor expected = io[wide ? "logits64" : "logits"];
    EXPECT_EQ(differs(outputs.at(0), expected, wide ? 1e-9 : logit_tolerance(expected)), "") << dtype;
    const double weight = task().weight(batch);
    const Tensor loss = task().loss(*model, outputs, batch, call, {.total_weight = weight});
    EXPECT_EQ(differs(loss.reshape({1}), io["loss64"], wide ? 1e-9 : 1e-4), "") << dtype;
    EXPECT_EQ(task().comparable(*model, outputs, batch, call).sizes(), (std::vector<int64_t>{expected.numel(), 1}));
  }
}

TEST_P(ChoiceOracle, PassesTheGradientOfTheLossToEveryWeightOfTheHead) {
  const auto model = load_model(folder_of(GetParam()), {.dtype = "float64"});
  AdapterConfig config;
  config.method = "full";
  Adapter adapter = Adapter::create(*model, config, 1);
  const Batch batch = batch_of(io_of(GetParam()));
  const auto loss = [&] {
    Call call{.adapter = &adapter, .training = true};
    return task().loss(*model, task().outputs(*model, batch, call), batch, call, {.total_weight = 2});
  };
  loss().backward();
  size_t of_head = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    if (tensor.name.find("layer") != std::string::npos && tensor.name.find("classifier") == std::string::npos) continue;
    const bool pools = tensor.name.find("pooler") != std::string::npos || tensor.name.starts_with("head.") ||
                       tensor.name.find("summary") != std::string::npos || tensor.name.starts_with("pre_");
    if (!pools && !tensor.name.starts_with("classifier")) continue;
    ++of_head;
    const at::NoGradGuard no_grad;
    Tensor value = tensor.value.flatten()[0];
    constexpr double kStep = 1e-5;
    value += kStep;
    const double above = loss().item<double>();
    value -= 2 * kStep;
    const double below = loss().item<double>();
    value += kStep;
    EXPECT_NEAR(tensor.value.grad().flatten()[0].item<double>(), (above - below) / (2 * kStep), 1e-6) << tensor.name;
  }
  EXPECT_GE(of_head, 3u);
}

INSTANTIATE_TEST_SUITE_P(Families, ChoiceOracle, testing::ValuesIn(test::folders("multiple_choice")),
                         [](const auto& i) { return i.param; });

TEST(ChoiceHead, IsDrawnWhereACheckpointHasNoneOfOneOutput) {
  const std::string bare = fixture("golden/models/bert_base").string();
  const auto drawn = load_model(bare, {.task_type = "multiple-choice", .dtype = "float32"});
  EXPECT_EQ(drawn->architecture(), "BertForMultipleChoice");
  EXPECT_EQ(drawn->new_modules().back(), "classifier");
  const std::string labelled = fixture("golden/models/bert_cls").string();
  const auto load = [&](bool ignores) {
    return load_model(labelled,
                      {.task_type = "multiple-choice", .dtype = "float32", .ignore_mismatched_sizes = ignores});
  };
  const Error error = test::error_of([&] { load(false); });
  EXPECT_EQ(error.id(), "shape.mismatch");
  EXPECT_NE(error.parts().what.find("outputs, 1 are asked for"), std::string::npos) << error.parts().what;
  EXPECT_EQ(load(true)->new_modules(), (std::vector<std::string>{"classifier"}));
}

// ---- PEFT's adapters ----

class ChoiceAdapters : public testing::TestWithParam<std::string> {
 protected:
  std::string folder = fixture("golden/choice_adapters/" + GetParam()).string();
  std::string base = folder_of(read_json(folder + "/case.json")["base"].get<std::string>());
  Golden io{folder + "/io.safetensors"};
  Batch batch = batch_of(io);
};

TEST_P(ChoiceAdapters, GivesTheLogitsTheLossAndEveryGradientOfPeft) {
  const auto model = load_model(base, {.dtype = "float64"});
  const Adapter adapter = Adapter::load(*model, folder, {.trainable = true});
  Call call{.adapter = &adapter};
  const Outputs outputs = task().outputs(*model, batch, call);
  EXPECT_EQ(differs(outputs.at(0), io["logits64"], 1e-7), "");
  const Tensor loss = task().loss(*model, outputs, batch, call, {.total_weight = task().weight(batch)});
  EXPECT_EQ(differs(loss.reshape({1}), io["loss64"], 1e-7), "");
  loss.backward();
  size_t found = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    const std::string name = "grad.base_model.model." + tensor.name;
    if (!io.has(name)) {  // of a head that PEFT keeps none of
      EXPECT_TRUE(tensor.name.starts_with("classifier")) << name;
      continue;
    }
    ++found;
    EXPECT_EQ(differs(tensor.value.grad(), io[name], 1e-7), "") << name;
  }
  EXPECT_EQ(found, io.names("grad.").size());
}

INSTANTIATE_TEST_SUITE_P(Peft, ChoiceAdapters, testing::ValuesIn(test::folders("choice_adapters")),
                         [](const auto& i) { return i.param; });

TEST(ChoiceAdapter, IsWrittenSoThatPeftReadsIt) {
  if (!test::has_peft()) GTEST_SKIP() << "needs PEFT";
  const test::TemporaryFolder written;
  std::string arguments;
  size_t count = 0;
  for (const char* family : {"bert", "distilbert", "electra", "modernbert"}) {
    const auto model = load_model(folder_of(family), {.dtype = "float32"});
    AdapterConfig config;
    config.method = "lora";
    config.task_type = "multiple-choice";
    Adapter adapter = Adapter::create(*model, config, 1);
    test::randomise(adapter, 2);
    const std::filesystem::path folder = written / family;
    std::filesystem::create_directories(folder);
    adapter.save(folder);
    const Json saved = read_json(folder / "adapter_config.json");
    EXPECT_TRUE(saved["task_type"].is_null());
    EXPECT_EQ(saved["auto_mapping"]["task"], "multiple-choice");
    EXPECT_TRUE(std::string(saved["auto_mapping"]["base_model_class"]).ends_with("ForMultipleChoice"));
    EXPECT_EQ(saved["modules_to_save"], Json({"classifier"})) << "PEFT would keep none of the head by itself";
    const Golden io = io_of(family);
    Call call{.adapter = &adapter};
    const at::NoGradGuard no_grad;
    const Tensor logits = task().outputs(*model, batch_of(io), call).at(0).contiguous();
    const std::string file = folder.string() + ".safetensors";
    io::write_safetensors(file, {to_bytes("logits", logits)});
    arguments += folder_of(family) + " " + folder.string() + " " + file + " " + folder_of(family) + "/io.safetensors ";
    ++count;
  }
  test::expect_no_problems("check_peft_loads.py", arguments, count, written.path());
}

// ---- rows and batches ----

/// A score by the text's tokens alone, padding left out.
class Summer final : public Model {
 public:
  explicit Summer(Tensor table) : table_(std::move(table)) {
    vocab_size_ = table_.size(0);
    config_ = {{"model_type", "bert"}};
  }
  std::string task_type() const override { return "multiple-choice"; }
  Tensor features(const ModelInput& input, Call& /*call*/) const override {
    const Tensor values = at::embedding(table_, input.input_ids).squeeze(2);
    return values.masked_fill(input.attention_mask.eq(0), 0).sum(1, /*keepdim=*/true);
  }
  Tensor logits(const Tensor& features, Call& /*call*/) const override { return features; }

 private:
  Tensor table_;
};

Tensor random_table(int64_t rows) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  return at::empty({rows, 1}, at::kDouble).normal_(0, 1, generator);
}

/// Questions of two to four choices of unequal lengths.
ChoiceRows rows_of(int64_t count, bool left = false) {
  EncodedChoices encoded;
  std::vector<int64_t> labels;
  for (int64_t row = 0; row < count; ++row) {
    const int64_t choices = 2 + row % 3;
    for (int64_t choice = 0; choice < choices; ++choice) {
      EncodedRow text{.index = row};
      for (int64_t token = 0; token < 1 + (row + 2 * choice) % 5; ++token) {
        text.ids.push_back((7 * row + 5 * choice + 3 * token) % 20);
      }
      encoded.texts.push_back(text);
    }
    encoded.counts.push_back(choices);
    labels.push_back(row % choices);
  }
  return {{}, std::move(encoded), std::move(labels), 0, left};
}

TEST(ChoiceRows, HoldTheChoicesOfAllRowsOneBehindTheOther) {
  const ChoiceRows rows = rows_of(3);
  const Batch batch = rows.collate({2, 0}, {});
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch["input_ids"].size(0), 4 + 2);
  EXPECT_EQ(batch["input_ids"][4][0].item<int64_t>(), 0) << "the first choice of the first row";
  EXPECT_EQ(batch["input_ids"][5][0].item<int64_t>(), 5) << "and its second one";
  EXPECT_TRUE(batch["choice_mask"].sum(1).equal(at::tensor({4, 2}, at::kLong)));
  EXPECT_TRUE(batch["labels"].equal(at::tensor({2, 0}, at::kLong)));
  EXPECT_EQ(batch.costs, (std::vector<int64_t>{rows.cost(2), rows.cost(0)}));
  EXPECT_EQ(rows.cost(0), 1 + 3);
}

TEST(ChoiceRows, AreOtherOnesWhereALabelOrABoundaryDiffers) {
  const auto print_of = [](std::vector<int64_t> counts, std::vector<int64_t> labels) {
    EncodedChoices encoded{.texts = {{.ids = {1}}, {.ids = {2}}, {.ids = {3}}, {.ids = {4}}, {.ids = {5}}},
                           .counts = std::move(counts)};
    return ChoiceRows({}, std::move(encoded), std::move(labels), 0, false).fingerprint();
  };
  EXPECT_EQ(print_of({2, 3}, {0, 1}), print_of({2, 3}, {0, 1}));
  EXPECT_NE(print_of({2, 3}, {0, 1}), print_of({3, 2}, {0, 1}));
  EXPECT_NE(print_of({2, 3}, {0, 1}), print_of({2, 3}, {1, 1}));
}

// ---- loss ----

TEST(MultipleChoice, LosesAlikeInOneBatchAndInSeveralPaddedOnEitherSide) {
  const Summer model(random_table(20));
  for (const double smoothing : {0.0, 0.3}) {
    const auto loss_of = [&](const std::vector<std::vector<int64_t>>& batches, bool left) {
      const ChoiceRows rows = rows_of(8, left);
      double sum = 0;
      for (const auto& positions : batches) {
        const Batch batch = rows.collate(positions, {});
        Call call;
        const Outputs outputs = task().outputs(model, batch, call);
        sum +=
            task().loss(model, outputs, batch, call, {.total_weight = 8, .label_smoothing = smoothing}).item<double>();
      }
      return sum;
    };
    const double alone = loss_of({{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}, false);
    EXPECT_TRUE(std::isfinite(alone));
    for (const bool left : {false, true}) {
      EXPECT_NEAR(loss_of({{0, 1, 2, 3, 4, 5, 6, 7}}, left), alone, 1e-12) << left;
      EXPECT_NEAR(loss_of({{4, 1}, {7, 2, 0}, {3}, {6, 5}}, left), alone, 1e-12) << left;
    }
  }
}

/// Two rows, of three choices and of two, with these scores.
struct Scored {
  ChoiceRows rows{{},
                  {.texts = {{.ids = {0}}, {.ids = {1}}, {.ids = {2}}, {.ids = {3}}, {.ids = {4}}}, .counts = {3, 2}},
                  {1, 0},
                  0,
                  false};
  Summer model{at::tensor({1.0, 2.0, 0.5, -1.0, 0.25}, at::kDouble).unsqueeze(1).requires_grad_()};
  Batch batch = rows.collate({0, 1}, {});
};

double log_sum(const std::vector<double>& logits) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return std::log(sum);
}

TEST(MultipleChoice, IsOverARowsOwnChoices) {
  const Scored c;
  Call call;
  const Outputs outputs = task().outputs(c.model, c.batch, call);
  EXPECT_EQ(outputs[0].sizes(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(outputs[0][1][2].item<double>(), -std::numeric_limits<double>::infinity());
  const double first = log_sum({1, 2, 0.5}), second = log_sum({-1, 0.25});
  const auto loss = [&](double smoothing) {
    return task().loss(c.model, outputs, c.batch, call, {.total_weight = 4, .label_smoothing = smoothing});
  };
  const double plain = (first - 2) + (second + 1);
  EXPECT_NEAR(loss(0).item<double>(), plain / 4, 1e-12);
  const double spread = (first - 3.5 / 3) + (second + 0.75 / 2);
  EXPECT_NEAR(loss(0.2).item<double>(), (0.8 * plain + 0.2 * spread) / 4, 1e-12);
  EXPECT_NEAR(task().chance_loss(c.model, c.rows), (std::log(3.0) + std::log(2.0)) / 2, 1e-12);
}

TEST(MultipleChoice, PassesTheGradientOfASoftmaxToEachChoice) {
  const Scored c;
  for (const double smoothing : {0.0, 0.2}) {
    Call call;
    const Outputs outputs = task().outputs(c.model, c.batch, call);
    outputs[0].retain_grad();
    task().loss(c.model, outputs, c.batch, call, {.total_weight = 1, .label_smoothing = smoothing}).backward();
    const double first = std::exp(2 - log_sum({1, 2, 0.5})) - (1 - smoothing) - smoothing / 3;
    EXPECT_NEAR(outputs[0].grad()[0][1].item<double>(), first, 1e-12);
    const double second = std::exp(-1 - log_sum({-1, 0.25})) - (1 - smoothing) - smoothing / 2;
    EXPECT_NEAR(outputs[0].grad()[1][0].item<double>(), second, 1e-12);
    EXPECT_EQ(outputs[0].grad()[1][2].item<double>(), 0) << "a choice that the row has not";
  }
}

TEST(MultipleChoice, RefusesLabelsThatAreNoChoices) {
  const Summer model(random_table(20));
  const auto id_of = [&](int64_t label) {
    const ChoiceRows rows({}, {.texts = {{.ids = {1}}, {.ids = {2}}}, .counts = {2}}, {label}, 0, false);
    return test::error_of([&] { task().check(model, nullptr, rows, "training"); }).id();
  };
  EXPECT_EQ(id_of(1), "none");
  EXPECT_EQ(id_of(2), "data.label");
  EXPECT_EQ(id_of(-1), "data.label");
  const TextRows texts({{.ids = {1}}}, 0, false);
  EXPECT_EQ(test::error_of([&] { task().check(model, nullptr, texts, "training"); }).id(), "data.other-rows");
}

TEST(MultipleChoice, MakesRandomRowsThatItTakes) {
  const Summer model(random_table(20));
  for (const int64_t cost : {1, 2, 10, 64}) {
    const auto rows = task().random_rows(model, 3, cost, 1);
    EXPECT_EQ(costs_of(*rows), (std::vector<int64_t>{cost, cost, cost}));
    task().check(model, nullptr, *rows, "random");
    const auto scorer = task().scorer(model, nullptr, *rows, {});
    score(task(), model, nullptr, *rows, 2, *scorer);
    EXPECT_TRUE(scorer->metrics()["loss"].is_number());
  }
}

// ---- scores ----

TEST(ChoiceScorer, CountsTheRowsWhoseRightChoiceIsLikeliest) {
  const Scored c;
  ChoiceScorer scorer(c.rows);
  score(task(), c.model, nullptr, c.rows, 1, scorer);
  const Json metrics = scorer.metrics();
  EXPECT_DOUBLE_EQ(metrics["accuracy"], 0.5);
  EXPECT_NEAR(metrics["loss"].get<double>(), ((log_sum({1, 2, 0.5}) - 2) + (log_sum({-1, 0.25}) + 1)) / 2, 1e-6);
  const Json line = scorer.row(1);
  EXPECT_EQ(line["label"], 1);
  ASSERT_EQ(line["scores"].size(), 2u);
  EXPECT_NEAR(line["scores"][1].get<double>(), std::exp(0.25 - log_sum({-1, 0.25})), 1e-6);
  const auto tensors = scorer.tensors();
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].first, "logits");
  EXPECT_EQ(tensors[0].second.sizes(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].second[0][1].item<float>(), 2);
  EXPECT_EQ(tensors[0].second[1][2].item<float>(), -std::numeric_limits<float>::infinity());
}

TEST(ChoiceScorer, CallsAChoiceAsTheFileDoes) {
  const Summer model(at::arange(5, at::kDouble).unsqueeze(1));
  const ChoiceRows rows({{.choices = {"stone", "rain"}, .names = {"A", "B"}}, {.choices = {"x", "y"}}},
                        {.texts = {{.ids = {1}}, {.ids = {2}}, {.ids = {4}}, {.ids = {3}}}, .counts = {2, 2}}, {0, 0},
                        0, false);
  ChoiceScorer scorer(rows);
  score(task(), model, nullptr, rows, 8, scorer);
  EXPECT_EQ(scorer.row(0)["label"], "B");
  EXPECT_EQ(scorer.row(0)["text"], "rain");
  EXPECT_EQ(scorer.row(1)["label"], 0);
  EXPECT_EQ(scorer.row(1)["text"], "x");
}

TEST(ChoiceScorer, DoesNotOverflowAndSaysWhichRowHasNoNumbers) {
  const auto metrics_of = [](double large) {
    const Summer model(at::tensor({large, -large}, at::kDouble).unsqueeze(1));
    const ChoiceRows rows({}, {.texts = {{.ids = {0}}, {.ids = {1}}}, .counts = {2}}, {1}, 0, false);
    ChoiceScorer scorer(rows);
    score(task(), model, nullptr, rows, 8, scorer);
    return scorer.metrics();
  };
  EXPECT_NEAR(metrics_of(5000)["loss"].get<double>(), 10000, 1e-3);
  EXPECT_EQ(test::error_of([&] { metrics_of(std::numeric_limits<double>::quiet_NaN()); }).id(), "numeric.non-finite");
}

// ---- texts ----

Tokenizer word_piece() {
  return Tokenizer::from_file(fixture("text/fixtures/wordpiece/tokenizer.json"));
}

std::vector<std::string> tokens_of(const EncodedRow& row, const Tokenizer& tokenizer) {
  std::vector<std::string> tokens;
  for (const int64_t id : row.ids) tokens.push_back(*tokenizer.id_to_token(id));
  return tokens;
}

TEST(EncodedChoices, ArePairsAsTransformersEncodesThem) {
  const Tokenizer tokenizer = word_piece();
  const ChoiceQuestion question{.context = "the school of", .texts = {"was the", "of"}};
  const EncodedChoices encoded = encode_choices({question}, tokenizer, 32);
  ASSERT_EQ(encoded.texts.size(), 2u);
  EXPECT_EQ(encoded.counts, (std::vector<int64_t>{2}));
  const Encoding pair = tokenizer.encode("the school of", "was the");
  EXPECT_EQ(encoded.texts[0].ids, pair.ids);
  EXPECT_EQ(encoded.texts[0].type_ids, pair.type_ids);
  EXPECT_EQ(encoded.texts[1].ids, tokenizer.encode("the school of", "of").ids);
  EXPECT_EQ(encoded.cut_questions, 0);
}

TEST(EncodedChoices, LoseTheEndOfTheContextFirst) {
  const Tokenizer tokenizer = word_piece();
  const ChoiceQuestion question{.context = "the some of the some of", .texts = {"some the of", "of"}};
  using Tokens = std::vector<std::string>;
  const auto tokens = [&](int64_t max_length, size_t text) {
    return tokens_of(encode_choices({question}, tokenizer, max_length).texts[text], tokenizer);
  };
  ASSERT_EQ(tokens(0, 0).size(), 12u) << "every word is a token";
  EXPECT_EQ(tokens(9, 0), (Tokens{"[CLS]", "the", "some", "of", "[SEP]", "some", "the", "of", "[SEP]"}));
  EXPECT_EQ(tokens(9, 1), (Tokens{"[CLS]", "the", "some", "of", "the", "some", "[SEP]", "of", "[SEP]"}));
  EXPECT_EQ(tokens(6, 0), (Tokens{"[CLS]", "[SEP]", "some", "the", "of", "[SEP]"}));
  EXPECT_EQ(tokens(5, 0), (Tokens{"[CLS]", "[SEP]", "some", "the", "[SEP]"}));
  const EncodedChoices cut = encode_choices({question, {.context = "the", .texts = {"of", "some"}}}, tokenizer, 5);
  EXPECT_EQ(cut.cut_questions, 1);
  EXPECT_EQ(cut.cut_choices, 1);
  EXPECT_EQ(encode_choices({question}, tokenizer, 6).cut_choices, 0);
  EXPECT_EQ(encode_choices({question}, tokenizer, 5).texts[0].type_ids, (std::vector<int64_t>{0, 0, 1, 1, 1}));
  EXPECT_EQ(test::error_of([&] { tokens(3, 0); }).id(), "config.max-length");
}

}  // namespace
}  // namespace deltaw
