// Which task a checkpoint and an adapter are for.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/task_reader.h"
#include "support/data.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

/// A task with the head of a classifier.
const TaskSpec& borrower() {
  static const TaskSpec spec{.id = "borrower", .title = "a test", .head = "SEQ_CLS", .words = {.models = "zebras"}};
  static const bool once = (register_task(spec), true);
  (void)once;
  return spec;
}

std::string model_folder(const char* name) {
  return test::fixture(std::string("golden/models/") + name).string();
}

TEST(TaskTable, IsListedByWhatItsModelsAreCalled) {
  borrower();
  std::vector<std::string> models;
  for (const TaskSpec* task : listed_tasks()) models.push_back(task->words.models);
  EXPECT_EQ(models,
            (std::vector<std::string>{"classifiers", "classifiers of images", "contrastive models of images and texts",
                                      "denoisers", "language models", "masked language models",
                                      "models of images and texts", "multiple-choice models", "question answerers",
                                      "sentence encoders", "token classifiers", "zebras"}));
}

TEST(TaskTable, ACheckpointIsForTheTaskThatIsAskedFor) {
  borrower();
  EXPECT_EQ(task_for(model_folder("bert_cls")).id, "SEQ_CLS");
  EXPECT_EQ(task_for(model_folder("llama_tied")).id, "CAUSAL_LM");
  EXPECT_EQ(task_for(model_folder("llama_tied"), "SEQ_CLS").id, "SEQ_CLS");
  EXPECT_EQ(task_for(model_folder("bert_cls"), "borrower").id, "borrower");
  EXPECT_EQ(head_type("borrower"), "SEQ_CLS");
  EXPECT_EQ(head_type("CAUSAL_LM"), "CAUSAL_LM");
  EXPECT_THROW(task_for(model_folder("bert_cls"), "CAUSAL_LM"), Error);
  EXPECT_THROW(task_for(model_folder("bert_cls"), "nothing"), Error);
}

TEST(TaskTable, AnAdapterIsForATaskWhoseHeadTheModelHas) {
  borrower();
  const auto model = load_model(model_folder("bert_cls"), {.dtype = "float32"});
  AdapterConfig config;
  config.method = "lora";
  config.target_modules = "all-linear";
  config.task_type = "borrower";
  const test::TemporaryFolder folder;
  Adapter::create(*model, config, 7).save(folder.path());
  const Json written = read_json(folder / "adapter_config.json");
  EXPECT_TRUE(written["task_type"].is_null()) << "PEFT refuses a type that it has not";
  EXPECT_EQ(written["auto_mapping"]["task"], "borrower");
  EXPECT_EQ(written["auto_mapping"]["base_model_class"], "BertForSequenceClassification");
  EXPECT_EQ(written["auto_mapping"]["parent_library"], "transformers.models.bert.modeling_bert");
  EXPECT_EQ(written["modules_to_save"], Json({"classifier"})) << "PEFT then keeps no head by itself";
  EXPECT_EQ(Adapter::load(*model, folder.path()).config().task_type, "borrower");
  const auto decoder = load_model(model_folder("llama_tied"), {.dtype = "float32"});
  try {
    Adapter::create(*decoder, config, 7);
    ADD_FAILURE() << "a causal model has no such head";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "config.task-type");
  }
}

}  // namespace
}  // namespace deltaw
