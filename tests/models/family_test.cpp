// What the table of families says, against PEFT's own tables and the models that it loads.
#include "deltaw/family.h"

#include <gtest/gtest.h>

#include "adapt/added_rows.h"
#include "adapt/targets.h"
#include "core/patterns.h"
#include "deltaw/image_model.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;

std::unique_ptr<Model> load(const std::string& fixture_name) {
  return load_model(fixture("golden/models/" + fixture_name).string(), {.dtype = "float32"});
}

// One of the fixtures of each family.
const std::map<std::string, std::string> kModels = {{"bert", "bert_cls"},
                                                    {"roberta", "roberta_cls"},
                                                    {"llama", "llama_heads"},
                                                    {"mistral", "mistral_full"},
                                                    {"qwen2", "qwen2_tied"},
                                                    {"qwen3", "qwen3_tied"},
                                                    {"phi3", "phi3_short"},
                                                    {"gemma2", "gemma2"},
                                                    {"gpt2", "gpt2"},
                                                    {"xlm-roberta", "xlm_roberta_cls"},
                                                    {"distilbert", "distilbert_cls"},
                                                    {"electra", "electra_cls"},
                                                    {"albert", "albert_cls"},
                                                    {"mpnet", "mpnet_cls"},
                                                    {"modernbert", "modernbert_cls"},
                                                    {"deberta-v2", "deberta_v3_cls"},
                                                    {"vit", "vit_cls"},
                                                    {"deit", "deit_cls"},
                                                    {"dinov2", "dinov2_gated"},
                                                    {"dinov2_with_registers", "dinov2_registers"}};

bool reads_images(const Model& model) {
  return dynamic_cast<const ImageModel*>(&model) != nullptr;
}

std::vector<std::string> layers_of(const Model& model, const Json& list) {
  std::vector<std::string> names;
  for (const Layer* layer : model.layers()) {
    if (names_module(list, layer->name)) names.push_back(layer->name);
  }
  return names;
}

TEST(Families, HavePeftsDefaults) {
  const Json tables = read_json(fixture("golden/targets.json"));
  for (const auto& [type, unused] : kModels) {
    const FamilySpec& family = *find_family(type);
    const auto peft = [&](const char* table) { return tables[table].value(family.model_type, Json()); };
    const auto expect_same = [&](const Json& own, const char* table) {
      const Json theirs = peft(table);
      if (theirs.is_null()) return;
      EXPECT_EQ(own, theirs) << type << ": " << table;
    };
    expect_same(family.lora_target_modules, "lora_target_modules");
    expect_same(family.ia3_target_modules, "ia3_target_modules");
    expect_same(family.ia3_feedforward_modules, "ia3_feedforward_modules");
    const Json own = find_method("adalora").default_targets(family), theirs = peft("adalora_target_modules");
    EXPECT_EQ(own, theirs.is_null() ? family.lora_target_modules : theirs) << type;
  }
}

TEST(Families, NameLayersThatTheirModelsHave) {
  for (const auto& [type, name] : kModels) {
    const auto model = load(name);
    const FamilySpec& family = *find_family(type);
    EXPECT_EQ(model->family(), &family);
    EXPECT_EQ(model->head(), family.heads[0].module);
    EXPECT_EQ(model->architecture(), family.heads[0].architecture);
    EXPECT_EQ(model->task_type(), family.heads[0].task_type);
    const Layer* words = word_embedding_of(*model);
    EXPECT_EQ(words == nullptr, reads_images(*model)) << type;
    EXPECT_EQ(words ? words->name : "", family.word_embeddings);
    EXPECT_EQ(words ? words->weight.value.size(0) : 0, model->vocab_size()) << type;
    for (const Json* list : {&family.lora_target_modules, &family.adalora_target_modules, &family.ia3_target_modules,
                             &family.ia3_feedforward_modules, &family.sublayer_outputs, &family.feedforward_outputs}) {
      EXPECT_NE(list->is_null(), !layers_of(*model, *list).empty()) << type << ": " << *list;
    }
  }
}

TEST(Families, NameTheOutputsOfBothSublayersOfEveryBlock) {
  for (const auto& [type, name] : kModels) {
    const auto model = load(name);
    const auto blocks = static_cast<size_t>(model->shape().layers);
    const std::vector<std::string> both = layers_of(*model, model->family()->sublayer_outputs);
    const size_t distinct = type == "albert" ? 1 : blocks;  // whose blocks are one, called many times
    EXPECT_EQ(both.size(), 2 * distinct) << type;
    for (const std::string& fed : layers_of(*model, model->family()->feedforward_outputs))
      EXPECT_NE(std::find(both.begin(), both.end(), fed), both.end()) << fed;
    EXPECT_EQ(layers_of(*model, model->family()->feedforward_outputs).size(), distinct) << type;
    for (const Layer* layer : model->layers()) {
      const bool listed = std::find(both.begin(), both.end(), layer->name) != both.end();
      EXPECT_EQ(layer->ends_sublayer, listed) << layer->name;
      EXPECT_EQ(layer->feed_forward, names_module(model->family()->ia3_feedforward_modules, layer->name));
      EXPECT_EQ(layer->info().feed_forward, layer->feed_forward);
      EXPECT_TRUE(!listed || layer->view->d_out() == model->shape().hidden) << layer->name;
    }
  }
}

TEST(Families, AreListedByModelTypeWhereOneIsUnknown) {
  const test::TemporaryFolder folder;
  write_json(folder / "config.json", {{"model_type", "xlnet"}});
  EXPECT_EQ(find_family("xlnet"), nullptr);
  const Error error = error_of([&] { task_type_of(folder.path().string()); });
  std::string listed = "deltaw reads ";
  for (const FamilySpec* family : family_table()) listed += (listed.ends_with(' ') ? "" : ", ") + family->model_type;
  EXPECT_EQ(error.parts().fix, listed);
}

