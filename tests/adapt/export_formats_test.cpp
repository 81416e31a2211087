// Adapters for llama.cpp and MLX: what stands in the files, and that MLX's is read again. oracle/check_gguf_adapters.py
// lets llama.cpp itself read the first, oracle/mlx_reader.py a model of transformers the second.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "deltaw/error.h"
#include "deltaw/export.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "models/gguf.h"
#include "models/loader.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;

std::unique_ptr<Model> gguf_model(const std::string& name) {
  return load_model(fixture("golden/gguf_models/" + name + ".gguf").string(), {.dtype = "float32"});
}

Adapter random_adapter(const Model& model, const Json& values) {
  Adapter adapter = Adapter::create(model, adapter_config_from_json(values, "test"), 1);
  test::randomise(adapter, 7);
  return adapter;
}

Probe probe() {
  const Tensor ids = at::tensor(std::vector<int64_t>{3, 5, 8, 13, 21, 34, 3, 9}, at::kLong).view({2, 4});
  return test::probe_of({ids, at::ones_like(ids), {}});
}

Tensor of_file(const io::TensorFile& file, const std::string& name) {
  const io::TensorBytes* bytes = file.find(name);
  EXPECT_TRUE(bytes) << name;
  return bytes ? to_tensor(*bytes, at::kFloat, std::make_shared<io::TensorFile>(file)).clone() : Tensor();
}

const Json kAll = {{"method", "lora"},
                   {"r", 4},
                   {"lora_alpha", 6},
                   {"target_modules", "all-linear"},
                   {"rank_pattern", {{R"(.*\.0\..*(q_proj|qkv_proj|c_attn))", 3}}},
                   {"alpha_pattern", {{R"(.*\.1\..*(down_proj|c_fc))", 9}}}};

TEST(GgufAdapter, HoldsEveryUpdateInTheOrderOfTheFile) {
  for (const char* name : {"llama_llama3", "qwen2", "phi3_partial", "gpt2"}) {
    const auto model = gguf_model(name);
    const Adapter adapter = random_adapter(*model, kAll);
    const test::TemporaryFolder folder;
    const ExportReport report = export_adapter(adapter, folder / "out", ExportFormat::gguf, 0, probe());
    EXPECT_TRUE(report.passed) << report.problem;
    EXPECT_TRUE(report.exact);
    const io::GgufFile file(folder / "out/adapter.gguf");
    EXPECT_EQ(*file.find_value("general.type"), "adapter");
    EXPECT_EQ(*file.find_value("general.architecture"), model->family()->gguf->architecture);
    EXPECT_EQ(*file.find_value("adapter.lora.alpha"), 0.0);
    EXPECT_EQ(file.tensors().size(), 2 * adapter.layers().size());
    for (const AdaptedLayer* layer : adapter.layers()) {
      const auto place = gguf_place(*model, layer->info.name);
      ASSERT_TRUE(place) << layer->info.name;
      const Tensor A = of_file(file, place->name + ".weight.lora_a"), B = of_file(file, place->name + ".weight.lora_b");
      const Update u = layer->update();
      const Tensor expected = gguf_rows(at::mm(u.left * u.scale, u.right).detach(), place->layout, *model);
      EXPECT_TRUE(at::allclose(at::mm(B, A), expected, 1e-5, 1e-6)) << name << ", " << layer->info.name;
    }
    EXPECT_TRUE(read_file(folder / "out/Modelfile").find("ADAPTER ./adapter.gguf") != std::string::npos);
  }
}

TEST(GgufAdapter, TurnsTheRowsThatLlamaCppTurns) {
  const auto model = gguf_model("llama_llama3");
  const Tensor rows = at::arange(32, at::kFloat).view({32, 1});
  const Tensor turned = gguf_rows(rows, GgufLayout::query_pairs, *model).flatten();
  // Four heads of eight: row 1 of the file is half a head further.
  EXPECT_EQ(turned[0].item<float>(), 0);
  EXPECT_EQ(turned[1].item<float>(), 4);
  EXPECT_EQ(turned[2].item<float>(), 1);
  EXPECT_EQ(turned[8].item<float>(), 8);
}

TEST(GgufAdapter, IsRefusedWhatItCannotHold) {
  const auto model = gguf_model("llama_llama3");
  const auto refused = [&](const Json& more) {
    Json values = kAll;
    values.update(more);
    const Adapter adapter = random_adapter(*model, values);
    const test::TemporaryFolder folder;
    const Error error = error_of([&] { export_adapter(adapter, folder / "out", ExportFormat::gguf, 0, probe()); });
    EXPECT_FALSE(std::filesystem::exists(folder / "out"));
    return error;
  };
  EXPECT_EQ(refused({{"modules_to_save", {"lm_head"}}}).id(), "config.no-export");
  EXPECT_NE(refused({{"trainable_token_indices", {{"embed_tokens", {3}}}}}).parts().what.find("rows"),
            std::string::npos);
  const auto bert = load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  const Adapter classifier = random_adapter(*bert, {{"method", "lora"}, {"target_modules", {"query"}}});
  const test::TemporaryFolder folder;
  const Error error = error_of([&] { export_adapter(classifier, folder / "out", ExportFormat::gguf, 0, probe()); });
  EXPECT_EQ(error.id(), "config.no-export");
}

