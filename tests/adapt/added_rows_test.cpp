// Vocabularies that have grown: the rows that embeddings and head get, train and keep.
#include <gtest/gtest.h>

#include "adapt/added_rows.h"
#include "deltaw/error.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::base_folder;
using test::error_of;
using test::logits_of;

constexpr int64_t kStored = 61;  // rows of the fixtures' vocabularies

std::unique_ptr<Model> grown(const std::string& name, int64_t more = 2, const char* dtype = "float32") {
  return load_model(base_folder(name), {.dtype = dtype, .vocab_size = kStored + more});
}

/// Rows of tokens, the new ones among them.
ModelInput batch() {
  const Tensor ids = at::tensor({7, 61, 30, 62, 9, 61}, at::kLong).view({2, 3});
  return {.input_ids = ids, .attention_mask = at::ones_like(ids)};
}

AdapterConfig config_of(Json values) {
  if (!values.contains("method")) values["method"] = "lora";
  return adapter_config_from_json(values, "test");
}

const Layer& layer_named(const Model& model, const std::string& name) {
  for (const Layer* layer : model.layers()) {
    if (layer->name == name) return *layer;
  }
  throw std::runtime_error("no layer " + name);
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const io::TensorBytes& tensor : file.tensors()) {
    if (tensor.name.find("lora_") == std::string::npos) names.push_back(tensor.name.substr(17));
  }
  return names;
}

TEST(Vocabulary, NewRowsStartAsTheMean) {
  for (const std::string name : {"llama_heads", "llama_tied", "gpt2"}) {
    const auto before = load_model(base_folder(name), {.dtype = "float32"});
    const auto model = grown(name);
    EXPECT_EQ(model->vocab_size(), kStored + 2);
    EXPECT_EQ(model->config()["vocab_size"], kStored + 2);
    EXPECT_EQ(model->shape().word_embeddings.size(0), kStored + 2);
    for (const char* end : {"words", "lm_head"}) {
      const std::string words = name == "gpt2" ? "transformer.wte" : "model.embed_tokens";
      const std::string layer = end == std::string("words") ? words : end;
      const Tensor old = layer_named(*before, layer).weight.value, now = layer_named(*model, layer).weight.value;
      EXPECT_TRUE(now.narrow(0, 0, kStored).equal(old)) << name << " " << layer;
      const Tensor mean = old.to(at::kDouble).mean(0).to(at::kFloat);
      EXPECT_TRUE(now[kStored].equal(mean) && now[kStored + 1].equal(mean)) << name << " " << layer;
    }
    EXPECT_EQ(model->added_rows().size(), name == "llama_heads" ? 2u : 1u) << "a tied head has none of its own";
    const Tensor expected = logits_of(
        *before, nullptr,
        {.input_ids = at::arange(1, 5, at::kLong).view({1, 4}), .attention_mask = at::ones({1, 4}, at::kLong)});
    const Tensor got = logits_of(
        *model, nullptr,
        {.input_ids = at::arange(1, 5, at::kLong).view({1, 4}), .attention_mask = at::ones({1, 4}, at::kLong)});
    EXPECT_EQ(test::differs(got.narrow(-1, 0, kStored), expected, 1e-5), "") << name;
  }
}

TEST(Vocabulary, SpareRowsAreUsedFirst) {
  const auto model = load_model(base_folder("llama_heads"), {.dtype = "float32", .vocab_size = kStored - 3});
  EXPECT_EQ(model->vocab_size(), kStored);
  EXPECT_TRUE(model->added_rows().empty());
  const Adapter adapter = Adapter::create(*model, config_of({{"trainable_token_indices", {59, 60}}}), 1);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  EXPECT_EQ(names_in(folder.path()),
            std::vector<std::string>{"model.embed_tokens.token_adapter.trainable_tokens_delta"});
}

TEST(Vocabulary, TheRowsOfNewTokensTrainUnlessTheirModulesDo) {
  const std::vector<int64_t> ids{61, 62};
  const auto indices = [&](const std::string& name, Json values) {
    AdapterConfig config = config_of(std::move(values));
    train_new_tokens(*grown(name), config, ids);
    return config.trainable_token_indices;
  };
  const Json both = {{"embed_tokens", ids}, {"lm_head", ids}};
  EXPECT_EQ(indices("llama_tied", {}), Json(ids));
  EXPECT_EQ(indices("gpt2", {}), Json(ids));
  EXPECT_EQ(indices("llama_heads", {}), both);
  EXPECT_EQ(indices("llama_heads", both), both) << "each once";
  EXPECT_EQ(indices("llama_heads", {{"target_modules", {"q_proj", "lm_head"}}}), Json(ids));
  EXPECT_EQ(indices("llama_heads", {{"modules_to_save", {"embed_tokens"}}}), Json({{"lm_head", ids}}));
  EXPECT_EQ(indices("llama_heads", {{"modules_to_save", {"embed_tokens", "lm_head"}}}), Json());
  EXPECT_EQ(indices("llama_tied", {{"trainable_token_indices", {5, 61}}}), Json({5, 61, 62}));
  EXPECT_EQ(indices("llama_heads", {{"method", "full"}}), Json());
  EXPECT_EQ(error_of([&] { indices("llama_heads", {{"method", "prompt_tuning"}}); }).id(), "config.conflict");
}