TEST(Families, SayWhatADecoderAndAnEncoderAreLoadedFor) {
  const Error labels = error_of([] { load_model(fixture("golden/models/gpt2").string(), {.num_labels = 2}); });
  EXPECT_EQ(labels.parts().fix, "--task_type SEQ_CLS loads it as a classifier; or leave the key out");
  const Error causal = error_of([] { task_type_of(fixture("golden/models/bert_cls").string(), "CAUSAL_LM"); });
  EXPECT_EQ(causal.parts().fix,
            "SEQ_CLS or TOKEN_CLS or QUESTION_ANS or multiple-choice or fill-mask or FEATURE_EXTRACTION, or a model of "
            "another "
            "type (gemma2, gpt2, llama, mistral, phi3, qwen2, qwen3)");
}

// RoBERTa under another name, with a key of its own.
const FamilySpec& registered() {
  static const FamilySpec spec = [] {
    FamilySpec own = *find_family("roberta");
    own.model_type = "camembert";
    own.settled = [](Json config) {
      config["num_hidden_layers"] = config.at("depth");
      return config;
    };
    return own;
  }();
  static const bool once = (register_family(spec), true);
  return once ? spec : spec;
}

TEST(Families, FromOutsideAreLoadedAndAdaptedAsTheBuiltInOnes) {
  const FamilySpec& family = registered();
  EXPECT_EQ(find_family("camembert"), &family);
  EXPECT_EQ(error_of([&] { register_family(family); }).id(), "config.family-exists");

  const test::TemporaryFolder folder;
  std::filesystem::copy(fixture("golden/models/roberta_cls"), folder.path());
  Json config = read_json(folder / "config.json");
  config["model_type"] = "camembert";
  config["depth"] = config["num_hidden_layers"];
  config.erase("num_hidden_layers");
  write_json(folder / "config.json", config);

  const auto model = load_model(folder.path().string(), {.dtype = "float32"}), original = load("roberta_cls");
  EXPECT_EQ(model->family(), &family);
  EXPECT_EQ(model->config()["depth"], config["depth"]);  // as it is on disk
  EXPECT_FALSE(model->config().contains("num_hidden_layers"));
  const test::Golden golden(fixture("golden/models/roberta_cls/io.safetensors"));
  Call call, other;
  EXPECT_TRUE(model->forward(golden.input(), call).equal(original->forward(golden.input(), other)));
  const MethodSpec& adalora = find_method("adalora");
  EXPECT_EQ(find_targets(*model, {.method = "adalora"}, adalora).size(),
            find_targets(*original, {.method = "adalora"}, adalora).size());
}

/// Of the fixture with its config changed.
Tensor logits_after(const std::string& name, const std::function<void(Json&)>& change) {
  const test::TemporaryFolder folder;
  std::filesystem::copy(fixture("golden/models/" + name), folder.path());
  Json config = read_json(folder / "config.json");
  change(config);
  write_json(folder / "config.json", config);
  const at::NoGradGuard no_grad;
  Call call;
  const test::Golden golden(folder / "io.safetensors");
  return load_model(folder.path().string(), {.dtype = "float32"})->forward(golden.input(), call);
}

// Gemma 2's caps and scale stand in its class of transformers; null switches a cap off.
TEST(Families, WhereGemma2sConfigIsSilentItsUsualCapsStand) {
  for (const auto& [key, usual] : std::vector<std::pair<std::string, double>>{
           {"attn_logit_softcapping", 50}, {"final_logit_softcapping", 30}, {"query_pre_attn_scalar", 256}}) {
    SCOPED_TRACE(key);
    const auto with = [name = key](const Json& value) {
      return logits_after("gemma2", [&](Json& config) { config[name] = value; });
    };
    const Tensor silent = logits_after("gemma2", [name = key](Json& config) { config.erase(name); });
    EXPECT_TRUE(silent.equal(with(usual)));
    EXPECT_FALSE(silent.equal(with(1.5 * usual)));
    if (key.ends_with("softcapping")) {
      EXPECT_FALSE(silent.equal(with(nullptr)));
    }
  }
}

// Older files do not list their layers' types, which follow from other keys.
TEST(Families, WithoutTypesOfLayersHaveTheWindowsOfTransformers) {
  for (const char* name : {"qwen2_window", "qwen3_yarn", "gemma2", "mistral_window"}) {
    const Tensor listed = logits_after(name, [](Json&) {});
    EXPECT_TRUE(logits_after(name, [](Json& config) { config.erase("layer_types"); }).equal(listed)) << name;
    EXPECT_FALSE(logits_after(name,
                              [](Json& config) {
                                config.erase("layer_types");
                                config["sliding_window"] = nullptr;
                              })
                     .equal(listed))
        << name << " has no window";
  }
}

TEST(Families, WithoutADefaultSaySo) {
  const auto model = load("phi3_short");
  for (const char* method : {"lora", "ia3", "adalora"}) {
    const Error error = error_of([&] { effective_targets(*model, {.method = method}, find_method(method)); });
    EXPECT_EQ(error.id(), "config.no-target");
    EXPECT_EQ(error.parts().what, "no default target_modules for model_type 'phi3'");
  }
  EXPECT_EQ(effective_targets(*model, {.method = "pfeiffer"}, find_method("pfeiffer")), Json({"down_proj"}));
}

}  // namespace
}  // namespace deltaw
