// A task whose loss compares the rows of a step: the example's, as a program outside the library defines it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>

#include "core/files.h"
#include "deltaw/train.h"
#include "examples/custom_task/contrastive.h"
#include "support/allocations.h"
#include "support/data.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

constexpr int64_t kRows = 32;

/// A model without dropout, whose masks would differ between batches of 8 and of 32.
std::unique_ptr<Model> dry_model(const test::TemporaryFolder& folder) {
  const std::filesystem::path source = test::fixture("golden/models/bert_cls");
  std::filesystem::copy(source, folder.path(), std::filesystem::copy_options::recursive);
  Json config = read_json(folder / "config.json");
  for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"}) config[key] = 0;
  write_json(folder / "config.json", config);
  return load_model(folder.path().string(), {.dtype = "float64"});
}

std::shared_ptr<const PairRows> pairs(int64_t length = 0) {
  std::vector<EncodedRow> first = test::invented_rows(kRows, 1), second = test::invented_rows(kRows, 2);
  for (std::vector<EncodedRow>* rows : {&first, &second}) {
    for (EncodedRow& row : *rows) {
      while (length > 0 && static_cast<int64_t>(row.ids.size()) < length) row.ids.push_back(7);
      row.type_ids.clear();
    }
  }
  return std::make_shared<const PairRows>(std::move(first), std::move(second), 0);
}

struct Step {
  double loss = 0, norm = 0;
  std::vector<Tensor> moved;  // trained tensors afterwards
};

Step one_step(const Model& model, int64_t batch_size, const AdapterConfig& config,
              const std::shared_ptr<const PairRows>& rows, bool recompute = false) {
  const test::TemporaryFolder folder;
  Adapter adapter = Adapter::create(model, config, 7);
  TrainOptions options = test::tiny_options(folder.path());
  options.per_device_train_batch_size = batch_size;
  options.gradient_accumulation_steps = kRows / batch_size;
  options.max_steps = 1;
  options.warmup_ratio = 0;
  options.max_grad_norm = 0;
  options.adam_epsilon = 1;  // a step in proportion to the gradient, not to its sign
  options.gradient_checkpointing = recompute;
  const Contrastive task;
  Trainer trainer(model, adapter, task, options);
  trainer.set_data(rows);
  Step step;
  trainer.on_event([&](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step) return;
    step.loss = event.values.at("loss");
    step.norm = event.values.at("grad_norm");
  });
  trainer.train();
  step.moved = test::copies(adapter);
  return step;
}

TEST(ComparesRows, GivesTheLossAndTheGradientsOfOneLargeBatch) {
  const test::TemporaryFolder folder;
  const auto model = dry_model(folder);
  for (const char* method : {"lora", "adalora"}) {  // without a penalty and with one
    const AdapterConfig config = test::adapter_config(
        method,
        method == std::string("lora") ? Json{{"r", 3}} : Json{{"init_r", 3}, {"target_r", 2}, {"total_step", 99}});
    const Step whole = one_step(*model, kRows, config, pairs());
    for (const bool recompute : {false, true}) {
      const Step parts = one_step(*model, 8, config, pairs(), recompute);
      EXPECT_NEAR(parts.loss, whole.loss, 1e-12) << method;
      EXPECT_NEAR(parts.norm, whole.norm, 1e-12 * whole.norm) << method;
      ASSERT_EQ(parts.moved.size(), whole.moved.size());
      for (size_t i = 0; i < parts.moved.size(); ++i) {
        EXPECT_TRUE(at::allclose(parts.moved[i], whole.moved[i], 1e-9, 1e-12)) << method << ", tensor " << i;
      }
    }
  }
}

/// Keeps what the model made of each batch.
class Watched final : public Contrastive {
 public:
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    const Outputs made = Contrastive::outputs(model, batch, call);
    seen.push_back(made.at(0).detach().clone());
    return made;
  }
  mutable std::vector<Tensor> seen;
};

TEST(ComparesRows, DrawsTheSameMasksInBothPasses) {
  const test::TemporaryFolder folder;
  const auto model = test::tiny_model("float64");
  Adapter adapter = Adapter::create(*model, test::adapter_config("lora", {{"r", 3}, {"lora_dropout", 0.3}}), 7);
  test::randomise(adapter, 3);
  TrainOptions options = test::tiny_options(folder.path());
  options.per_device_train_batch_size = 8;
  options.gradient_accumulation_steps = 4;
  options.max_steps = 1;
  const Watched task;
  Trainer trainer(*model, adapter, task, options);
  trainer.set_data(pairs());
  trainer.train();
  ASSERT_EQ(task.seen.size(), 7u) << "the last three batches, the first one, and those three again";
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(task.seen[i].equal(task.seen[i + 4])) << "batch " << i + 1;
}

TEST(ComparesRows, TakesTheMemoryOfOneBatch) {
  const test::TemporaryFolder folder;
  const auto model = dry_model(folder);
  const AdapterConfig config = test::adapter_config("lora", {{"r", 3}});
  const auto most = [&](int64_t batch_size) {
    return test::CountingAllocator::instance().most_during([&] { one_step(*model, batch_size, config, pairs(24)); });
  };
  const int64_t parts = most(8), whole = most(kRows);
  EXPECT_LT(parts, whole / 2) << parts << " of " << whole << " bytes";
}

}  // namespace
}  // namespace deltaw
