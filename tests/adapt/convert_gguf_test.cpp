// Folders as GGUF files: from files that llama.cpp's converter wrote to folders, and back.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "deltaw/tokenizer.h"
#include "io/gguf.h"
#include "models/loader.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::fixture;

fs::path golden(const std::string& name) {
  return fixture("golden/gguf_models/" + name + ".gguf");
}

ModelInput input() {
  const Tensor ids = at::arange(3, 12, at::kLong).view({1, -1});
  return {ids, at::ones_like(ids), {}};
}

/// A checkpoint folder of what a file of llama.cpp's converter holds.
struct Folder {
  test::TemporaryFolder place;
  std::unique_ptr<Model> model;

  explicit Folder(const std::string& name) {
    const auto file = load_model(golden(name).string(), {.dtype = "float32"});
    convert_checkpoint(*file, place / "m",
                       [&](const fs::path& folder) { Tokenizer::from_file(golden(name)).save(folder); });
    load();
  }
  void load() { model = load_model((place / "m").string(), {.dtype = "float32"}); }
  void set(const char* key, const Json& value) {
    Json config = read_json(place / "m/config.json");
    config[key] = value;
    write_json(place / "m/config.json", config);
    load();
  }

  GgufOptions options(const std::string& type = "auto") const {
    return {.type = type, .companions = [this](const fs::path& folder) {
              for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
                fs::copy_file(place / "m" / file, folder / file);
              }
            }};
  }
  ConvertReport convert(const GgufOptions& wanted) const { return convert_gguf(*model, place / "g", wanted); }
  fs::path file() const { return place / "g/model.gguf"; }
};

Tensor numbers(const io::TensorBytes& bytes) {
  return to_tensor(bytes, at::kFloat, nullptr);
}

class ConvertGguf : public testing::TestWithParam<const char*> {};

TEST_P(ConvertGguf, WritesWhatLlamaCppsConverterWrote) {
  const Folder folder(GetParam());
  const ConvertReport report = folder.convert(folder.options());
  EXPECT_EQ(report.problem, "");
  const io::GgufFile theirs(golden(GetParam())), ours(folder.file());
  for (const auto& [key, value] : theirs.values().items()) {
    if (key == "general.name" || key == "tokenizer.ggml.scores") continue;  // those are from the order of the merges
    const Json* found = ours.find_value(key);
    ASSERT_NE(found, nullptr) << key;
    EXPECT_EQ(*found, value) << key;
    EXPECT_EQ(ours.type_of(key).type, theirs.type_of(key).type) << key;
    EXPECT_EQ(ours.type_of(key).items, theirs.type_of(key).items) << key;
  }
  ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
  for (const io::TensorBytes& tensor : theirs.tensors()) {
    const io::TensorBytes* found = ours.find(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->dtype, tensor.dtype) << tensor.name;
    ASSERT_EQ(found->shape, tensor.shape) << tensor.name;
    const bool rounded = tensor.name.starts_with("rope_") || tensor.name.find("norm") != std::string::npos;
    EXPECT_TRUE(rounded ? numbers(*found).allclose(numbers(tensor), 1e-6) : numbers(*found).equal(numbers(tensor)))
        << tensor.name;
  }
  const auto again = load_model(folder.file().string(), {.dtype = "float32"});
  const Tensor expected = test::logits_of(*folder.model, nullptr, input());
  EXPECT_EQ(test::differs(test::logits_of(*again, nullptr, input()), expected, test::logit_tolerance(expected)), "");
}

INSTANTIATE_TEST_SUITE_P(Files, ConvertGguf,
                         testing::Values("gemma2", "gpt2", "llama_biases", "llama_llama3", "mistral", "phi3_long",
                                         "phi3_partial", "qwen2", "qwen2_yarn", "qwen3", "llama_f16"));

