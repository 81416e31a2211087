// Adapters in both kinds of names that transformers has had for one model (oracle/make_dialects.py).
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "adapt/adapter_file.h"
#include "adapt/module_names.h"
#include "adapt/names_in_memory.h"
#include "adapt/targets.h"
#include "deltaw/image_model.h"
#include "support/opened.h"
#include "support/oracle.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;
using test::Golden;
using Names = std::set<std::string>;

std::filesystem::path dialects(const std::string& name) {
  return fixture("golden/dialects/" + name);
}

std::unique_ptr<Model> load(const std::string& base) {
  return load_model(dialects("models/" + base).string(), {.dtype = "float32"});
}

std::vector<std::string> tensors_in(const std::filesystem::path& folder) {
  return Golden(folder / "adapter_model.safetensors").names("");
}

Names as_set(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

std::string logits_differ(const Model& model, const Adapter& adapter, const Golden& io) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = &adapter};
  const Tensor logits = dynamic_cast<const ImageModel&>(model).forward_images(io["pixel_values"], call);
  return test::differs(logits, io["logits"], test::logit_tolerance(io["logits"]));
}

AdapterConfig config_in(const std::filesystem::path& folder) {
  const std::string file = (folder / "adapter_config.json").string();
  return adapter_config_from_json(read_json(file), file);
}

/// Where a configuration means other layers than the adapter has, by the names that PEFT sees.
std::string layers_differ(const AdapterConfig& config, const Adapter& adapter) {
  const auto& saved = config.modules_to_save;
  for (const Layer* layer : adapter.model().layers()) {
    const std::string name = name_in_memory(adapter.model(), layer->name);
    const bool whole = std::any_of(saved.begin(), saved.end(), [&](const auto& m) { return name.ends_with(m); });
    const bool meant = !whole && is_linear(*layer) && selects(config, config.target_modules, name);
    if (meant != (adapter.layer(*layer) != nullptr)) return name;
  }
  return "";
}

std::vector<std::string> dialect_cases() {
  std::vector<std::string> names = test::folders("dialects");
  std::erase_if(names, [](const std::string& name) { return name == "models" || name == "gate"; });
  return names;
}

class InBothDialects : public testing::TestWithParam<std::string> {};

