// How often a step of training reads numbers of tensors: on a device each read waits for all that was asked of it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "examples/custom_task/contrastive.h"
#include "ops/host_read.h"
#include "support/data.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

constexpr int64_t kRowsOfRun = 24, kSteps = 3;
const std::vector<int64_t> kTwice(kSteps, 2);  // the loss and the norm

struct Way {
  int64_t accumulated = 1;
  double max_norm = 0;
  bool recompute = false;
};
const std::vector<Way> kWays = {{1, 0}, {1, 1e-3}, {4, 0}, {4, 1e-3}, {4, 1, true}};

/// The number of reads of each step.
std::vector<int64_t> reads_of(const Model& model, const AdapterConfig& config, const Task& task,
                              const std::shared_ptr<const RowSource>& rows, const Way& way, int64_t steps = kSteps) {
  const test::TemporaryFolder folder;
  Adapter adapter = Adapter::create(model, config, 7);
  TrainOptions options = test::tiny_options(folder.path());
  options.per_device_train_batch_size = 2;
  options.gradient_accumulation_steps = way.accumulated;
  options.max_steps = steps;
  options.max_grad_norm = way.max_norm;
  options.gradient_checkpointing = way.recompute;
  Trainer trainer(model, adapter, task, options);
  trainer.set_data(rows);
  std::vector<int64_t> reads;
  int64_t before = ops::host_reads();
  trainer.on_event([&](const TrainEvent& event) {
    if (event.kind != TrainEvent::Kind::step) return;
    reads.push_back(ops::host_reads() - before);
    before = ops::host_reads();
  });
  trainer.train();
  return reads;
}

/// Rows of several lengths where they are easily made; every other one of a causal model holds two documents.
std::shared_ptr<const RowSource> rows_for(const Model& model, const Task& task) {
  const std::string type = model.task_type();
  if (type != "SEQ_CLS" && type != "TOKEN_CLS" && type != "CAUSAL_LM") return task.random_rows(model, kRowsOfRun, 9, 1);
  std::vector<EncodedRow> rows = test::invented_rows(kRowsOfRun, 1);
  for (EncodedRow& row : rows) {
    row.label = static_cast<double>(static_cast<int64_t>(row.label) % std::max<int64_t>(1, model.num_labels()));
    row.type_ids.clear();
    if (type == "CAUSAL_LM") row.token_labels = row.ids;
    if (type == "CAUSAL_LM" && row.index % 2 == 0) {
      row.documents.assign(row.ids.size(), 1);
      row.documents.back() = 2;
    }
    for (size_t i = 0; type == "TOKEN_CLS" && i < row.ids.size(); ++i) {
      row.token_labels.push_back(i % 3 == 1 ? kNoLabel : static_cast<int64_t>(i) % model.num_labels());
    }
  }
  return test::source_for(model, std::move(rows));
}

TEST(HostReads, AreTwoAStepWhateverTheModelIsFor) {
  for (const auto& [name, type] : std::vector<std::pair<std::string, std::string>>{{"bert_cls", "SEQ_CLS"},
                                                                                   {"bert_reg", "SEQ_CLS"},
                                                                                   {"deberta_v3_cls", "SEQ_CLS"},
                                                                                   {"modernbert_cls", "SEQ_CLS"},
                                                                                   {"llama_cls", "SEQ_CLS"},
                                                                                   {"bert_tokens", "TOKEN_CLS"},
                                                                                   {"bert_answers", "QUESTION_ANS"},
                                                                                   {"bert_masked", "fill-mask"},
                                                                                   {"llama_tied", "CAUSAL_LM"},
                                                                                   {"llama_dynamic", "CAUSAL_LM"},
                                                                                   {"mistral_window", "CAUSAL_LM"},
                                                                                   {"phi3_long", "CAUSAL_LM"},
                                                                                   {"gpt2", "CAUSAL_LM"}}) {
    const auto model =
        load_model(test::fixture("golden/models/" + name).string(), {.task_type = type, .dtype = "float32"});
    const auto task = task_of(*model);
    AdapterConfig config = test::adapter_config("lora", {{"r", 2}, {"lora_dropout", 0.1}});
    config.target_modules = "all-linear";
    for (const Way& way : kWays) {
      EXPECT_EQ(reads_of(*model, config, *task, rows_for(*model, *task), way), kTwice)
          << name << ", " << way.accumulated << " batches, max_grad_norm " << way.max_norm;
    }
  }
}

TEST(HostReads, AreTwoAStepWithEveryMethod) {
  const auto model = test::tiny_model();
  const auto task = task_of(*model);
  for (const char* method : {"adalora", "bitfit",   "dora",          "full",          "head",     "houlsby", "ia3",
                             "loha",    "lokr",     "lora",          "lora2",         "lora_fa",  "lora_xs", "moslora",
                             "oft",     "pfeiffer", "prefix_tuning", "prompt_tuning", "randlora", "sora",    "vera"}) {
    const MethodSpec& spec = find_method(method);
    Json early = Json::object();  // before a rank budget prunes
    if (test::small_options(spec).contains("target_r")) early = {{"tinit", 50}, {"total_step", 99}};
    AdapterConfig config = test::small_config(spec, early);
    config.target_modules = Json();  // the method's own
    for (const Way& way : kWays) {
      EXPECT_EQ(reads_of(*model, config, *task, rows_for(*model, *task), way), kTwice)
          << method << ", " << way.accumulated << " batches";
    }
  }
}

TEST(HostReads, AreTwoAStepWithTokensThatTrain) {
  const auto model = test::tiny_model();
  const auto task = task_of(*model);
  AdapterConfig config = test::lora_config();
  config.trainable_token_indices = Json::array({0, 7});  // padding among them
  EXPECT_EQ(reads_of(*model, config, *task, rows_for(*model, *task), {4, 1}), kTwice);
}

// A rank budget decides on the host what is kept, of all layers at once.
TEST(HostReads, AreThreeWhereAStepPrunes) {
  const auto model = test::tiny_model();
  const auto task = task_of(*model);
  const Json schedule = {{"target_r", 1}, {"tinit", 1}, {"tfinal", 2}, {"deltaT", 2}};
  for (const auto& [method, rank] :
       std::vector<std::pair<std::string, std::string>>{{"adalora", "init_r"}, {"sora", "r"}}) {
    Json options = schedule;
    options[rank] = 3;
    for (const int64_t accumulated : {1, 4}) {
      EXPECT_EQ(
          reads_of(*model, test::adapter_config(method, options), *task, rows_for(*model, *task), {accumulated, 1}, 8),
          (std::vector<int64_t>{2, 3, 2, 3, 2, 3, 2, 2}))
          << method << ", " << accumulated << " batches";
    }
  }
}

TEST(HostReads, AreTwoAStepWhereRowsAreCompared) {
  const auto model = test::tiny_model();
  std::vector<EncodedRow> first = test::invented_rows(kRowsOfRun, 1), second = test::invented_rows(kRowsOfRun, 2);
  for (std::vector<EncodedRow>* rows : {&first, &second}) {
    for (EncodedRow& row : *rows) row.type_ids.clear();
  }
  const auto pairs = std::make_shared<const PairRows>(std::move(first), std::move(second), 0);
  for (const Way& way : kWays) {
    for (const char* method : {"lora", "dora"}) {
      EXPECT_EQ(reads_of(*model, test::adapter_config(method, {{"r", 2}}), Contrastive(), pairs, way), kTwice)
          << method;
    }
  }
}

}  // namespace
}  // namespace deltaw
