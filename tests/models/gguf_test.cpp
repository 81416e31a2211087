// Models of GGUF files that llama.cpp's converter wrote, against transformers on the checkpoints before (tests/golden,
// written by oracle/make_gguf_models.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/gguf.h"
#include "models/gguf.h"
#include "support/golden.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

fs::path file_of(const std::string& name, const char* ending) {
  return test::fixture("golden/gguf_models/" + name + ending);
}

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(test::fixture("golden/gguf_models"))) {
    if (entry.path().extension() == ".gguf") found.push_back(entry.path().stem());
  }
  std::sort(found.begin(), found.end());
  return found;
}

Tensor numbers(const Json& list) {
  return at::tensor(list.get<std::vector<double>>(), at::kDouble);
}

// [length, vocabulary]
Tensor log_probabilities(const Model& model, const std::vector<int64_t>& ids) {
  const Tensor row = at::tensor(ids, at::kLong).unsqueeze(0);
  return test::logits_of(model, nullptr, {.input_ids = row, .attention_mask = at::ones_like(row)})[0]
      .to(at::kDouble)
      .log_softmax(-1);
}

class GgufModel : public testing::TestWithParam<std::string> {};

TEST_P(GgufModel, GivesTheLogProbabilitiesOfTheCheckpointBefore) {
  const Json expected = read_json(file_of(GetParam(), ".json"));
  const auto model = load_model(file_of(GetParam(), ".gguf").string(), {.dtype = "float32"});
  const auto ids = expected["input_ids"].get<std::vector<int64_t>>();
  const Tensor found = log_probabilities(*model, ids);
  const Tensor next = at::tensor(std::vector<int64_t>(ids.begin() + 1, ids.end()), at::kLong);
  const Tensor of_next = found.narrow(0, 0, next.numel()).gather(1, next.unsqueeze(1)).squeeze(1);
  // A Mistral's window is lost in the file; a Phi-3's stands there.
  const bool lost = expected["lost"].get<std::string>().starts_with("sliding_window");
  const std::string prefix = lost ? "no_window_" : "";
  EXPECT_EQ(test::differs(of_next, numbers(expected[prefix + "next_logprobs"]), 2e-4), "");
  EXPECT_EQ(test::differs(found[-1], numbers(expected[prefix + "last_logprobs"]), 2e-4), "");
}

TEST_P(GgufModel, SaysWhatConfigJsonSaid) {
  const Json expected = read_json(file_of(GetParam(), ".json"))["config"];
  const Json found = read_model_config(file_of(GetParam(), ".gguf"));
  for (const char* key : {"hidden_size",
                          "num_hidden_layers",
                          "num_attention_heads",
                          "num_key_value_heads",
                          "intermediate_size",
                          "max_position_embeddings",
                          "rms_norm_eps",
                          "vocab_size",
                          "tie_word_embeddings",
                          "bos_token_id",
                          "n_embd",
                          "n_layer",
                          "n_head",
                          "n_positions",
                          "layer_norm_epsilon",
                          "attn_logit_softcapping",
                          "final_logit_softcapping",
                          "query_pre_attn_scalar",
                          "attention_bias",
                          "mlp_bias"}) {
    if (!expected.contains(key)) continue;
    ASSERT_TRUE(found.contains(key)) << key;
    EXPECT_EQ(found[key], expected[key]) << key;
  }
}

TEST_P(GgufModel, IsTheSameAsAFolder) {
  const auto model = load_model(file_of(GetParam(), ".gguf").string(), {.dtype = "float32"});
  const test::TemporaryFolder folder;
  const ConvertReport report = convert_checkpoint(*model, folder / "out");
  EXPECT_EQ(report.problem, "");
  EXPECT_GT(report.parameters, 0);
  const auto converted = load_model((folder / "out").string(), {.dtype = "float32"});
  const auto ids = read_json(file_of(GetParam(), ".json"))["input_ids"].get<std::vector<int64_t>>();
  EXPECT_TRUE(log_probabilities(*converted, ids).equal(log_probabilities(*model, ids)));
}

