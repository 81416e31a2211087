// Adapters of a UNet alone over a model whose text encoder is a part of it.
#include <gtest/gtest.h>

#include "deltaw/adapter.h"
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

}  // namespace
}  // namespace deltaw