TEST_P(InBothDialects, AreReadAndWrittenAsPeftNamesThemInMemory) {
  const Json facts = read_json(dialects(GetParam()) / "case.json");
  const auto model = load(facts["base"]);
  const Golden io(dialects(GetParam()) / "io.safetensors");
  Names written;
  for (const std::string& name : tensors_in(dialects(GetParam()) / "new")) {
    const std::string prefix = facts["bare"] == true ? facts["prefix"].get<std::string>() + "." : "";
    written.insert(kModel + prefix + name.substr(kModel.size()));
  }
  for (const char* dialect : {"new", "old"}) {
    SCOPED_TRACE(dialect);
    const Adapter adapter = Adapter::load(*model, dialects(GetParam()) / dialect);
    EXPECT_EQ(logits_differ(*model, adapter, io), "");
    const test::TemporaryFolder folder;
    adapter.save(folder.path());
    EXPECT_EQ(as_set(tensors_in(folder.path())), written);
    EXPECT_EQ(layers_differ(config_in(folder.path()), adapter), "");
    EXPECT_EQ(logits_differ(*model, Adapter::load(*model, folder.path()), io), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, InBothDialects, testing::ValuesIn(dialect_cases()),
                         [](const auto& info) { return info.param; });

TEST(Dialects, KeepWhatAConfigurationSaysWhereItIsSaidInMemoryAlready) {
  const auto model = load("vit");
  for (const char* name : {"ranks", "numbered", "saved", "ia3"}) {
    const test::TemporaryFolder folder;
    Adapter::load(*model, dialects(name) / "new").save(folder.path());
    const Json before = read_json(dialects(name) / "new" / "adapter_config.json");
    const Json after = read_json(folder / "adapter_config.json");
    for (const char* key : {"target_modules", "modules_to_save", "exclude_modules", "feedforward_modules"}) {
      const auto sorted = [&](const Json& config) {
        const Json value = config.value(key, Json());
        return value.is_array() ? Json(as_set(value.get<std::vector<std::string>>())) : value;
      };
      EXPECT_EQ(sorted(after), sorted(before)) << name << " " << key;
    }
    EXPECT_EQ(after["layers_to_transform"], before["layers_to_transform"]) << name;
    if (std::string(name) == "ranks") {
      EXPECT_EQ(after["alpha_pattern"].size(), before["alpha_pattern"].size());
    }
  }
}

TEST(Dialects, AreToldByTheirTensors) {
  const auto told = [](const std::filesystem::path& folder) {
    return names_of_adapter(tensors_in(folder), read_json(folder / "adapter_config.json"));
  };
  for (const char* name : {"ranks", "bare", "ia3", "dino", "gated"}) {
    EXPECT_EQ(told(dialects(name) / "new"), "in memory, of transformers 5") << name;
    EXPECT_EQ(told(dialects(name) / "old"), "as in the checkpoint, of transformers 4") << name;
  }
  EXPECT_EQ(told(dialects("gate") / "new"), "in memory, of transformers 5");
  EXPECT_EQ(told(dialects("dino_feed") / "new"), "");  // both have these names
  EXPECT_EQ(told(fixture("golden/bare/bert")), "");
}

TEST(Dialects, OfAPartOfALayerAreRefused) {
  const auto model = load("gated");
  const Error error = error_of([&] { Adapter::load(*model, dialects("gate") / "new"); });
  EXPECT_EQ(error.id(), "format.split-layer");
  EXPECT_NE(error.parts().what.find("'dinov2.encoder.layer.0.mlp.weights_in'"), std::string::npos);
  const AdapterConfig asked{.target_modules = {"q_proj", "up_proj"}};
  EXPECT_EQ(error_of([&] { Adapter::create(*model, asked, 1); }).id(), "config.split-layer");
}

class AskedFor : public testing::Test {
 protected:
  std::unique_ptr<Model> model = load("vit");

  Names layers(const Json& values) const {
    Names names;
    const Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), 1);
    for (const AdaptedLayer* layer : adapter.layers()) names.insert(layer->info.name);
    return names;
  }
  void expect_same(const Json& in_memory, const Json& own) const { EXPECT_EQ(layers(in_memory), layers(own)); }
};

TEST_F(AskedFor, ByNamesInMemoryMeansTheSameLayers) {
  expect_same({{"target_modules", {"q_proj", "v_proj"}}}, {{"target_modules", {"query", "value"}}});
  expect_same({{"target_modules", {"query", "mlp.fc1"}}}, {{"target_modules", {"query", "intermediate.dense"}}});
  expect_same({{"target_modules", "vit\\.layers\\.1\\..*[qk]_proj"}},
              {{"target_modules", ".*layer\\.1\\..*(query|key)"}});
  expect_same({{"target_modules", {"q_proj"}}, {"layers_to_transform", 1}, {"layers_pattern", "layers"}},
              {{"target_modules", {"query"}}, {"layers_to_transform", 1}});
  expect_same({{"target_modules", "all-linear"}, {"exclude_modules", {"fc1", "layers.0.attention.q_proj"}}},
              {{"target_modules", "all-linear"},
               {"exclude_modules", {"intermediate.dense", "layer.0.attention.attention.query"}}});
  EXPECT_EQ(layers({{"target_modules", {"dense"}}}).size(), 6u);  // as the model names them
}

TEST_F(AskedFor, ByNamesInMemorySetsRanksAndWhatIsSaved) {
  const Json values = {{"target_modules", {"q_proj"}},
                       {"rank_pattern", {{"layers.1.attention.q_proj", 3}}},
                       {"modules_to_save", {"fc1"}}};
  const Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), 1);
  EXPECT_EQ(adapter.layers()[0]->params["lora_A"].size(0), 8);
  EXPECT_EQ(adapter.layers()[1]->params["lora_A"].size(0), 3);
  int64_t whole = 0;
  for (const Parameter* parameter : model->parameters()) {
    whole += adapter.overrides(*parameter) && parameter->name.find("intermediate.dense") != std::string::npos;
  }
  EXPECT_EQ(whole, 4);
}

TEST_F(AskedFor, ThatFitsNothingIsAnsweredByTheModelsOwnNames) {
  const Error error = error_of([&] { layers({{"target_modules", {"quary"}}}); });
  EXPECT_EQ(error.id(), "config.unmatched-target");
  EXPECT_NE(error.parts().fix.find("query"), std::string::npos);
}