TEST(ConvertGgufTypes, AreThoseOfTheMatrices) {
  const Folder folder("gpt2");
  const std::map<std::string, io::Dtype> types = {
      {"F32", io::Dtype::f32}, {"F16", io::Dtype::f16}, {"BF16", io::Dtype::bf16}, {"Q8_0", io::Dtype::q8_0}};
  for (const auto& [name, dtype] : types) {
    EXPECT_EQ(folder.convert(folder.options(name)).problem, "") << name;
    const io::GgufFile file(folder.file());
    // Rows of 24 and 96: only the latter are whole blocks.
    const io::Dtype narrow = dtype == io::Dtype::q8_0 ? io::Dtype::f16 : dtype;
    EXPECT_EQ(file.find("blk.0.attn_qkv.weight")->dtype, narrow) << name;
    EXPECT_EQ(file.find("blk.0.ffn_down.weight")->dtype, dtype) << name;
    EXPECT_EQ(file.find("position_embd.weight")->dtype, io::Dtype::f32) << name;
    EXPECT_EQ(file.find("blk.0.attn_qkv.bias")->dtype, io::Dtype::f32) << name;
    EXPECT_EQ(file.find("output_norm.weight")->dtype, io::Dtype::f32) << name;
  }
  EXPECT_TRUE(fs::exists(folder.place / "g/Modelfile"));
}

TEST(ConvertGgufTypes, OfAFileAreChangedToo) {
  const auto model = load_model(golden("llama_mix").string(), {.dtype = "float32"});
  const test::TemporaryFolder folder;
  EXPECT_EQ(convert_gguf(*model, folder / "g", {.type = "BF16"}).problem, "");
  const io::GgufFile before(golden("llama_mix")), after(folder / "g/model.gguf");
  EXPECT_EQ(after.find("blk.1.attn_q.weight")->dtype, io::Dtype::bf16);
  EXPECT_EQ(*after.find_value("general.file_type"), 32);
  EXPECT_EQ(*after.find_value("tokenizer.ggml.tokens"), *before.find_value("tokenizer.ggml.tokens"));
}

TEST(MergeGgufOfAFolder, IsBaseAndAdapter) {
  for (const char* name : {"gemma2", "gpt2", "mistral", "phi3_long", "qwen3"}) {
    const Folder folder(name);
    const Json values = {{"method", "lora"}, {"r", 3}, {"lora_alpha", 5}, {"target_modules", "all-linear"}};
    Adapter adapter = Adapter::create(*folder.model, adapter_config_from_json(values, "test"), /*seed=*/1);
    test::randomise(adapter, 7, 0.2);
    const MergeReport report = merge_gguf(adapter, folder.place / "g", test::probe_of(input()), folder.options());
    EXPECT_TRUE(report.passed) << name << ": " << report.problem;
    EXPECT_EQ(report.dtype, "F32") << name;
    EXPECT_LT(report.rounding_share, 1e-3) << name;
    const auto merged = load_model(folder.file().string(), {.dtype = "float32"});
    const Tensor expected = test::logits_of(*folder.model, &adapter, input());
    EXPECT_EQ(test::differs(test::logits_of(*merged, nullptr, input()), expected, test::logit_tolerance(expected)), "")
        << name;
  }
}

TEST(MergeGgufOfAFolder, WritesAHeadThatIsNoLongerTheEmbeddings) {
  const auto merged = [](const Folder& folder) {
    const Json values = {{"method", "lora"}, {"r", 2}, {"target_modules", {"lm_head"}}};
    Adapter adapter = Adapter::create(*folder.model, adapter_config_from_json(values, "test"), /*seed=*/1);
    test::randomise(adapter, 7, 0.2);
    return merge_gguf(adapter, folder.place / "g", test::probe_of(input()), folder.options());
  };
  const Folder tied("qwen3");
  EXPECT_TRUE(merged(tied).passed);
  EXPECT_NE(io::GgufFile(tied.file()).find("output.weight"), nullptr);
  const Folder alone("gemma2");  // of which llama.cpp knows no head
  const Error error = test::error_of([&] { merged(alone); });
  EXPECT_EQ(error.id(), "config.unsupported");
  EXPECT_NE(error.parts().what.find("lm_head.weight"), std::string::npos) << error.what();
}

