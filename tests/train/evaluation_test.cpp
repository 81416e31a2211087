// What evaluation computes, written out: no dropout, every row or token once, as predicting does.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "deltaw/evaluate.h"
#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// A fixture's model with dropouts, an adapter with one of its own, and rows of unequal length.
struct Evaluated {
  test::TemporaryFolder folder;
  std::unique_ptr<Model> model;
  std::unique_ptr<Adapter> adapter;
  std::vector<EncodedRow> rows = test::invented_rows(11, 4);

  Evaluated(const std::string& fixture, const std::vector<std::string>& layers) {
    fs::copy(test::fixture("golden/models/" + fixture), folder.path());
    Json config = read_json(folder / "config.json");
    for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
                            "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop"}) {
      if (config.contains(key)) config[key] = 0.4;
    }
    write_json(folder / "config.json", config);
    model = load_model(folder.path().string(), {.dtype = "float64"});
    AdapterConfig lora = test::adapter_config("lora", {{"r", 3}, {"lora_dropout", 0.4}, {"init_lora_weights", false}});
    lora.target_modules = layers;
    adapter = std::make_unique<Adapter>(Adapter::create(*model, lora, 7));
    if (!model->is_causal()) return;
    for (EncodedRow& row : rows) {
      row.type_ids.clear();
      row.token_labels = row.ids;
      row.token_labels[0] = row.token_labels[1] = kNoLabel;
    }
  }

  Json evaluate() {
    TrainOptions options = test::tiny_options(folder / "out");
    options.per_device_eval_batch_size = 3;
    const auto task = task_of(*model);
    Trainer trainer(*model, *adapter, *task, options);
    const auto source = test::source_for(*model, rows);
    trainer.set_data(source, source);
    return trainer.evaluate();
  }

  /// Log-probabilities of one row by itself.
  Tensor alone(const EncodedRow& row) const {
    const at::NoGradGuard no_grad;
    const Tensor ids = at::tensor(row.ids, at::kLong).unsqueeze(0);
    Call call;
    call.adapter = adapter.get();
    return at::log_softmax(model->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)}, call)[0], -1);
  }
};

TEST(Evaluation, OfAClassifierIsTheMeanOverRowsWithoutDropout) {
  Evaluated run("bert_cls", {"query", "key", "value"});
  double sum = 0;
  for (const EncodedRow& row : run.rows) sum -= run.alone(row)[static_cast<int64_t>(row.label)].item<double>();
  const Json metrics = run.evaluate();
  EXPECT_NEAR(metrics.at("eval_loss").get<double>(), sum / 11, 1e-6);
  EXPECT_EQ(run.evaluate().at("eval_loss"), metrics.at("eval_loss"));
  const Tensor logits = predict_logits(*run.model, run.adapter.get(), *test::source_of(run.rows), 3);
  for (int64_t i = 0; i < 11; ++i) {
    EXPECT_TRUE(at::allclose(at::log_softmax(logits[i].to(at::kDouble), 0), run.alone(run.rows[i]), 0, 1e-5)) << i;
  }
}

TEST(Evaluation, OfALanguageModelIsTheMeanOverTokensWithoutDropout) {
  Evaluated run("llama_tied", {"q_proj", "k_proj", "v_proj"});
  double sum = 0, mean_of_rows = 0;
  int64_t tokens = 0;
  for (const EncodedRow& row : run.rows) {
    const Tensor scores = run.alone(row);
    double own = 0;
    for (size_t i = 2; i < row.ids.size(); ++i) {
      own -= scores[static_cast<int64_t>(i) - 1][row.ids[i]].item<double>();
    }
    const auto count = static_cast<int64_t>(row.ids.size()) - 2;
    sum += own;
    tokens += count;
    mean_of_rows += own / static_cast<double>(count) / 11;
  }
  const double loss = sum / static_cast<double>(tokens);
  ASSERT_GT(std::abs(loss - mean_of_rows), 1e-3) << "rows weigh alike, and nothing is tested";
  const Json metrics = run.evaluate();
  EXPECT_NEAR(metrics.at("eval_loss").get<double>(), loss, 1e-6);

  const test::TemporaryFolder words;
  test::put(words / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
  const Tokenizer tokenizer = Tokenizer::from_folder(words.path());
  const Json scored = score_rows({*run.model, run.adapter.get(), tokenizer, /*pad_id=*/0, /*batch_size=*/3}, run.rows);
  EXPECT_EQ(metrics.at("eval_loss"), scored.at("eval_loss"));
  EXPECT_EQ(scored.at("eval_tokens"), tokens);
}

}  // namespace
}  // namespace deltaw
