// A run of the trainer against the same run written out: order, padding, dropout masks, loss, smoothing, accumulation,
// penalty, clipping, schedule, AdamW and what a method does around a step. All in float64, where the two agree to
// 1e-10: they add in different orders.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::adapter_config;

constexpr double kTolerance = 1e-10;

/// A fixture's model with dropouts of its own, in this folder.
std::unique_ptr<Model> with_dropouts(const std::string& name, const test::TemporaryFolder& folder) {
  fs::copy(test::fixture("golden/models/" + name), folder.path());
  Json config = read_json(folder / "config.json");
  for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
                          "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop"}) {
    if (config.contains(key)) config[key] = 0.2;
  }
  write_json(folder / "config.json", config);
  return load_model(folder.path().string(), {.dtype = "float64"});
}

/// Rows of a classifier, or of a language model that reads a prompt of two tokens.
std::vector<EncodedRow> rows_for(const Model& model, int64_t count, uint64_t seed) {
  std::vector<EncodedRow> rows = test::invented_rows(count, seed);
  if (!model.is_causal()) return rows;
  for (EncodedRow& row : rows) {
    row.type_ids.clear();
    row.token_labels = row.ids;
    row.token_labels[0] = row.token_labels[1] = kNoLabel;
  }
  return rows;
}

/// Rows side by side, padded on the right with zeros.
struct Padded {
  ModelInput input;
  Tensor labels;  // [rows], or [rows, length]
};

Padded padded(const Model& model, const std::vector<EncodedRow>& rows, const std::vector<int64_t>& positions) {
  int64_t length = 0;
  for (const int64_t row : positions) length = std::max(length, static_cast<int64_t>(rows[row].ids.size()));
  const auto count = static_cast<int64_t>(positions.size());
  Padded batch;
  batch.input.input_ids = at::zeros({count, length}, at::kLong);
  batch.input.attention_mask = at::zeros({count, length}, at::kLong);
  batch.labels = model.is_causal() ? at::full({count, length}, kNoLabel, at::kLong) : at::zeros({count}, at::kLong);
  for (int64_t i = 0; i < count; ++i) {
    const EncodedRow& row = rows[positions[i]];
    const auto own = static_cast<int64_t>(row.ids.size());
    batch.input.input_ids[i].narrow(0, 0, own).copy_(at::tensor(row.ids));
    batch.input.attention_mask[i].narrow(0, 0, own).fill_(1);
    if (model.is_causal()) {
      batch.labels[i].narrow(0, 0, own).copy_(at::tensor(row.token_labels));
    } else {
      batch.labels[i] = static_cast<int64_t>(row.label);
    }
  }
  return batch;
}

/// The sum over all labels of (1 - e) times the surprise at the label and e times the mean surprise over all classes;
/// and how many labels there are.
std::pair<Tensor, int64_t> smoothed_loss(const Model& model, Tensor logits, Tensor labels, double e) {
  if (model.is_causal()) {  // a position predicts the next one
    const int64_t length = labels.size(1);
    logits = logits.narrow(1, 0, length - 1).flatten(0, 1);
    labels = labels.narrow(1, 1, length - 1).flatten();
    const Tensor kept = labels.ne(kNoLabel).nonzero().flatten();
    logits = logits.index_select(0, kept);
    labels = labels.index_select(0, kept);
  }
  const Tensor surprise = at::logsumexp(logits, {1}, true) - logits;
  const Tensor each = (1 - e) * surprise.gather(1, labels.unsqueeze(1)).squeeze(1) + e * surprise.mean(1);
  return {each.sum(), labels.numel()};
}

/// What a method does besides the factors, written out.
struct Case {
  std::string name;
  std::string model;
  AdapterConfig config;
  std::function<Tensor(const Adapter&)> penalty = {};
  std::function<void(const Adapter&)> before_step = {};  // corrects gradients
  std::function<void(const Adapter&)> after_step = {};
  std::function<double(const std::string& tensor)> rate = [](const std::string&) { return 1.0; };
};

struct StepSeen {
  double loss, norm, rate;
};

