// What PEFT makes of the files that are written: said where it differs, and written so that it does not where that can
// be.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "adapt/config.h"
#include "adapt/peft_format.h"
#include "adapt/training_keys.h"
#include "core/files.h"
#include "deltaw/adapter.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;

std::unique_ptr<Model> load_base(const std::string& base) {
  return load_model(test::fixture("golden/models/" + base).string(), {.dtype = "float32"});
}

Adapter adapter_of(const Model& model, const Json& values) {
  Adapter adapter = Adapter::create(model, adapter_config_from_json(values, "test"), 1);
  test::randomise(adapter, 2);
  return adapter;
}

/// The config as it is written.
Json written(const Model& model, const Json& values) {
  const test::TemporaryFolder folder;
  adapter_of(model, values).save(folder.path());
  return read_json(folder / "adapter_config.json");
}

std::string differences(const std::string& base, const Json& values) {
  const auto model = load_base(base);
  return fmt::format("{}", fmt::join(peft_differences(adapter_of(*model, values)), " | "));
}

TEST(PeftDifferences, AreSaidOfWhatPeftRefusesOrComputesOtherwise) {
  const auto says = [](const std::string& base, const Json& values, const std::string& part) {
    const std::string said = differences(base, values);
    EXPECT_NE(said.find(part), std::string::npos) << values << ": " << said;
  };
  const Json fused = {"c_attn"};
  for (const char* method : {"loha", "lokr"}) {
    says("gpt2", {{"method", method}, {"r", 2}, {"target_modules", fused}},
         "for Conv1D ('transformer.h.0.attn.c_attn')");
  }
  says("bert_cls", {{"method", "loha"}, {"r", 2}, {"target_modules", {"word_embeddings"}}}, "for an embedding");
  says("gpt2", {{"method", "oft"}, {"r", 2}, {"oft_block_size", 0}, {"target_modules", fused}}, "for Conv1D");
  says("gpt2", {{"method", "olora"}, {"r", 2}, {"target_modules", fused}}, "OLoRA on Conv1D");
  says("bert_cls", {{"init_lora_weights", "pissa_niter_4"}, {"r", 2}}, "pissa_niter_4 anew");
  says("bert_cls", {{"init_lora_weights", "gaussian"}, {"lora_bias", true}}, "lora_bias with the start gaussian");
  says("bert_cls", {{"method", "randlora"}, {"r", 4}, {"randlora_scaling", "r_sqrt_n"}}, "randlora_scaling");
  says("llama_tied", {{"method", "loha"}, {"r", 2}, {"trainable_token_indices", {3, 5}}}, "trainable_token_indices");
}

// torch's MultiheadAttention takes the weight of its last layer by itself.
TEST(PeftDifferences, AreSaidOfALayerThatPeftComputesWithout) {
  const auto model = load_model(test::fixture("golden/two_towers/siglip").string(), {.dtype = "float32"});
  const auto said = peft_differences(adapter_of(*model, {{"r", 2}, {"target_modules", {"out_proj"}}}));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_NE(said[0].find("'vision_model.head.attention.out_proj'"), std::string::npos) << said[0];
  EXPECT_TRUE(peft_differences(adapter_of(*model, {{"r", 2}, {"target_modules", {"fc1"}}})).empty());
}

TEST(PeftDifferences, AreNoneWherePeftReadsTheFile) {
  const std::vector<std::pair<std::string, Json>> cases = {
      {"gpt2", {{"method", "lora"}, {"target_modules", {"c_attn", "wte"}}}},
      {"gpt2", {{"method", "pissa"}, {"r", 2}, {"target_modules", {"c_attn"}}}},
      {"gpt2", {{"method", "ia3"}}},
      {"bert_cls", {{"method", "loha"}, {"r", 2}}},
      {"bert_cls", {{"method", "olora"}, {"r", 2}}},
      {"bert_cls", {{"lora_bias", true}}},
      {"bert_cls", {{"method", "randlora"}, {"r", 4}}},
      {"llama_tied", {{"method", "lora"}, {"trainable_token_indices", {3, 5}}}},
      {"bert_cls", {{"method", "moslora"}}}};  // which PEFT has not at all
  for (const auto& [base, values] : cases) EXPECT_EQ(differences(base, values), "") << values;
}