TEST_P(GgufModel, ComputesTheSameWhereBlocksStayInTheFile) {
  const std::string path = file_of(GetParam(), ".gguf").string();
  const auto numbers = load_model(path, {.dtype = "float32"});
  const auto blocks = load_model(path, {.dtype = "float32", .dequantize = false});
  const auto ids = read_json(file_of(GetParam(), ".json"))["input_ids"].get<std::vector<int64_t>>();
  EXPECT_TRUE(log_probabilities(*blocks, ids).equal(log_probabilities(*numbers, ids)));
  int64_t held = 0, whole = 0;
  for (const Parameter* parameter : blocks->parameters()) held += parameter->nbytes();
  for (const Parameter* parameter : numbers->parameters()) whole += parameter->nbytes();
  const bool quantised = GetParam().ends_with("_mix");
  EXPECT_EQ(held < whole, quantised);
  EXPECT_FALSE(blocks->quantisation_error().has_value());  // nothing was changed
}

INSTANTIATE_TEST_SUITE_P(Files, GgufModel, testing::ValuesIn(names()),
                         [](const testing::TestParamInfo<std::string>& each) { return each.param; });

TEST(GgufFamilies, NameEveryDecoder) {
  for (const FamilySpec* family : family_table())
    EXPECT_EQ(family->gguf != nullptr, family->is_decoder) << family->model_type;
}

TEST(GgufFamilies, FindThePlaceOfAModule) {
  const auto model = load_model(file_of("gemma2", ".gguf").string(), {.dtype = "float32"});
  const auto place = gguf_place(*model, "model.layers.1.post_attention_layernorm");
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->name, "blk.1.post_attention_norm");
  EXPECT_EQ(place->layout, GgufLayout::plus_one);
  EXPECT_FALSE(gguf_place(*model, "model.layers.1.self_attn.qk_proj").has_value());
}

TEST(GgufModels, AreHeldInOneKindOfBits) {
  const std::string path = file_of("llama_mix", ".gguf").string();
  const Error error = test::error_of([&] { load_model(path, {.load_in_4bit = true, .dequantize = false}); });
  EXPECT_EQ(error.id(), "config.conflict");
}

TEST(GgufModels, EndAtTheEndOfATurnToo) {
  const fs::path file = file_of("llama_llama3", ".gguf");
  const std::string of_start = "tokenizer.ggml.bos_token_id", of_turn = "tokenizer.ggml.eot_token_id";
  std::string bytes = read_file(file);
  const size_t at = bytes.find(of_start);
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, of_start.size(), of_turn);
  const test::TemporaryFolder folder;
  const Json before = read_model_config(file), after = read_model_config(test::put(folder / "turns.gguf", bytes));
  EXPECT_EQ(after["eos_token_id"], Json::array({before["eos_token_id"], before["bos_token_id"]}));
}

TEST(GgufRows, StandAsTheFileHasThem) {
  const fs::path file = file_of("llama_llama3", ".gguf");
  const auto model = load_model(file.string(), {.dtype = "float32"});
  const io::GgufFile stored(file);
  for (const char* part : {"q", "k", "v"}) {
    const std::string module = std::string("model.layers.1.self_attn.") + part + "_proj";
    const auto place = gguf_place(*model, module);
    const io::TensorBytes& bytes = *stored.find(place->name + ".weight");
    const Tensor in_file = to_tensor(bytes, at::kFloat, nullptr);
    for (const Parameter* parameter : model->parameters()) {
      if (parameter->name != module + ".weight") continue;
      EXPECT_TRUE(gguf_rows(parameter->value, place->layout, *model).equal(in_file)) << part;
      EXPECT_EQ(parameter->value.equal(in_file), std::string(part) == "v") << part;
    }
  }
}

}  // namespace
}  // namespace deltaw