// AdaLoRA's ranks are of tensors, by whole names; a start from data lists layers so.
TEST_F(AskedFor, IsWrittenByNamesInMemory) {
  const std::string own = "vit.encoder.layer.1.attention.attention.query";
  AdapterConfig config{.target_modules = {own, "classifier"}, .share = {{"lora_A", "query|key"}}};
  config.options = {{"rank_pattern", {{own + ".lora_E", {true, false}}, {"value", 2}, {"nothing", 3}}}};
  const AdapterConfig written = ModuleNames(*model, kModel).for_file(config);
  EXPECT_EQ(written.target_modules, Json({"classifier", "1.attention.q_proj"}));
  EXPECT_EQ(written.options["rank_pattern"],
            Json({{"vit.layers.1.attention.q_proj.lora_E", {true, false}}, {"v_proj", 2}, {"nothing", 3}}));
  EXPECT_EQ(written.share["lora_A"], "q_proj|k_proj");
}

TEST_F(AskedFor, OfAModelThatHasItsOwnNamesInMemoryStaysAsItIs) {
  const auto bert = load_model(test::base_folder("bert_cls"), {.dtype = "float32"});
  const AdapterConfig config{.target_modules = ".*(query|output\\.dense)", .layers_pattern = "layer"};
  EXPECT_EQ(ModuleNames(*bert, kModel).for_file(config).target_modules, config.target_modules);
  EXPECT_EQ(ModuleNames(*bert, kModel).in_file(kModel + "bert.encoder.layer.0.attention.output.dense.lora_A.weight"),
            kModel + "bert.encoder.layer.0.attention.output.dense.lora_A.weight");
}

// One Python for all: it starts slowly.
TEST(Dialects, OfWhatWeSaveArePefts) {
  if (!test::has_peft()) GTEST_SKIP() << "needs PEFT in " << test::oracle_python() << ": scripts/setup --oracle";
  const test::TemporaryFolder folder;
  std::string arguments;
  size_t count = 0;
  const auto add = [&](const std::string& base, const Model& model, const Adapter& adapter) {
    const std::filesystem::path target = folder / std::to_string(count++);
    std::filesystem::create_directories(target);
    adapter.save(target);
    const at::NoGradGuard no_grad;
    Call call{.adapter = &adapter};
    const std::string input = dialects("ranks/io.safetensors").string(), logits_file = target.string() + ".safetensors";
    const Tensor pixels = Golden(input)["pixel_values"];
    const Tensor logits = dynamic_cast<const ImageModel&>(model).forward_images(pixels, call).contiguous();
    io::write_safetensors(logits_file, {to_bytes("logits", logits)});
    arguments += fmt::format("{} {} {} {} ", dialects("models/" + base).string(), target.string(), logits_file, input);
  };
  for (const std::string& name : dialect_cases()) {
    const std::string base = read_json(dialects(name) / "case.json")["base"];
    const auto model = load(base);
    add(base, *model, Adapter::load(*model, dialects(name) / "old"));
  }
  const Json asked[] = {
      {{"method", "lora"}},
      {{"method", "ia3"}},
      {{"method", "adalora"}, {"init_r", 3}, {"target_r", 2}, {"total_step", 9}},
      {{"method", "randlora"}, {"r", 4}, {"target_modules", {"q_proj", "fc2"}}},
      {{"method", "dora"}, {"target_modules", ".*(layer|layers)\\.1\\..*(query|fc2)"}, {"bias", "all"}},
      {{"method", "vera"}, {"r", 4}, {"target_modules", "all-linear"}, {"exclude_modules", {"fc1", "dense", "fc2"}}}};
  for (const std::string base : {"vit", "dinov2"}) {
    const auto model = load(base);
    for (const Json& values : asked) {
      Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), 1);
      test::randomise(adapter, 2);
      if (adapter.method().rank_budget()) {  // as after pruning
        for (const AdaptedLayer* layer : adapter.layers()) {
          const at::NoGradGuard no_grad;
          layer->params["lora_E"][1].zero_();
          adapter.kept_ranks[layer->info.name] = {true, false, true};
        }
      }
      add(base, *model, adapter);
    }
  }
  test::expect_no_problems("check_peft_loads.py", arguments, count, folder.path());
}

}  // namespace
}  // namespace deltaw