struct Moments {
  Tensor mean, square;
};

class ByHand {
 public:
  ByHand(const Model& model, Adapter& adapter, const TrainOptions& options, const Case& c)
      : model_(model), adapter_(adapter), options_(options), case_(c) {
    for (NamedTensor& tensor : adapter.trained()) {
      tensor.value.set_requires_grad(true);
      tensors_.push_back(tensor);
      moments_.push_back({at::zeros_like(tensor.value), at::zeros_like(tensor.value)});
    }
  }

  std::vector<StepSeen> train(const std::vector<EncodedRow>& rows) {
    std::vector<StepSeen> seen;
    const auto batch_size = options_.per_device_train_batch_size, group = options_.gradient_accumulation_steps;
    const auto count = (static_cast<int64_t>(rows.size()) + batch_size - 1) / batch_size;
    const int64_t steps_per_epoch = (count + group - 1) / group;
    const auto epochs = static_cast<int64_t>(options_.num_train_epochs);
    for (int64_t epoch = 0; epoch < epochs; ++epoch) {
      const auto batches = plan_batches(row_lengths(rows), batch_size, static_cast<uint64_t>(options_.data_seed), epoch,
                                        /*group_by_length=*/false);
      for (int64_t i = 0; i < steps_per_epoch; ++i) {
        std::vector<std::vector<int64_t>> own;
        for (int64_t j = i * group; j < std::min(count, (i + 1) * group); ++j) own.push_back(batches[j]);
        seen.push_back(step(rows, own, static_cast<int64_t>(seen.size()), epochs * steps_per_epoch));
      }
    }
    return seen;
  }

 private:
  StepSeen step(const std::vector<EncodedRow>& rows, const std::vector<std::vector<int64_t>>& batches, int64_t index,
                int64_t total) {
    std::vector<Tensor> sums;
    int64_t targets = 0;
    for (const auto& positions : batches) {
      const Padded batch = padded(model_, rows, positions);
      Call call;
      call.adapter = &adapter_;
      call.training = true;
      call.seed = static_cast<uint64_t>(options_.seed);
      call.step = index;
      call.micro_step = static_cast<int64_t>(sums.size());
      const auto [sum, labels] =
          smoothed_loss(model_, model_.forward(batch.input, call), batch.labels, options_.label_smoothing_factor);
      sums.push_back(sum);
      targets += labels;
    }
    // Tokens of a step weigh alike, and rows of a classifier.
    Tensor loss = at::zeros({}, at::kDouble);
    for (const Tensor& sum : sums) loss = loss + sum / targets;
    if (case_.penalty) loss = loss + case_.penalty(adapter_);
    for (const NamedTensor& tensor : tensors_) tensor.value.mutable_grad() = Tensor();
    loss.backward();

    const at::NoGradGuard no_grad;
    double squares = 0;
    for (const NamedTensor& tensor : tensors_) squares += tensor.value.grad().square().sum().item<double>();
    const double norm = std::sqrt(squares), most = options_.max_grad_norm;
    for (const NamedTensor& tensor : tensors_) {
      if (norm > most) tensor.value.mutable_grad() = tensor.value.grad() * (most / (norm + 1e-6));
    }
    if (case_.before_step) case_.before_step(adapter_);
    const double rate = options_.learning_rate * share_of_rate(index, total);
    for (size_t i = 0; i < tensors_.size(); ++i) adamw(tensors_[i], moments_[i], rate, index + 1);
    if (case_.after_step) case_.after_step(adapter_);
    return {loss.item<double>(), norm, rate};
  }

  /// Rising over the warm-up, then falling to zero at the end.
  double share_of_rate(int64_t step, int64_t total) const {
    const double warmup = options_.warmup_steps;
    if (static_cast<double>(step) < warmup) return static_cast<double>(step) / warmup;
    return static_cast<double>(total - step) / (static_cast<double>(total) - warmup);
  }

