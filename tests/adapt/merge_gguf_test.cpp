// Base and adapter as one GGUF file, from files that llama.cpp's converter wrote.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "io/gguf.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::fixture;

struct Merged {
  std::unique_ptr<Model> model;
  std::unique_ptr<Adapter> adapter;
  test::TemporaryFolder folder;
  MergeReport report;

  Merged(const std::string& name, const Json& targets, const std::string& type = "auto")
      : model(load_model(path_of(name), {.dtype = "float32"})) {
    const Json values = {{"method", "lora"}, {"r", 3}, {"lora_alpha", 5}, {"target_modules", targets}};
    adapter = std::make_unique<Adapter>(Adapter::create(*model, adapter_config_from_json(values, "test"), /*seed=*/1));
    test::randomise(*adapter, 7, 0.2);
    report = merge_gguf(*adapter, folder / "out", test::probe_of(input()), {.type = type});
  }

  static std::string path_of(const std::string& name) {
    return fixture("golden/gguf_models/" + name + ".gguf").string();
  }
  static ModelInput input() {
    const Tensor ids = at::arange(3, 12, at::kLong).view({1, -1});
    return {ids, at::ones_like(ids), {}};
  }
  Tensor expected() const { return test::logits_of(*model, adapter.get(), input()); }
  Tensor found() const {
    const auto merged = load_model((folder / "out/model.gguf").string(), {.dtype = "float32"});
    return test::logits_of(*merged, nullptr, input());
  }
};

TEST(MergeGguf, IsBaseAndAdapterWhereNothingIsRounded) {
  for (const char* name : {"llama_llama3", "llama_biases", "gemma2", "gpt2", "phi3_long", "qwen3"}) {
    const Merged merged(name, "all-linear");
    EXPECT_TRUE(merged.report.passed) << name << ": " << merged.report.problem;
    EXPECT_EQ(merged.report.dtype, "F32");
    EXPECT_EQ(test::differs(merged.found(), merged.expected(), test::logit_tolerance(merged.expected())), "") << name;
    EXPECT_LT(merged.report.rounding_share, 1e-3) << name;
  }
}

TEST(MergeGguf, LeavesInTheirBlocksWhatDoesNotChange) {
  const Merged merged("llama_mix", {"q_proj"});
  EXPECT_TRUE(merged.report.passed) << merged.report.problem;
  EXPECT_EQ(merged.report.dtype, "Q8_0");
  const io::GgufFile before(Merged::path_of("llama_mix")), after(merged.folder / "out/model.gguf");
  ASSERT_EQ(before.tensors().size(), after.tensors().size());
  EXPECT_EQ(before.values(), after.values());
  int64_t changed = 0;
  for (const io::TensorBytes& tensor : before.tensors()) {
    const io::TensorBytes& other = *after.find(tensor.name);
    if (tensor.name.ends_with("attn_q.weight")) {
      EXPECT_EQ(other.dtype, io::Dtype::q8_0);
      ++changed;
    } else {
      EXPECT_EQ(other.dtype, tensor.dtype) << tensor.name;
      EXPECT_EQ(std::memcmp(other.data, tensor.data, tensor.size()), 0) << tensor.name;
    }
  }
  EXPECT_EQ(changed, 2);
  EXPECT_GT(merged.report.rounding_share, 0);
  EXPECT_LT(merged.report.rounding_share, 0.1);
}

TEST(MergeGguf, WritesTheTypeThatIsAskedFor) {
  const std::map<std::string, io::Dtype> types = {
      {"F32", io::Dtype::f32}, {"F16", io::Dtype::f16}, {"BF16", io::Dtype::bf16}, {"Q8_0", io::Dtype::q8_0}};
  for (const auto& [name, dtype] : types) {
    const Merged merged("llama_llama3", "all-linear", name);
    EXPECT_TRUE(merged.report.passed) << merged.report.problem;
    EXPECT_EQ(merged.report.dtype, name);
    const io::GgufFile file(merged.folder / "out/model.gguf");
    EXPECT_EQ(file.find("blk.0.attn_k.weight")->dtype, dtype);
    EXPECT_EQ(file.find("blk.0.attn_norm.weight")->dtype, io::Dtype::f32);
    EXPECT_EQ(*file.find_value("general.file_type"), name == "F32" ? 0 : name == "F16" ? 1 : name == "BF16" ? 32 : 7);
    EXPECT_LT(merged.report.rounding_share, 0.1) << name;
    EXPECT_EQ(merged.report.rounding_share > 1e-3, name != "F32") << name;
  }
}

}  // namespace
}  // namespace deltaw