/// What is refused of a folder with another value in config.json.
Error refused(const std::string& name, const char* key, const Json& value) {
  Folder folder(name);
  folder.set(key, value);
  const Error error = test::error_of([&] { folder.convert(folder.options()); });
  EXPECT_FALSE(fs::exists(folder.file())) << name << " " << key;
  return error;
}

TEST(ConvertGgufRefuses, WhatLlamaCppWouldComputeInAnotherWay) {
  Json yarn = read_json(fixture("golden/gguf_models/qwen2_yarn.json"))["config"]["rope_parameters"], cut = yarn;
  yarn["attention_factor"] = 1.5;
  cut["truncate"] = false;
  Json banded = read_json(fixture("golden/gguf_models/llama_llama3.json"))["config"]["rope_parameters"];
  const std::vector<std::tuple<const char*, const char*, Json, const char*>> cases = {
      {"gemma2", "query_pre_attn_scalar", 8, "query_pre_attn_scalar"},
      {"gemma2", "attn_logit_softcapping", nullptr, "attn_logit_softcapping"},
      {"gemma2", "final_logit_softcapping", nullptr, "final_logit_softcapping"},
      {"gemma2", "hidden_activation", "relu", "hidden_act"},
      {"gpt2", "activation_function", "relu", "activation_function"},
      {"gpt2", "scale_attn_by_inverse_layer_idx", true, "scale_attn_by_inverse_layer_idx"},
      {"llama_llama3", "hidden_act", "relu", "hidden_act"},
      {"qwen2_yarn", "rope_scaling", yarn, "attention_factor"},
      {"qwen2_yarn", "rope_scaling", cut, "truncate"},
      {"qwen2", "rope_scaling", banded, "rope_type"},
  };
  for (const auto& [name, key, value, named] : cases) {
    const Error error = refused(name, key, value);
    EXPECT_EQ(error.id(), "config.unsupported") << name << " " << key << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << name << " " << key << ": " << error.what();
  }
}

TEST(ConvertGgufRefuses, OtherModelsAndFoldersWithoutATokenizer) {
  const Folder folder("llama_llama3");
  const Error no_tokenizer = test::error_of([&] { folder.convert({}); });
  EXPECT_EQ(no_tokenizer.id(), "config.unsupported");
  EXPECT_NE(no_tokenizer.parts().what.find("no tokenizer"), std::string::npos);
  for (const char* name : {"bert_masked", "llama_cls"}) {
    const auto model = load_model(fixture(std::string("golden/models/") + name).string(), {.dtype = "float32"});
    const Error error = test::error_of([&] { convert_gguf(*model, folder.place / "g"); });
    EXPECT_EQ(error.id(), "config.unsupported") << name;
    EXPECT_NE(error.parts().fix.find("--to hf"), std::string::npos) << name;
  }
}

TEST(ConvertGgufLoses, WindowsWithAWarning) {
  Folder folder("mistral");
  folder.set("model_type", "mistral");
  folder.set("architectures", {"MistralForCausalLM"});
  folder.set("sliding_window", 8);
  testing::internal::CaptureStderr();
  EXPECT_EQ(folder.convert(folder.options()).problem, "");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the window of 8 tokens"), std::string::npos) << said;
  EXPECT_EQ(*io::GgufFile(folder.file()).find_value("general.architecture"), "llama");
}

TEST(ConvertGgufPatterns, OfGemmasWindowsAreWritten) {
  const auto pattern = [](const std::vector<const char*>& kinds) {
    Folder folder("gemma2");
    Json types = Json::array();
    for (const char* kind : kinds) types.push_back(std::string(kind) + "_attention");
    folder.set("layer_types", types);
    EXPECT_EQ(folder.convert(folder.options()).problem, "");
    const io::GgufFile file(folder.file());
    const Json* found = file.find_value("gemma2.attention.sliding_window_pattern");
    return found ? *found : Json();
  };
  EXPECT_TRUE(pattern({"sliding", "full"}).is_null());  // llama.cpp's own
  EXPECT_EQ(pattern({"full", "full"}), 1);
  EXPECT_EQ(pattern({"sliding", "sliding"}), 3);
}

}  // namespace
}  // namespace deltaw