TEST(PeftConfig, NamesTheLayersWherePeftHasNoKeyForThem) {
  const auto model = load_base("bert_cls");
  const Json query = {"bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.query"};
  const Json left = {{"target_modules", {"query", "key"}}, {"exclude_modules", {"key"}}};
  for (const char* method : {"vera", "randlora"}) {
    Json values = left;
    values.update({{"method", method}, {"r", 4}});
    const Json config = written(*model, values);
    EXPECT_EQ(config["target_modules"], query) << method;
    EXPECT_TRUE(config["exclude_modules"].is_null()) << method;
  }
  Json values = left;
  values["method"] = "lora";
  EXPECT_EQ(written(*model, values)["target_modules"], left["target_modules"]);
  const Json one = written(*model, {{"method", "ia3"}, {"target_modules", {"query"}}, {"layers_to_transform", 1}});
  EXPECT_EQ(one["target_modules"], Json::array({query[1]}));
  EXPECT_TRUE(one["layers_to_transform"].is_null());
  EXPECT_EQ(one["peft_version"], kPeftVersion);
  const Json all = written(*model, {{"method", "lora"}, {"target_modules", "all-linear"}, {"layers_to_transform", 1}});
  EXPECT_EQ(all["target_modules"].size(), 6u) << "PEFT's all-linear passes over layers_to_transform";
  EXPECT_TRUE(all["layers_to_transform"].is_null());
}

TEST(PeftConfig, ListsFeedForwardModulesAmongTheTargetsOnly) {
  const auto model = load_base("bert_cls");
  const auto feed = [&](const Json& targets, const Json& listed) {
    return written(
        *model,
        {{"method", "ia3"}, {"target_modules", targets}, {"feedforward_modules", listed}})["feedforward_modules"];
  };
  EXPECT_EQ(feed({"key", "output.dense"}, {"output.dense"}), Json::array({"output.dense"}));
  EXPECT_EQ(feed({"key", "output.dense"}, {"dense"}), ".*(?:dense)");
  EXPECT_EQ(feed(nullptr, {"output.dense", "key"}), ".*(?:output\\.dense|key)");  // written as whole names
  EXPECT_EQ(feed(".*dense", {"dense"}), Json::array({"dense"}));
  EXPECT_EQ(feed({"key"}, Json::array()), Json::array());

  Adapter adapter = adapter_of(*model, {{"method", "ia3"}, {"feedforward_modules", {"output.dense", "key"}}});
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter again = Adapter::load(*model, folder.path());
  ASSERT_EQ(again.layers().size(), adapter.layers().size());
  for (size_t i = 0; i < again.layers().size(); ++i) {
    EXPECT_TRUE(again.layers()[i]->params["ia3_l"].equal(adapter.layers()[i]->params["ia3_l"]));
  }
}

// The first key that matches counts, so that another order is another adapter.
TEST(PeftConfig, KeepsTheOrderOfPatterns) {
  const auto model = load_base("bert_cls");
  const Json ranks = {{"query", 2}, {"(query|value)", 3}}, alphas = {{"value", 4}, {".*", 1}, {"query", 9}};
  Adapter adapter = adapter_of(*model, {{"rank_pattern", ranks}, {"alpha_pattern", alphas}});
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter again = Adapter::load(*model, folder.path());
  EXPECT_EQ(again.config().options["rank_pattern"].dump(), ranks.dump());
  EXPECT_EQ(again.config().options["alpha_pattern"].dump(), alphas.dump());
  for (size_t i = 0; i < again.layers().size(); ++i) {
    const bool query = again.layers()[i]->info.name.ends_with("query");
    EXPECT_EQ(again.layers()[i]->params["lora_A"].size(0), query ? 2 : 3);
    EXPECT_EQ(again.layers()[i]->update().scale, query ? 1.0 / 2 : 4.0 / 3);
  }
}

