// Which modules an adapter acts on, and what is said of names that match nothing.
#include "adapt/targets.h"

#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;

std::unique_ptr<Model> bert() {
  return load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
}

std::vector<std::string> targets(const Model& model, const Json& values) {
  std::vector<std::string> names;
  const AdapterConfig config = adapter_config_from_json(values, "test");
  for (const Layer* layer : find_targets(model, config, find_method(config.method))) names.push_back(layer->name);
  return names;
}

TEST(Targets, DefaultToQueryAndValue) {
  const auto model = bert();
  EXPECT_EQ(targets(*model, Json::object()).size(), 4u);
  EXPECT_EQ(targets(*model, {{"method", "ia3"}}).size(), 8u);  // key, value, and both "output.dense" of two layers
}

TEST(Targets, AllLinearIsAllButTheHead) {
  const auto model = bert();
  const auto names = targets(*model, {{"target_modules", "all-linear"}});
  EXPECT_EQ(names.size(), 2u * 6 + 1);
  EXPECT_EQ(names.back(), "bert.pooler.dense");
}

TEST(Targets, MatchSuffixesAtDotsOnly) {
  const auto model = bert();
  EXPECT_EQ(targets(*model, {{"target_modules", {"attention.output.dense"}}}).size(), 2u);
  EXPECT_EQ(targets(*model, {{"target_modules", {"dense"}}}).size(), 7u);
  EXPECT_EQ(error_of([&] { targets(*model, {{"target_modules", {"uery"}}}); }).id(), "config.unmatched-target");
}

TEST(Targets, MatchAWholeNameWithAnExpression) {
  const auto model = bert();
  EXPECT_EQ(targets(*model, {{"target_modules", ".*layer\\.0\\..*(query|key)"}}).size(), 2u);
  EXPECT_EQ(error_of([&] { targets(*model, {{"target_modules", "query"}}); }).id(), "config.no-target");
  EXPECT_EQ(error_of([&] { targets(*model, {{"target_modules", "(query"}}); }).id(), "config.bad-pattern");
}

TEST(Targets, AreNarrowedByLayersAndExclusions) {
  const auto model = bert();
  EXPECT_EQ(targets(*model, {{"layers_to_transform", 1}}).front(), "bert.encoder.layer.1.attention.self.query");
  EXPECT_EQ(targets(*model, {{"layers_to_transform", {0, 1}}}).size(), 4u);
  EXPECT_EQ(targets(*model, {{"layers_to_transform", {0}}, {"layers_pattern", "layer"}}).size(), 2u);
  const std::vector<std::string> whole = {"bert.encoder.layer.0.attention.self.query",
                                          "bert.encoder.layer.1.attention.self.value"};
  EXPECT_EQ(targets(*model, {{"target_modules", {whole[0], "value"}}, {"layers_to_transform", 1}}), whole)
      << "a whole name is meant, in whichever layer";
  EXPECT_EQ(targets(*model, {{"exclude_modules", {"layer.0.attention.self.query"}}}).size(), 3u);
  EXPECT_EQ(error_of([&] { targets(*model, {{"exclude_modules", ".*"}}); }).id(), "config.no-target");
  EXPECT_EQ(error_of([&] {
              targets(*model, {{"target_modules", ".*query"}, {"layers_to_transform", 1}});
            }).id(),
            "config.conflict");
}

TEST(Targets, NameTheNearestRightNameForAWrongOne) {
  const auto model = bert();
  const Error error = error_of([&] { targets(*model, {{"target_modules", {"query", "vlaue"}}}); });
  EXPECT_EQ(error.id(), "config.unmatched-target");
  EXPECT_NE(error.parts().what.find("vlaue"), std::string::npos);
  EXPECT_NE(error.parts().fix.find("value"), std::string::npos);
  const Error method = error_of([] { find_method("ranldora"); });
  EXPECT_EQ(method.exit_code(), 2);
  EXPECT_NE(method.parts().fix.find("randlora"), std::string::npos);
}

TEST(Targets, SayThatAModuleCannotBeAdapted) {
  const auto model = bert();
  const Error error = error_of([&] { targets(*model, {{"target_modules", {"LayerNorm"}}}); });
  EXPECT_NE(error.parts().what.find("no linear layer, Conv2d or embedding"), std::string::npos);
}

TEST(Targets, TakeEmbeddingsByNameAndNotAsLinearLayers) {
  const auto model = bert();
  EXPECT_EQ(targets(*model, {{"target_modules", {"word_embeddings"}}}),
            std::vector<std::string>{"bert.embeddings.word_embeddings"});
  for (const std::string& name : targets(*model, {{"target_modules", "all-linear"}})) {
    EXPECT_EQ(name.find("embeddings"), std::string::npos);
  }
}

TEST(Targets, RefuseMethodsThatHaveNoPlaceOnAnEmbedding) {
  const auto model = bert();
  const auto id = [&](Json values) {
    values["target_modules"] = {"word_embeddings"};
    return error_of([&] { Adapter::create(*model, adapter_config_from_json(values, "test"), 1); }).id();
  };
  EXPECT_EQ(id({{"method", "oft"}}), "config.no-embedding");
  EXPECT_EQ(id({{"method", "lokr"}}), "config.no-embedding");
  EXPECT_EQ(id({{"method", "houlsby"}}), "config.no-sublayer");
  EXPECT_EQ(id({{"method", "lora_fa"}}), "config.unsupported");
  EXPECT_EQ(id({{"method", "lora"}, {"lora_bias", true}}), "config.unsupported");
}

TEST(Targets, RefuseAPatternThatNoLayerMatches) {
  const auto model = bert();
  const AdapterConfig config = adapter_config_from_json({{"rank_pattern", {{"qurey", 4}}}}, "test");
  EXPECT_EQ(error_of([&] { Adapter::create(*model, config, 1); }).id(), "config.unmatched-pattern");
}

TEST(SavedModules, AreTheHeadAndWhatIsNamed) {
  const auto model = bert();
  const Adapter adapter =
      Adapter::create(*model, adapter_config_from_json({{"modules_to_save", {"pooler"}}}, "test"), 1);
  std::vector<std::string> whole;
  for (const NamedTensor& tensor : adapter.trained()) {
    if (tensor.name.find("lora_") == std::string::npos) whole.push_back(tensor.name);
  }
  EXPECT_EQ(whole, (std::vector<std::string>{"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight",
                                             "classifier.bias"}));
  EXPECT_EQ(error_of([&] { find_saved(*model, {"poolr"}); }).id(), "config.unmatched-module");
}

TEST(Settings, ChooseTheMethodTheyName) {
  EXPECT_EQ(adapter_config_from_json({{"method", "lora"}, {"use_dora", true}}, "test").method, "dora");
  EXPECT_EQ(adapter_config_from_json({{"peft_type", "LORA"}, {"use_dora", false}}, "test").method, "lora");
  EXPECT_EQ(adapter_config_from_json({{"peft_type", "LORA"}, {"lora_use_mixer", true}}, "test").method, "moslora");
  EXPECT_EQ(adapter_config_from_json({{"peft_type", "MOSLORA"}, {"lora_use_mixer", true}}, "test").method, "moslora");
  EXPECT_EQ(adapter_config_from_json({{"peft_type", "RANDLORA"}}, "test").method, "randlora");
}

}  // namespace
}  // namespace deltaw
