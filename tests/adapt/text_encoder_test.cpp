// Text encoders that are a part of a model: beside adapters of the UNet alone, and merged.
#include <gtest/gtest.h>

#include "deltaw/adapter.h"
#include "io/safetensors.h"
#include "io/write_weights.h"
#include "support/model_calls.h"
#include "support/pipelines.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

struct UnetCase {
  const char* name;
  Json values;
};

class AdapterOfUnet : public testing::TestWithParam<UnetCase> {};

TEST_P(AdapterOfUnet, LeavesTheTextEncoderAlone) {
  const auto unet = test::load_pipeline_unet("first"), whole = test::load_pipeline_unet("first");
  add_text_encoder(dynamic_cast<Denoiser&>(*whole));
  Adapter adapter = Adapter::create(*unet, adapter_config_from_json(GetParam().values, "test"), 1);
  test::randomise(adapter, 7);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter read = Adapter::load(*whole, folder.path(), {.trainable = true});
  const std::vector<NamedTensor> expected = adapter.trained(), found = read.trained();
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].name, expected[i].name);
  // Saved again it says so, and is still of the UNet.
  const test::TemporaryFolder again;
  read.save(again.path());
  EXPECT_EQ(Adapter::load(*unet, again.path(), {.trainable = true}).trained().size(), expected.size());
  EXPECT_EQ(Adapter::load(*whole, again.path(), {.trainable = true}).trained().size(), expected.size());
}

INSTANTIATE_TEST_SUITE_P(
    Methods, AdapterOfUnet,
    testing::Values(
        UnetCase{"all_linear", {{"method", "lora"}, {"target_modules", "all-linear"}}},
        UnetCase{"all_but_a_list",
                 {{"method", "lora"}, {"target_modules", "all-linear"}, {"exclude_modules", {"to_q", "linear_1"}}}},
        UnetCase{"all_but_an_expression",
                 {{"method", "lora"}, {"target_modules", "all-linear"}, {"exclude_modules", ".*to_[qk]"}}},
        UnetCase{"shared", {{"method", "vera"}, {"target_modules", "all-linear"}}},
        UnetCase{"every_tensor", {{"method", "full"}}}, UnetCase{"biases", {{"method", "bitfit"}}}),
    [](const auto& i) { return i.param.name; });

// Older checkpoints, Stable Diffusion's own among them, have "text_model." before the names; a merged one keeps it.
TEST(MergedTextEncoder, HasTheNamesOfItsCheckpoint) {
  namespace fs = std::filesystem;
  const test::TemporaryFolder folder;
  const fs::path pipeline = folder / "older", text = pipeline / "text_encoder";
  fs::copy(test::pipeline_folder("first"), pipeline, fs::copy_options::recursive);
  const io::SafetensorsFile bare(test::pipeline_folder("first") / "text_encoder/model.safetensors");
  std::vector<io::TensorBytes> tensors = bare.tensors();
  for (io::TensorBytes& tensor : tensors) tensor.name.insert(0, "text_model.");
  io::write_weights(text, tensors);

  const auto merged = [&](const fs::path& from, const char* to) {
    const auto model = load_model(from.string(), {.dtype = "float32"});
    add_text_encoder(dynamic_cast<Denoiser&>(*model));
    const Json values = {{"method", "lora"}, {"r", 2}, {"target_modules", {"to_q", "q_proj"}}};
    Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), 1);
    test::randomise(adapter, 7);
    const Probe states = [](const Model& of, const Adapter* with) {
      Call call{.adapter = with};
      const auto& denoiser = dynamic_cast<const Denoiser&>(of);
      return denoiser.encode_text(at::arange(4, at::kLong).view({1, 4}), call).view({4, -1}).to(at::kDouble);
    };
    const MergeReport report = merge_checkpoint(adapter, folder / to, states);
    EXPECT_TRUE(report.passed) << report.problem;
    return io::SafetensorsFile(folder / to / "text_encoder/model.safetensors");
  };
  const io::SafetensorsFile expected = merged(test::pipeline_folder("first"), "merged"),
                            found = merged(pipeline, "merged_older");
  ASSERT_EQ(found.tensors().size(), tensors.size());
  for (const io::TensorBytes& tensor : expected.tensors()) {
    const io::TensorBytes* same = found.find("text_model." + tensor.name);
    ASSERT_NE(same, nullptr) << tensor.name;
    EXPECT_TRUE(std::equal(tensor.data, tensor.data + tensor.size(), same->data)) << tensor.name;
  }
}

}  // namespace
}  // namespace deltaw