TEST(MlxAdapter, IsReadAgainAsItWas) {
  for (const char* name : {"llama_llama3", "gpt2"}) {
    const auto model = gguf_model(name);
    const Adapter adapter = random_adapter(*model, kAll);
    const test::TemporaryFolder folder;
    const ExportReport report = export_adapter(adapter, folder / "out", ExportFormat::mlx, 0, probe());
    EXPECT_TRUE(report.passed) << report.problem;
    const Json config = read_json(folder / "out/adapter_config.json");
    EXPECT_EQ(config["fine_tune_type"], "lora");
    EXPECT_EQ(config["num_layers"], 2);
    EXPECT_EQ(config["lora_parameters"]["rank"], 4);
    EXPECT_EQ(config["lora_parameters"]["scale"], 1.0);
    const io::SafetensorsFile file(folder / "out/adapters.safetensors");
    for (const io::TensorBytes& tensor : file.tensors()) {
      EXPECT_TRUE(tensor.name.starts_with("model.")) << tensor.name;
      EXPECT_EQ(tensor.shape[tensor.name.ends_with(".lora_a") ? 1 : 0], 4) << tensor.name;
    }
    const Adapter read = Adapter::load(*model, folder / "out");
    const Tensor ids = at::arange(3, 9, at::kLong).view({1, -1});
    const ModelInput input{ids, at::ones_like(ids), {}};
    EXPECT_EQ(test::differs(test::logits_of(*model, &read, input), test::logits_of(*model, &adapter, input), 1e-4), "");
    EXPECT_NE(test::differs(test::logits_of(*model, &read, input), test::logits_of(*model, nullptr, input), 1e-4), "");
  }
}

// MLX counts its layers from the last.
TEST(MlxAdapter, SaysHowManyOfTheLastBlocksItHas) {
  const auto model = gguf_model("llama_llama3");
  for (const int64_t block : {0, 1}) {
    const Adapter adapter =
        random_adapter(*model, {{"method", "lora"}, {"target_modules", {"q_proj"}}, {"layers_to_transform", block}});
    const test::TemporaryFolder folder;
    export_adapter(adapter, folder / "out", ExportFormat::mlx, 0, probe());
    EXPECT_EQ(read_json(folder / "out/adapter_config.json")["num_layers"], 2 - block);
  }
}

class MlxFixture : public testing::TestWithParam<std::string> {};

TEST_P(MlxFixture, GivesTheLogitsOfMlx) {
  const test::Opened c("mlx", GetParam(), "float32");
  const Tensor expected = c.io["logits"];
  EXPECT_EQ(test::differs(test::logits_of(*c.model, c.adapter.get(), c.io.input()), expected,
                          test::logit_tolerance(expected)),
            "");
}

INSTANTIATE_TEST_SUITE_P(Files, MlxFixture, testing::ValuesIn(test::folders("mlx")),
                         [](const auto& each) { return each.param; });

TEST(MlxAdapter, SaysWhatItsConfigLacks) {
  const test::TemporaryFolder folder;
  std::filesystem::copy(fixture("golden/mlx/lora"), folder.path(), std::filesystem::copy_options::recursive);
  const auto model = load_model(fixture("golden/models/llama_tied").string(), {.dtype = "float32"});
  Json config = read_json(folder / "adapter_config.json");
  for (const char* key : {"rank", "scale"}) {
    Json broken = config;
    broken["lora_parameters"].erase(key);
    write_json(folder / "adapter_config.json", broken);
    const Error error = error_of([&] { Adapter::load(*model, folder.path()); });
    EXPECT_EQ(error.id(), "format.bad-adapter");
    EXPECT_NE(error.parts().what.find(key), std::string::npos) << error.parts().what;
  }
}

TEST(MlxAdapter, TakesAnyMethodCutToARank) {
  const auto model = gguf_model("llama_llama3");
  const Adapter adapter = random_adapter(
      *model, {{"method", "randlora"}, {"r", 4}, {"randlora_alpha", 8}, {"target_modules", {"q_proj", "v_proj"}}});
  const test::TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { export_adapter(adapter, folder / "out", ExportFormat::mlx, 0, probe()); }).id(),
            "config.no-rank");
  const ExportReport report = export_adapter(adapter, folder / "out", ExportFormat::mlx, 4, probe());
  EXPECT_TRUE(report.passed) << report.problem;
  EXPECT_FALSE(report.exact);
  EXPECT_GT(report.largest_error, 0.001);
}

}  // namespace
}  // namespace deltaw