TEST(Vocabulary, ComesBackWithTheAdapter) {
  const std::vector<Json> cases{{{"r", 2}},
                                {{"r", 2}, {"target_modules", {"q_proj", "embed_tokens"}}},
                                {{"r", 2}, {"target_modules", {"q_proj"}}, {"modules_to_save", {"embed_tokens"}}}};
  for (const std::string name : {"llama_heads", "llama_tied"}) {
    for (const Json& values : cases) {
      const auto model = grown(name);
      AdapterConfig config = config_of(values);
      train_new_tokens(*model, config, {61, 62});
      Adapter adapter = Adapter::create(*model, config, 1);
      test::randomise(adapter, 2);
      const test::TemporaryFolder folder;
      adapter.save(folder.path());

      const ModelOptions options = with_adapter_vocabulary({.dtype = "float32"}, folder.path());
      EXPECT_EQ(options.vocab_size, kStored + 2) << values;
      EXPECT_EQ(with_adapter_vocabulary({.vocab_size = kStored + 5}, folder.path()).vocab_size, kStored + 5)
          << "more are asked for";
      const auto again = load_model(base_folder(name), options);
      const Adapter read = Adapter::load(*again, folder.path());
      const Tensor expected = logits_of(*model, &adapter, batch());
      EXPECT_TRUE(logits_of(*again, &read, batch()).equal(expected)) << name << " " << values;

      const WriteReport report = merge_checkpoint(read, folder / "merged", test::probe_of(batch()));
      EXPECT_TRUE(report.passed) << name << " " << values << ": " << report.max_difference;
      EXPECT_EQ(read_json(folder / "merged" / "config.json")["vocab_size"], kStored + 2);
    }
  }
}

TEST(Vocabulary, IsStoredInTheCheckpointsTypeWhateverTheModelComputesIn) {
  for (const char* dtype : {"bf16", "float64"}) {
    const auto model = grown("llama_heads", 2, dtype);
    const Adapter adapter = Adapter::create(*model, config_of({}), 1);
    const test::TemporaryFolder folder;
    adapter.save(folder.path());
    EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"lm_head.weight", "model.embed_tokens.weight"}));
    const test::Golden file(folder / "adapter_model.safetensors");
    const auto exact = grown("llama_heads");
    EXPECT_TRUE(file["base_model.model.lm_head.weight"].equal(layer_named(*exact, "lm_head").weight.value)) << dtype;
    EXPECT_NO_THROW(
        Adapter::load(*load_model(base_folder("llama_heads"), with_adapter_vocabulary({.dtype = dtype}, folder.path())),
                      folder.path()));
  }
}

TEST(Vocabulary, OfAnotherBaseIsRefused) {
  const auto model = grown("llama_heads");
  const test::TemporaryFolder folder;
  Adapter::create(*model, config_of({{"target_modules", {"o_proj"}}}), 1).save(folder.path());
  const auto other = load_model(base_folder("llama_biases"), {.dtype = "float32", .vocab_size = kStored + 2});
  EXPECT_EQ(error_of([&] { Adapter::load(*other, folder.path()); }).id(), "format.other-base");
}

TEST(Vocabulary, OfAClassifierDoesNotGrow) {
  const auto load = [] { load_model(base_folder("bert_cls"), {.dtype = "float32", .vocab_size = 99}); };
  EXPECT_EQ(error_of(load).id(), "config.unsupported");
}

// As in torch's embedding, the row of the padding gets no gradient, wherever it stands.
TEST(Vocabulary, TheRowOfThePaddingDoesNotTrain) {
  const auto model = load_model(base_folder("bert_cls"), {.dtype = "float64"});
  Adapter adapter = Adapter::create(*model, config_of({{"trainable_token_indices", {0, 7}}}), 1);
  Tensor rows;
  for (NamedTensor& tensor : adapter.trained()) {
    if (tensor.name.find("trainable_tokens") != std::string::npos) rows = tensor.value.requires_grad_();
  }
  ASSERT_TRUE(rows.defined());
  const Tensor ids = at::tensor({7, 9, 0, 11}, at::kLong).view({1, 4});
  Call call{.adapter = &adapter};
  model->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)}, call).select(1, 0).sum().backward();
  EXPECT_EQ(rows.grad()[0].abs().max().item<double>(), 0);
  EXPECT_GT(rows.grad()[1].abs().max().item<double>(), 0);
}

TEST(Vocabulary, RowsTrainInOneWayOnly) {
  const auto model = load_model(base_folder("llama_tied"), {.dtype = "float32"});
  const Json values = {{"target_modules", {"q_proj", "lm_head"}}, {"trainable_token_indices", {3}}};
  EXPECT_EQ(error_of([&] { Adapter::create(*model, config_of(values), 1); }).id(), "config.conflict");
  const Json unknown = {{"trainable_token_indices", {{"q_proj", {3}}}}};
  EXPECT_EQ(error_of([&] { Adapter::create(*model, config_of(unknown), 1); }).id(), "config.tokens");
  const auto beside_rows = [&](const char* target) {
    std::vector<Adapter> both;
    both.push_back(Adapter::create(*model, config_of({{"trainable_token_indices", {3}}}), 1));
    both.push_back(Adapter::create(*model, config_of({{"target_modules", {target}}}), 1));
    return Adapter::compose(std::move(both));
  };
  EXPECT_EQ(error_of([&] { beside_rows("embed_tokens"); }).id(), "config.conflict");
  EXPECT_NO_THROW(beside_rows("q_proj"));
}

}  // namespace
}  // namespace deltaw