  void adamw(const NamedTensor& tensor, Moments& m, double rate, int64_t t) const {
    const double own = rate * case_.rate(tensor.name), b1 = options_.adam_beta1, b2 = options_.adam_beta2;
    const Tensor gradient = tensor.value.grad();
    m.mean = b1 * m.mean + (1 - b1) * gradient;
    m.square = b2 * m.square + (1 - b2) * gradient * gradient;
    const Tensor mean = m.mean / (1 - std::pow(b1, t)), square = m.square / (1 - std::pow(b2, t));
    const bool decays = tensor.name.find("bias") == std::string::npos;
    const Tensor kept = tensor.value * (1 - (decays ? own * options_.weight_decay : 0));
    Tensor(tensor.value).copy_(kept - own * mean / (square.sqrt() + options_.adam_epsilon));
  }

  const Model& model_;
  Adapter& adapter_;
  const TrainOptions& options_;
  const Case& case_;
  std::vector<NamedTensor> tensors_;
  std::vector<Moments> moments_;
};

/// 21 rows in batches of two: eleven batches, the last of one row and its group one short of four.
TrainOptions every_option(const fs::path& folder) {
  TrainOptions options;
  options.output_dir = folder.string();
  options.per_device_train_batch_size = 2;
  options.gradient_accumulation_steps = 4;
  options.num_train_epochs = 2;
  options.learning_rate = 2e-2;
  options.warmup_steps = 2;
  options.weight_decay = 0.3;
  options.adam_beta1 = 0.8;
  options.adam_beta2 = 0.9;
  options.adam_epsilon = 1e-5;
  options.max_grad_norm = 0.01;
  options.label_smoothing_factor = 0.15;
  options.seed = 5;
  options.data_seed = 9;
  return options;
}

void expect_as_by_hand(const Case& c, const TrainOptions& options) {
  SCOPED_TRACE(c.name);
  const test::TemporaryFolder place;
  const auto model = with_dropouts(c.model, place);
  Adapter trained = Adapter::create(*model, c.config, 7), own = Adapter::create(*model, c.config, 7);
  const std::vector<EncodedRow> rows = rows_for(*model, 21, 1);

  std::vector<StepSeen> seen;
  const auto task = task_of(*model);
  Trainer trainer(*model, trained, *task, options);
  trainer.set_data(test::source_for(*model, rows));
  trainer.on_event([&](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step) return;
    seen.push_back({event.values.at("loss").get<double>(), event.values.at("grad_norm").get<double>(),
                    event.values.at("learning_rate").get<double>()});
  });
  trainer.train();
  const std::vector<StepSeen> expected = ByHand(*model, own, options, c).train(rows);

  ASSERT_EQ(seen.size(), 6u);
  ASSERT_EQ(expected.size(), 6u);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_NEAR(seen[i].loss, expected[i].loss, kTolerance) << "step " << i + 1;
    EXPECT_NEAR(seen[i].norm, expected[i].norm, kTolerance) << "step " << i + 1;
    EXPECT_NEAR(seen[i].rate, expected[i].rate, kTolerance) << "step " << i + 1;
    EXPECT_GT(seen[i].norm, options.max_grad_norm) << "nothing is clipped, and nothing is tested";
  }
  const auto a = trained.trained(), b = own.trained();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].value.scalar_type(), at::kDouble);
    EXPECT_LT((a[i].value - b[i].value).abs().max().item<double>(), kTolerance) << a[i].name;
  }
}

const Json kDropped = {{"r", 3}, {"lora_alpha", 6}, {"lora_dropout", 0.25}};

AdapterConfig on(AdapterConfig config, const std::vector<std::string>& layers) {
  config.target_modules = layers;
  return config;
}

Json with(Json options, const Json& more) {
  options.update(more);
  return options;
}

const std::vector<std::string> kEncoder = {"query", "key", "value", "output.dense"};
const std::vector<std::string> kDecoder = {"q_proj", "k_proj", "v_proj", "down_proj"};

Tensor off_identity(const Tensor& gram) {
  return gram - at::eye(gram.size(0), gram.options());
}