// A run that was told of a key which it does not have would be another one.
TEST(TrainingKeys, AreRefusedInARunWithWhatTheyDo) {
  const std::vector<std::pair<const char*, const char*>> keys = {
      {"module_dropout", "whole layers"},      {"rank_dropout", "components"},
      {"rank_dropout_scale", "rank_dropout"},  {"prefix_projection", "by a network"},
      {"encoder_hidden_size", "by a network"}, {"encoder_reparameterization_type", "by a network"}};
  for (const auto& [key, what] : keys) {
    const Error error = error_of([&, &name = key] { refuse_training_key(name, "run.json"); });
    EXPECT_EQ(error.id(), "config.unsupported");
    EXPECT_EQ(error.parts().what.find(key), 0u) << error.what();
    EXPECT_NE(error.parts().what.find(what), std::string::npos) << error.what();
    EXPECT_NE(error.parts().where.find("run.json"), std::string::npos) << error.what();
    Json config = {{"peft_type", "LOHA"}, {key, 0.5}};
    EXPECT_FALSE(without_training(config).contains(key));
  }
  EXPECT_NO_THROW(refuse_training_key("lora_dropout", "run.json"));
}

TEST(TaskOfAFile, StandsInAutoMappingWherePeftHasNone) {
  const Json mapping = {{"task", "fill-mask"}, {"base_model_class", "BertForMaskedLM"}};
  EXPECT_EQ(with_task({{"task_type", nullptr}, {"auto_mapping", mapping}})["task_type"], "fill-mask");
  EXPECT_EQ(with_task({{"task_type", "SEQ_CLS"}, {"auto_mapping", mapping}})["task_type"], "SEQ_CLS");
  EXPECT_EQ(task_of_class({{"auto_mapping", mapping}}), "fill-mask");
  EXPECT_EQ(task_of_class({{"auto_mapping", {{"base_model_class", "LlamaForCausalLM"}}}}), "CAUSAL_LM");
  EXPECT_EQ(task_of_class({{"auto_mapping", {{"base_model_class", "BertModel"}}}}), "FEATURE_EXTRACTION");
  for (const Json& none : {Json(), Json(3), Json("BertForMaskedLM"), Json::array(), Json{{"base_model_class", 3}},
                           Json{{"base_model_class", "T5Model"}, {"task", 7}}}) {
    EXPECT_FALSE(with_task({{"auto_mapping", none}}).contains("task_type")) << none;
    EXPECT_EQ(task_of_class({{"auto_mapping", none}}), "") << none;
  }
}

TEST(Layers, OfAPatternNeedNumbers) {
  const auto model = load_base("bert_cls");
  for (const char* method : {"lora", "ia3", "loha", "bitfit", "pfeiffer"}) {
    const Error error = error_of([&] { adapter_of(*model, {{"method", method}, {"layers_pattern", "layer"}}); });
    EXPECT_EQ(error.id(), "config.conflict") << method;
    EXPECT_NE(error.parts().where.find("layers_to_transform"), std::string::npos) << error.what();
  }
}

// A tied embedding and head: one tensor, or two.
class Ties : public testing::Test {
 protected:
  struct Ends {
    bool words = false, head = false, one = false;
  };
  /// What of the two stands in for the base's, in the adapter and after its file was read; equal in both.
  Ends saved(const Model& model, const Json& values) {
    const Adapter adapter = adapter_of(model, values);
    const test::TemporaryFolder folder;
    adapter.save(folder.path());
    const Adapter again = Adapter::load(model, folder.path());
    const test::Golden io(model.folder() / "io.safetensors");
    Call before{.adapter = &adapter}, after{.adapter = &again};
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(model.forward(io.input(), before).equal(model.forward(io.input(), after))) << values;
    EXPECT_EQ(adapter.trained_count(), again.trained_count()) << values;
    const Parameter& head = model.head_layer()->weight;
    Ends ends{.head = again.overrides(head)};
    for (const Parameter* parameter : model.parameters()) {
      if (parameter->name != head.tied_to) continue;
      ends.words = again.overrides(*parameter);
      ends.one = ends.words && ends.head && again.value(*parameter).is_same(again.value(head));
    }
    return ends;
  }
};

