// Checkpoints that do not fit their config, and what is said of them.
#include <gtest/gtest.h>

#include "deltaw/model.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;

class LoadModel : public testing::Test {
 protected:
  LoadModel() { std::filesystem::copy(fixture("golden/models/bert_cls"), folder.path()); }
  void edit(const std::string& key, const Json& value) const {
    Json config = read_json(folder / "config.json");
    config[key] = value;
    write_json(folder / "config.json", config);
  }
  Error error(const ModelOptions& options = {.dtype = "float32"}) const {
    return error_of([&] { load_model(folder.path().string(), options); });
  }
  test::TemporaryFolder folder;
};

TEST_F(LoadModel, NamesTensorFileAndBothShapes) {
  edit("intermediate_size", 48);
  EXPECT_EQ(error().id(), "shape.mismatch");
  EXPECT_NE(error().parts().what.find("[40, 16]"), std::string::npos);
  EXPECT_NE(error().parts().what.find("[48, 16]"), std::string::npos);
  EXPECT_NE(error().parts().where.find("model.safetensors"), std::string::npos);
}

TEST_F(LoadModel, MissesLayersThatTheCheckpointLacks) {
  edit("num_hidden_layers", 3);
  EXPECT_EQ(error().id(), "format.missing-tensor");
}

TEST_F(LoadModel, DoesNotLeaveLayersOut) {
  edit("num_hidden_layers", 1);
  EXPECT_EQ(error().id(), "format.unexpected-tensor");
}

TEST_F(LoadModel, NamesTheKeyThatIsWrong) {
  edit("hidden_size", "sixteen");
  EXPECT_EQ(error().id(), "config.bad-model");
  edit("hidden_size", 16);
  edit("hidden_act", "swoosh");
  EXPECT_EQ(error().id(), "config.unsupported");
  edit("hidden_act", "gelu");
  edit("model_type", "brt");
  EXPECT_NE(error().parts().fix.find("bert"), std::string::npos);
}

TEST_F(LoadModel, KeepsTheHeadUnlessToldToDrawAnother) {
  EXPECT_EQ(error({.dtype = "float32", .num_labels = 5}).id(), "shape.mismatch");
  const auto model =
      load_model(folder.path().string(), {.dtype = "float32", .num_labels = 5, .ignore_mismatched_sizes = true});
  EXPECT_EQ(model->new_modules(), std::vector<std::string>{"classifier"});
  EXPECT_EQ(model->num_labels(), 5);
}

TEST_F(LoadModel, DrawsAHeadOfTheSameSizeWhereThatIsAskedFor) {
  const auto stored = load_model(folder.path().string(), {.dtype = "float32"});
  const auto drawn = load_model(folder.path().string(), {.dtype = "float32", .new_head = true});
  EXPECT_TRUE(stored->new_modules().empty());
  EXPECT_EQ(drawn->new_modules(), std::vector<std::string>{"classifier"});
  EXPECT_FALSE(at::equal(drawn->head_layer()->weight.value, stored->head_layer()->weight.value));
}

TEST_F(LoadModel, ReadsTheLabelsOfItsConfigInWhicheverDirection) {
  const std::vector<std::string> own = {"negative", "neutral", "positive"};
  EXPECT_EQ(stored_labels(folder.path().string()).names, own);
  EXPECT_TRUE(stored_labels(folder.path().string()).stored);
  edit("id2label", nullptr);
  EXPECT_EQ(stored_labels(folder.path().string()).names, own);  // by label2id
  EXPECT_EQ(load_model(folder.path().string(), {.dtype = "float32"})->label_names(), own);
  edit("label2id", Json{{"yes", 0}, {"no", 2}});  // no list
  EXPECT_EQ(stored_labels(folder.path().string()).names, (std::vector<std::string>{"LABEL_0", "LABEL_1", "LABEL_2"}));
  edit("label2id", Json{{"yes", 0}, {"no", 1}});  // not those of the head
  EXPECT_EQ(stored_labels(folder.path().string()).names, (std::vector<std::string>{"LABEL_0", "LABEL_1", "LABEL_2"}));
  EXPECT_FALSE(stored_labels(fixture("golden/models/bert_base").string()).stored);
}

TEST_F(LoadModel, KnowsTheLabelsOfItsConfig) {
  const auto model = load_model(folder.path().string(), {.dtype = "float32"});
  EXPECT_EQ(model->label_names(), (std::vector<std::string>{"negative", "neutral", "positive"}));
  EXPECT_FALSE(model->is_regression());
  EXPECT_TRUE(load_model(fixture("golden/models/bert_reg").string(), {.dtype = "float32"})->is_regression());
}

TEST_F(LoadModel, RefusesARowLongerThanItsPositions) {
  const auto model = load_model(folder.path().string(), {.dtype = "float32"});
  const Tensor ids = at::ones({1, 41}, at::kLong);
  Call call;
  EXPECT_EQ(error_of([&] { model->forward({.input_ids = ids, .attention_mask = ids}, call); }).id(), "data.too-long");
}

TEST_F(LoadModel, GivesADecoderTheHeadOfAClassifierWhereThatIsAsked) {
  const std::string folder = fixture("golden/models/llama_tied").string();
  EXPECT_EQ(task_type_of(folder), "CAUSAL_LM");
  EXPECT_EQ(task_type_of(folder, "SEQ_CLS"), "SEQ_CLS");
  EXPECT_EQ(task_type_of(fixture("golden/models/llama_cls").string()), "SEQ_CLS") << "its config.json says so";
  const auto model = load_model(folder, {.task_type = "SEQ_CLS", .dtype = "float64", .num_labels = 3});
  EXPECT_EQ(model->task_type(), "SEQ_CLS");
  EXPECT_EQ(model->head(), "score");
  EXPECT_EQ(model->architecture(), "LlamaForSequenceClassification");
  EXPECT_EQ(model->new_modules(), (std::vector<std::string>{"score"}));
  // A row's logits are those of its last token, on whichever side the padding stands.
  const Tensor ids = at::tensor(std::vector<int64_t>{5, 6, 7, 9, 9, 5, 6, 7}, at::kLong).view({2, 4});
  const Tensor mask = at::tensor(std::vector<int64_t>{1, 1, 1, 0, 0, 1, 1, 1}, at::kLong).view({2, 4});
  const at::NoGradGuard no_grad;
  Call call;
  const Tensor both = model->forward({.input_ids = ids, .attention_mask = mask}, call);
  const Tensor row = ids.narrow(1, 0, 3).narrow(0, 0, 1);
  const Tensor alone = model->forward({.input_ids = row, .attention_mask = at::ones_like(row)}, call);
  EXPECT_TRUE(at::allclose(both[0], alone[0], 1e-9, 1e-12));
  EXPECT_TRUE(at::allclose(both[1], alone[0], 1e-9, 1e-12));
  EXPECT_EQ(error_of([] { task_type_of(fixture("golden/models/bert_cls").string(), "CAUSAL_LM"); }).id(),
            "config.unsupported");
}

}  // namespace
}  // namespace deltaw