TEST(TrainerByHand, TrainsAClassifierAsWrittenOut) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  expect_as_by_hand({"lora", "bert_cls", on(adapter_config("lora", kDropped), kEncoder)}, options);
  AdapterConfig biases = on(adapter_config("lora", kDropped), kEncoder);
  biases.bias = "all";
  expect_as_by_hand({"biases", "bert_cls", biases}, options);
  expect_as_by_hand({"roberta", "roberta_cls", on(adapter_config("moslora", kDropped), kEncoder)}, options);
  expect_as_by_hand({"dora", "bert_cls", on(adapter_config("dora", kDropped), kEncoder)}, options);
}

TEST(TrainerByHand, TrainsALanguageModelAsWrittenOut) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  expect_as_by_hand({"lora", "llama_tied", on(adapter_config("lora", kDropped), kDecoder)}, options);
  expect_as_by_hand({"gpt2", "gpt2", on(adapter_config("lora", kDropped), {"c_attn", "c_fc"})}, options);
}

// The gradients of the head are taken along with the loss, and all that trains of it must be among them.
TEST(TrainerByHand, TrainsEveryPartOfTheHead) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  AdapterConfig rows = on(adapter_config("lora", kDropped), kDecoder);
  rows.trainable_token_indices = Json::array({7, 30, 44});
  expect_as_by_hand({"rows of a tied head", "llama_tied", rows}, options);
  rows.trainable_token_indices = {{"lm_head", {7, 30}}, {"embed_tokens", {44}}};
  expect_as_by_hand({"rows of a head", "llama_heads", rows}, options);
  // Without dropout of its own: the head sees the labelled places alone, and draws masks for these.
  const Json kept = with(kDropped, {{"lora_dropout", 0}});
  expect_as_by_hand({"layer", "llama_heads", on(adapter_config("lora", kept), {"q_proj", "lm_head"})}, options);
  AdapterConfig saved = on(adapter_config("lora", kDropped), kDecoder);
  saved.modules_to_save = {"lm_head"};
  expect_as_by_hand({"whole", "llama_heads", saved}, options);
}

TEST(TrainerByHand, KeepsBlocksOrNotWithTheSameNumbers) {
  const test::TemporaryFolder folder;
  TrainOptions options = every_option(folder.path());
  options.gradient_checkpointing = true;
  expect_as_by_hand({"encoder", "bert_cls", on(adapter_config("lora", kDropped), kEncoder)}, options);
  expect_as_by_hand({"decoder", "llama_tied", on(adapter_config("lora", kDropped), kDecoder)}, options);
}

TEST(TrainerByHand, AddsThePenaltyOnceAStep) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  const Json budget = {{"init_r", 3}, {"target_r", 3}, {"lora_dropout", 0.25}, {"orth_reg_weight", 0.4}};
  const auto adalora = [](const Adapter& adapter) {
    Tensor sum = at::zeros({}, at::kDouble);
    for (const AdaptedLayer* layer : adapter.layers()) {
      const Tensor A = layer->params["lora_A"], B = layer->params["lora_B"];
      sum = sum + off_identity(at::mm(A, A.t())).square().sum().sqrt() +
            off_identity(at::mm(B.t(), B)).square().sum().sqrt();
    }
    return 0.4 * sum / (2.0 * static_cast<double>(adapter.layers().size()));
  };
  expect_as_by_hand({"adalora", "bert_cls", on(adapter_config("adalora", budget), kEncoder), adalora}, options);
  expect_as_by_hand({"adalora", "llama_tied", on(adapter_config("adalora", budget), kDecoder), adalora}, options);

  const Json planes = {{"r", 2}, {"k", 3}, {"target_r", 2}, {"lora_dropout", 0.25}, {"orth_reg_weight", 0.2}};
  const auto lora2 = [](const Adapter& adapter) {
    Tensor sum = at::zeros({}, at::kDouble);
    for (const AdaptedLayer* layer : adapter.layers()) {
      const Tensor v = layer->params["lora_A"], u = layer->params["lora_B"], U = layer->params["lora_aa"],
                   V = layer->params["lora_bb"];
      const Tensor uv = at::mm(u, v), VU = at::mm(V, U);
      for (const Tensor& gram : {at::mm(v, v.t()), at::mm(u, u.t()), at::mm(U.t(), U), at::mm(V.t(), V),
                                 at::mm(uv, uv.t()), at::mm(VU.t(), VU)}) {
        sum = sum + off_identity(gram).square().sum();
      }
    }
    return 0.2 * sum / static_cast<double>(adapter.layers().size());
  };
  expect_as_by_hand({"lora2", "bert_cls", on(adapter_config("lora2", planes), kEncoder), lora2}, options);
}