TEST_F(Ties, HoldWhereTheConfigurationAsksAndPeftKnowsTheNames) {
  const auto model = load_base("llama_tied");
  for (const char* name : {"lm_head", "embed_tokens"}) {
    const Json saves = {{"modules_to_save", {name}}, {"ensure_weight_tying", true}};
    EXPECT_TRUE(saved(*model, saves).one) << name;
  }
  const Ends both = saved(*model, {{"modules_to_save", {"embed_tokens", "lm_head"}}});
  EXPECT_TRUE(both.words && both.head && !both.one);
  const Ends words = saved(*model, {{"modules_to_save", {"embed_tokens"}}});
  EXPECT_TRUE(words.words && !words.head);
  const auto gpt2 = load_base("gpt2");
  const Ends named = saved(*gpt2, {{"modules_to_save", {"wte"}}, {"ensure_weight_tying", true}});
  EXPECT_TRUE(named.words && !named.head);
}

TEST_F(Ties, HoldForEverythingThatTrainsAsAWhole) {
  for (const char* base : {"llama_tied", "gpt2"})
    EXPECT_TRUE(saved(*load_base(base), {{"method", "full"}}).one) << base;
  const Ends apart = saved(*load_base("llama_heads"), {{"method", "full"}});
  EXPECT_TRUE(apart.head && !apart.one);
}

TEST_F(Ties, MakeTheFactorsOfBothOne) {
  const auto model = load_base("llama_tied");
  for (const char* name : {"embed_tokens", "lm_head"}) {
    const Json values = {{"target_modules", {"q_proj", name}}, {"ensure_weight_tying", true}, {"r", 3}};
    saved(*model, values);
    const Adapter adapter = adapter_of(*model, values);
    const AdaptedLayer* head = adapter.layer(*model->head_layer());
    ASSERT_NE(head, nullptr) << name;
    const auto words = std::find_if(adapter.layers().begin(), adapter.layers().end(),
                                    [](const AdaptedLayer* layer) { return layer->info.kind == LayerKind::embedding; });
    ASSERT_NE(words, adapter.layers().end()) << name;
    EXPECT_TRUE(head->params["lora_A"].is_same((*words)->params["lora_B"])) << name;
    EXPECT_TRUE(head->params["lora_B"].is_same((*words)->params["lora_A"])) << name;
  }
}

TEST_F(Ties, GiveAHeadRowsOfItsOwnWhereTheListsDiffer) {
  const auto model = load_base("llama_tied");
  saved(*model, {{"trainable_token_indices", {{"embed_tokens", {3, 5}}, {"lm_head", {5, 8, 9}}}}});
  const Json both = {{"embed_tokens", {3, 5}}, {"lm_head", {5, 8}}};
  const Error error = error_of([&] {
    adapter_of(*model, {{"trainable_token_indices", both}, {"ensure_weight_tying", true}});
  });
  EXPECT_EQ(error.id(), "config.conflict");
}

TEST_F(Ties, KeepAStartOffTheHeadThatWouldLowerTheEmbedding) {
  const auto model = load_base("llama_tied"), untied = load_base("llama_heads");
  for (const char* start : {"pissa", "olora"}) {
    const Json values = {{"target_modules", {"lm_head"}}, {"init_lora_weights", start}, {"r", 3}};
    EXPECT_EQ(error_of([&] { adapter_of(*model, values); }).id(), "config.conflict") << start;
    EXPECT_NO_THROW(adapter_of(*untied, values)) << start;
    EXPECT_NO_THROW(adapter_of(*model, {{"target_modules", {"embed_tokens"}}, {"init_lora_weights", start}, {"r", 3}}));
  }
}

}  // namespace
}  // namespace deltaw
