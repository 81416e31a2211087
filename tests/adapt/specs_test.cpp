// What methods say of themselves, so that no room need know which method it has.
#include <gtest/gtest.h>

#include "adapt/config.h"
#include "adapt/peft_format.h"
#include "deltaw/adapter.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;
using test::small_config;
using test::TinyModel;

TEST(MethodSpecs, SayWhatTheMethodActsOn) {
  const auto kinds = [](const char* id) {
    const MethodSpec& spec = find_method(id);
    return std::string(spec.on_layers() ? "layers " : "") + (spec.on_base() ? "base " : "") +
           (spec.mergeable() ? "mergeable" : "");
  };
  EXPECT_EQ(kinds("lora"), "layers mergeable");
  EXPECT_EQ(kinds("oft"), "layers mergeable");
  EXPECT_EQ(kinds("pfeiffer"), "layers ");
  EXPECT_EQ(kinds("houlsby"), "layers base ");
  EXPECT_EQ(kinds("bitfit"), "base mergeable");
  EXPECT_EQ(kinds("full"), "base mergeable");
  EXPECT_EQ(kinds("head"), "mergeable");
  EXPECT_EQ(kinds("prompt_tuning"), "");
  EXPECT_EQ(kinds("prefix_tuning"), "");
}

TEST(MethodSpecs, OfSeveralTogetherActOnWhatEachDoes) {
  const TinyModel model(5, 5, at::kFloat);
  std::vector<Adapter> parts;
  for (const char* id : {"lora", "houlsby"})
    parts.push_back(Adapter::create(model, small_config(find_method(id), {{"target_modules", {"key"}}}), 1));
  const Adapter both = Adapter::compose(std::move(parts));
  EXPECT_TRUE(both.spec().on(ActsOn::layers));
  EXPECT_TRUE(both.spec().on(ActsOn::sublayer_outputs));
  EXPECT_TRUE(both.spec().on_base());
  EXPECT_FALSE(both.spec().mergeable());
}

TEST(MethodSpecs, RefuseSharedTensorsWhereStepsTreatEachLayerByItself) {
  const TinyModel model(5, 5, at::kFloat);
  const auto id = [&](const char* method, Json more, const char* tensor) {
    more["share"] = {{tensor, ".*"}};
    return error_of([&] { Adapter::create(model, small_config(find_method(method), more), 1); }).id();
  };
  EXPECT_EQ(id("lora", Json::object(), "lora_B"), "none");
  EXPECT_EQ(id("lora", {{"lora_fa", true}}, "lora_B"), "config.conflict");
  EXPECT_EQ(id("adalora", Json::object(), "lora_B"), "config.conflict");
  EXPECT_EQ(id("sora", Json::object(), "lora_B"), "config.conflict");
}

TEST(MethodSpecs, NameRatesThatTheirUpdateDoesNotStand) {
  const MethodSpec& spec = find_method("randlora");
  const auto found = [&](const Json& options, double rate) {
    return spec.likely_mistakes(spec.normalized(options, "test"), rate).size();
  };
  EXPECT_EQ(found({{"r", 4}, {"randlora_alpha", 80}}, 5e-4), 1u);
  EXPECT_EQ(found({{"r", 4}, {"randlora_alpha", 79}}, 5e-4), 0u);
  EXPECT_EQ(found({{"r", 4}, {"randlora_alpha", 80}}, 4e-4), 0u);
}

TEST(MethodSpecs, AreFoundByThePeftTypeThatNoSettingTellsFromOthers) {
  EXPECT_EQ(find_method("LORA").id, "lora");
  EXPECT_EQ(find_method("MOSLORA").id, "moslora");
  EXPECT_EQ(choose_method({{"peft_type", "LORA"}, {"use_dora", true}}, "test").id, "dora");
  EXPECT_EQ(choose_method({{"peft_type", "LORA"}, {"lora_use_mixer", true}}, "test").id, "moslora");
}

TEST(MethodSpecs, NameOtherTypesAndUnusedKeysOfPeftsFiles) {
  EXPECT_EQ(without_training({{"peft_type", "P_TUNING"}})["peft_type"], "PROMPT_TUNING");
  EXPECT_EQ(without_training({{"peft_type", "LORA"}})["peft_type"], "LORA");
  const Json read = without_training(
      {{"peft_type", "ADALORA"}, {"r", 8}, {"use_rslora", true}, {"alpha_pattern", {{"a", 1}}}, {"init_r", 12}});
  EXPECT_EQ(read, Json({{"peft_type", "ADALORA"}, {"init_r", 12}}));
  EXPECT_TRUE(without_training({{"peft_type", "LORA"}, {"r", 8}}).contains("r"));
}

TEST(MethodSpecs, TellPeftsLimits) {
  EXPECT_TRUE(peft_has_key(find_method("lora"), "exclude_modules"));
  EXPECT_FALSE(peft_has_key(find_method("vera"), "exclude_modules"));
  EXPECT_FALSE(peft_has_key(find_method("ia3"), "layers_pattern"));
  EXPECT_TRUE(peft_has_key(find_method("sora"), "layers_pattern"));  // PEFT has none of it
}

}  // namespace
}  // namespace deltaw