TEST(TrainerByHand, TakesTheProximalStepOfSora) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  const Json gates = {{"r", 4}, {"lora_dropout", 0.25}, {"sparse_lambda", 0.3}, {"sparse_lambda_2", 0.08}};
  const auto penalty = [](const Adapter& adapter) {
    Tensor sum = at::zeros({}, at::kDouble);
    double count = 0;
    for (const AdaptedLayer* layer : adapter.layers()) {
      sum = sum + layer->params["gate"].abs().sum();
      count += static_cast<double>(layer->params["gate"].numel());
    }
    return 0.3 * sum / count;
  };
  double zeros = 0;
  const auto shrink = [&](const Adapter& adapter) {
    zeros = 0;
    for (const AdaptedLayer* layer : adapter.layers()) {
      Tensor gate = layer->params["gate"];
      gate.copy_(gate.sign() * (gate.abs() - 0.08).clamp_min(0));
      zeros += static_cast<double>(gate.eq(0).sum().item<int64_t>());
    }
  };
  expect_as_by_hand({"sora", "bert_cls", on(adapter_config("sora", gates), kEncoder), penalty, {}, shrink}, options);
  EXPECT_GT(zeros, 0) << "no gate reaches zero";
}

/// g (A A^T + 1e-8 I)^-1 / s^2 for the B of every layer.
void correct_for_frozen(const Adapter& adapter, double scale) {
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor A = layer->params["lora_A"], B = layer->params["lora_B"];
    const Tensor gram = at::mm(A, A.t()) + 1e-8 * at::eye(A.size(0), A.options());
    const Tensor inverse = std::get<0>(at::linalg_inv_ex(gram));
    B.mutable_grad() = at::mm(B.grad(), inverse) / (scale * scale);
  }
}

TEST(TrainerByHand, CorrectsTheGradientsOfLoraFa) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  const Json frozen = with(kDropped, {{"lora_fa", true}});
  const auto correct = [](const Adapter& adapter) { correct_for_frozen(adapter, 6.0 / 3); };
  expect_as_by_hand({"alone", "bert_cls", on(adapter_config("lora", frozen), kEncoder), {}, correct}, options);
  expect_as_by_hand({"decoder", "llama_tied", on(adapter_config("lora", frozen), kDecoder), {}, correct}, options);

  AdapterConfig beside = on(adapter_config("lora", kDropped), {"query"});
  beside.beside = Json::array({{{"method", "lora_fa"},
                                {"r", 2},
                                {"lora_alpha", 5},
                                {"lora_dropout", 0.25},
                                {"target_modules", {"key", "query"}}}});
  expect_as_by_hand({"beside another",
                     "bert_cls",
                     beside,
                     {},
                     [](const Adapter& adapter) { correct_for_frozen(adapter.parts()[1], 5.0 / 2); }},
                    options);
}

TEST(TrainerByHand, GivesLoraPlusItsRates) {
  const test::TemporaryFolder folder;
  const TrainOptions options = every_option(folder.path());
  Case c{"lora+", "bert_cls", on(adapter_config("lora", with(kDropped, {{"loraplus_lr_ratio", 4}})), kEncoder)};
  c.rate = [](const std::string& tensor) {
    return tensor.find("lora_B") != std::string::npos || tensor.find("bias") != std::string::npos ? 4.0 : 1.0;
  };
  expect_as_by_hand(c, options);
}

}  // namespace
}  // namespace deltaw
