// The loss and the scores of masked tokens, against logits of all tokens.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "deltaw/task.h"
#include "support/data.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "tasks/fill_mask/rows.h"

namespace deltaw {
namespace {

using namespace fill_mask;  // NOLINT
using test::fixture;

constexpr int64_t kVocabulary = 61, kMask = 4;

std::unique_ptr<Model> masked_model(const std::string& name, const std::string& dtype = "float64") {
  return load_model(fixture("golden/models/" + name).string(), {.task_type = "fill-mask", .dtype = dtype});
}

std::shared_ptr<const MaskedRows> some_rows(const Model& model, std::vector<int64_t> lengths, double share = 0.3) {
  std::vector<EncodedRow> rows;
  std::vector<Units> units;
  for (const int64_t length : lengths) {
    rows.push_back(random_texts(model, 1, length, 11 + rows.size())[0]);
    rows.back().index = static_cast<int64_t>(rows.size()) - 1;
    units.emplace_back();
    for (int64_t i = 0; i < length; ++i) units.back().push_back(i == 0 || i + 1 == length ? -1 : i - 1);
  }
  const Masking masking{{.mlm_probability = share}, kMask, kVocabulary};
  return std::make_shared<const MaskedRows>(std::move(rows), std::move(units), masking, /*pad_id=*/0, false);
}

/// The mean over chosen tokens, from logits of all tokens.
Tensor plain_loss(const Model& model, const Batch& batch, Call& call, double smoothing = 0) {
  return at::cross_entropy_loss(model.forward(text_input(batch), call).flatten(0, 1), batch["labels"].flatten(), {},
                                at::Reduction::Mean, kNoLabel, smoothing);
}

std::vector<Tensor> gradients(const Adapter& adapter, const Tensor& loss) {
  std::vector<Tensor> trained;
  for (const NamedTensor& tensor : adapter.trained()) trained.push_back(tensor.value);
  std::vector<Tensor> found = torch::autograd::grad({loss}, trained, {}, /*retain_graph=*/false,
                                                    /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < found.size(); ++i) {
    if (!found[i].defined()) found[i] = at::zeros_like(trained[i]);
  }
  return found;
}

struct LossCase {
  const char* model;
  const char* method;
  Json options;
};

class FillMaskLoss : public testing::TestWithParam<LossCase> {};

TEST_P(FillMaskLoss, AndItsGradientsAreThoseOfLogitsOfAllTokens) {
  const auto model = masked_model(GetParam().model);
  Json values = GetParam().options;
  values["method"] = GetParam().method;
  Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), 3);
  test::randomise(adapter, 5, 0.1);
  const auto task = task_of(*model);
  const Batch batch = some_rows(*model, {9, 14, 6})->collate({0, 1, 2}, {.seed = 8});
  for (const double smoothing : {0.0, 0.2}) {
    Call call{.adapter = &adapter}, plain_call{.adapter = &adapter};
    const Tensor loss = task->loss(*model, task->outputs(*model, batch, call), batch, call,
                                   {.total_weight = task->weight(batch), .label_smoothing = smoothing});
    const Tensor plain = plain_loss(*model, batch, plain_call, smoothing);
    EXPECT_NEAR(loss.item<double>(), plain.item<double>(), 1e-10);
    const std::vector<Tensor> own = gradients(adapter, loss), expected = gradients(adapter, plain);
    double most = 0;
    for (size_t i = 0; i < own.size(); ++i) {
      EXPECT_TRUE(at::allclose(own[i], expected[i], 1e-8, 1e-10)) << adapter.trained()[i].name;
      most = std::max(most, expected[i].abs().max().item<double>());
    }
    EXPECT_GT(most, 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Methods, FillMaskLoss,
    testing::Values(LossCase{"bert_masked", "lora", {{"target_modules", "all-linear"}, {"r", 2}}},
                    LossCase{"bert_masked", "full", Json::object()}, LossCase{"bert_masked", "bitfit", Json::object()},
                    LossCase{"albert_masked", "lora", {{"target_modules", "all-linear"}, {"r", 2}}},
                    LossCase{"albert_masked", "full", Json::object()},
                    LossCase{"roberta_masked", "full", Json::object()}),
    [](const auto& info) { return std::string(info.param.model) + "_" + info.param.method; });

TEST(FillMask, LossesOfSmallBatchesAddUpToThatOfALargeOne) {
  const auto model = masked_model("bert_masked");
  const auto task = task_of(*model);
  const auto rows = some_rows(*model, {9, 14, 6, 11});
  const Draw draw{.seed = 2, .epoch = 1};
  const Batch whole = rows->collate({0, 1, 2, 3}, draw);
  const auto share = [&](const Batch& batch) {
    Call call;
    const LossScale scale{.total_weight = task->weight(whole)};
    return task->loss(*model, task->outputs(*model, batch, call), batch, call, scale).item<double>();
  };
  const Batch first = rows->collate({3, 0}, draw), second = rows->collate({1, 2}, draw);
  EXPECT_EQ(task->weight(first) + task->weight(second), task->weight(whole));
  EXPECT_NEAR(share(first) + share(second), share(whole), 1e-12);
}

TEST(FillMask, ScoresAreThoseOfLogitsOfAllTokens) {
  const auto model = masked_model("albert_masked");
  const auto task = task_of(*model);
  const auto rows = some_rows(*model, {9, 14, 6, 11, 30}, 0.6);
  double nll = 0, right = 0, tokens = 0;
  for (int64_t row = 0; row < rows->size(); ++row) {
    const Batch batch = rows->collate({row}, {});
    Call call;
    const at::NoGradGuard no_grad;
    const Tensor logits = model->forward(text_input(batch), call)[0], labels = batch["labels"][0];
    for (int64_t i = 0; i < labels.numel(); ++i) {
      const int64_t label = labels[i].item<int64_t>();
      if (label == kNoLabel) continue;
      nll -= logits[i].log_softmax(0)[label].item<double>();
      right += logits[i].argmax().item<int64_t>() == label;
      tokens += 1;
    }
  }
  for (const int64_t batch_size : {1, 3}) {
    const auto scorer = task->scorer(*model, nullptr, *rows, {});
    score(*task, *model, nullptr, *rows, batch_size, *scorer);
    const Json scores = scorer->metrics();
    EXPECT_NEAR(scores["loss"].get<double>(), nll / tokens, 1e-6);
    EXPECT_NEAR(scores["perplexity"].get<double>(), std::exp(nll / tokens), 1e-4);
    EXPECT_EQ(scores["accuracy"].get<double>(), right / tokens);
    EXPECT_EQ(scores["tokens"].get<double>(), tokens);
  }
  EXPECT_NEAR(task->chance_loss(*model, *rows), std::log(61.0), 1e-12);
}

TEST(FillMask, RefusesRowsThatNothingCanBeLearnedFrom) {
  const auto model = masked_model("bert_masked");
  const auto task = task_of(*model);
  const auto check = [&](Units units, Masking masking) {
    std::vector<EncodedRow> rows = {{.ids = {1, 5, 2}, .index = 0}};
    const MaskedRows source(std::move(rows), {std::move(units)}, masking, 0, false);
    return test::error_of([&] { task->check(*model, nullptr, source, "training"); });
  };
  EXPECT_EQ(check({-1, 0, -1}, {{}, kMask, kVocabulary}).id(), "none");
  EXPECT_EQ(check({-1, -1, -1}, {{}, kMask, kVocabulary}).id(), "data.no-label");
  EXPECT_EQ(check({-1, 0, -1}, {{}, /*mask_id=*/61, kVocabulary}).id(), "data.token-id");
  EXPECT_EQ(check({-1, 0, -1}, {{}, kMask, /*vocabulary=*/70}).id(), "data.token-id");
  const auto random = task->random_rows(*model, 3, 12, 1);
  task->check(*model, nullptr, *random, "training");
  EXPECT_EQ(random->cost(2), 12);
}

}  // namespace
}  // namespace deltaw
