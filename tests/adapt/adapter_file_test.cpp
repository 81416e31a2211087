// Adapter folders that are whole, and every way in which they are not.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "deltaw/adapter.h"
#include "support/golden.h"
#include "support/opened.h"
#include "support/temporary.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;

class AdapterFile : public testing::Test {
 protected:
  AdapterFile() : model(load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"})) {
    Adapter adapter = Adapter::create(*model, adapter_config_from_json({{"r", 4}}, "test"), 1);
    test::randomise(adapter, 2);
    adapter.save(folder.path());
  }
  Error load_error(const Model& base) const {
    return error_of([&] { Adapter::load(base, folder.path()); });
  }
  Error load_error() const { return load_error(*model); }

  // Writes the file again with one tensor changed, added or left out.
  void rewrite(const std::function<void(std::vector<io::TensorBytes>&)>& edit) const {
    const io::SafetensorsFile file(folder / "adapter_model.safetensors");
    std::vector<io::TensorBytes> tensors = file.tensors();
    edit(tensors);
    io::write_safetensors(folder / "new", tensors, file.metadata());
    std::filesystem::rename(folder / "new", folder / "adapter_model.safetensors");
  }
  void edit_config(const std::string& key, const Json& value) const {
    Json config = read_json(folder / "adapter_config.json");
    config[key] = value;
    write_json(folder / "adapter_config.json", config);
  }

  std::unique_ptr<Model> model;
  test::TemporaryFolder folder;
};

TEST_F(AdapterFile, HasPeftsNamesAndConfig) {
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  EXPECT_NE(file.find("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"), nullptr);
  EXPECT_NE(file.find("base_model.model.classifier.weight"), nullptr);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const Json config = read_json(folder / "adapter_config.json");
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["task_type"], "SEQ_CLS");
  EXPECT_EQ(config["target_modules"].size(), 4u);
  EXPECT_EQ(config["modules_to_save"], Json({"classifier"}));
}

TEST_F(AdapterFile, IsReadStrictly) {
  rewrite([](auto& tensors) { tensors.pop_back(); });
  EXPECT_EQ(load_error().id(), "format.missing-tensor");
  EXPECT_NO_THROW(Adapter::load(*model, folder.path(), {.allow_partial = true}));
}

TEST_F(AdapterFile, MayNotHoldWhatItsConfigDoesNotAskFor) {
  rewrite([](auto& tensors) {
    tensors.push_back(tensors.front());
    tensors.back().name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_AB.weight";
  });
  const Error error = load_error();
  EXPECT_EQ(error.id(), "format.unexpected-tensor");
  EXPECT_NE(error.parts().what.find("lora_AB"), std::string::npos);
}

TEST_F(AdapterFile, NamesTensorFileAndBothShapesForAnotherBase) {
  const test::TemporaryFolder other;
  std::filesystem::copy(fixture("golden/models/bert_cls"), other.path());
  edit_config("r", 5);
  const Error error = load_error();
  EXPECT_EQ(error.id(), "shape.mismatch");
  EXPECT_NE(error.parts().what.find("[4, 16]"), std::string::npos) << error.parts().what;
  EXPECT_NE(error.parts().what.find("[5, 16]"), std::string::npos);
  EXPECT_NE(error.parts().where.find("adapter_model.safetensors"), std::string::npos);
}

TEST_F(AdapterFile, OfBertIsRefusedOverRoberta) {
  const auto roberta = load_model(fixture("golden/models/roberta_cls").string(), {.dtype = "float32"});
  EXPECT_NE(load_error(*roberta).id(), "none");
}

TEST_F(AdapterFile, WithAnUnknownFeatureIsRefusedByName) {
  edit_config("use_bdlora", Json({{"nblocks", 2}}));
  const Error error = load_error();
  EXPECT_EQ(error.id(), "config.unsupported");
  EXPECT_NE(error.parts().what.find("use_bdlora"), std::string::npos);
}

TEST_F(AdapterFile, MayHaveStartedInAnyWayThatLeftTheBaseAlone) {
  edit_config("init_lora_weights", "eva");
  edit_config("eva_config", Json({{"rho", 2.0}}));
  EXPECT_NO_THROW(Adapter::load(*model, folder.path()));
  for (const char* start : {"corda", "lora_ga"}) {  // PEFT's file does not tell what was taken off the base
    edit_config("init_lora_weights", start);
    EXPECT_EQ(load_error().id(), "format.missing-tensor") << start;
  }
  edit_config("init_lora_weights", "loftq");
  EXPECT_EQ(load_error().id(), "config.unsupported");
}

// PEFT stores no start that it drew at random, and draws another when it reads the adapter.
TEST_F(AdapterFile, MayLackTheStartOfFastPissa) {
  const auto starts = [](const io::TensorBytes& t) { return t.name.find("0.weight") != std::string::npos; };
  const Tensor ids = at::arange(12, at::kLong).view({2, 6});
  const ModelInput input{.input_ids = ids, .attention_mask = at::ones_like(ids)};
  const Json options{{"r", 4}, {"init_lora_weights", "pissa_niter_64"}};  // so many that any draw ends at one start
  Adapter adapter = Adapter::create(*model, adapter_config_from_json(options, "test"), 1);
  test::randomise(adapter, 2);
  adapter.save(folder.path());
  const Tensor whole = test::logits_of(*model, &adapter, input);
  size_t lacking = 0;
  rewrite([&](auto& tensors) { lacking = std::erase_if(tensors, starts); });
  EXPECT_EQ(lacking, 8u);
  const Adapter loaded = Adapter::load(*model, folder.path());
  EXPECT_EQ(test::differs(test::logits_of(*model, &loaded, input), whole, 1e-3), "");
}

TEST_F(AdapterFile, WithValuesThatAreNotFiniteIsRefusedByName) {
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const io::TensorBytes& tensor : file.tensors()) {
    for (const float value : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
      std::vector<float> numbers(static_cast<size_t>(tensor.count()), 0.5f);
      numbers.back() = value;
      rewrite([&](auto& tensors) {
        for (io::TensorBytes& other : tensors) {
          if (other.name == tensor.name) other.data = reinterpret_cast<const std::byte*>(numbers.data());
        }
      });
      const Error error = load_error();
      EXPECT_EQ(error.id(), "numeric.non-finite") << tensor.name;
      EXPECT_NE(error.parts().what.find("'" + tensor.name + "'"), std::string::npos) << error.what();
      EXPECT_NE(error.parts().where.find("adapter_model.safetensors"), std::string::npos) << error.what();
      rewrite([&](auto& tensors) { tensors = file.tensors(); });
    }
  }
  EXPECT_NO_THROW(Adapter::load(*model, folder.path()));
}

// Files of other tools say what they have in place of what is missed.
TEST_F(AdapterFile, WithOtherNamesSaysWhichAndWhoWritesThem) {
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  const auto error_with = [&](const std::function<std::string(std::string)>& rename) {
    rewrite([&](auto& tensors) {
      tensors = file.tensors();
      for (io::TensorBytes& tensor : tensors) tensor.name = rename(tensor.name);
    });
    const Error error = load_error();
    EXPECT_EQ(error.id(), "format.missing-tensor");
    return error.parts().what + " | " + error.parts().fix;
  };
  const auto replaced = [](const std::string& from, const std::string& to) {
    return [=](std::string name) {
      if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
      return name;
    };
  };
  const auto says = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  std::string text = error_with(replaced(".weight", ".default.weight"));
  says(text, "it has base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight");
  says(text, "'default'");
  says(text, "save_pretrained");
  text = error_with(replaced("base_model.model.", ""));
  says(text, "it has bert.encoder.layer.0.attention.self.query.lora_A.weight");
  says(text, "prefix base_model.model. is missing");
  text = error_with([&](const std::string& name) {
    return replaced("base_model.model.", "")(replaced(".weight", ".default.weight")(name));
  });
  says(text, "prefix base_model.model. is missing, and");
  text = error_with(replaced("bert.encoder.layer.", "bert.model.layers."));
  says(text, "it has base_model.model.bert.model.layers.0.attention.self.query.lora_A.weight");
  says(text, "its modules have other names");
  says(error_with(replaced("lora_A", "lora_down")), "diffusion");
  says(error_with([&](const std::string& name) {
         return name.find("lora_A") == std::string::npos ? "x." + name : replaced(".lora_A.weight", ".lora_a")(name);
       }),
       "MLX");
  says(error_with([](const std::string& name) {
         return name.ends_with("query.lora_A.weight")
                    ? "bert.encoder.layer." + name.substr(36, 1) + ".output.dense.weight"
                    : name;
       }),
       "whole model");
}

TEST_F(AdapterFile, CutShortAnywhereIsAnError) {
  const auto path = folder / "adapter_model.safetensors";
  const auto size = std::filesystem::file_size(path);
  for (const double share : {0.0, 0.001, 0.3, 0.9, 0.9999}) {
    std::filesystem::copy_file(path, folder / "whole", std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(path, static_cast<uintmax_t>(share * static_cast<double>(size)));
    EXPECT_EQ(load_error().id().substr(0, 7), "format.") << share;
    std::filesystem::copy_file(folder / "whole", path, std::filesystem::copy_options::overwrite_existing);
  }
  EXPECT_NO_THROW(Adapter::load(*model, folder.path()));
}

TEST_F(AdapterFile, WithoutItsPartsSaysWhatIsMissing) {
  std::filesystem::remove(folder / "adapter_config.json");
  EXPECT_EQ(load_error().id(), "config.no-adapter");
}

TEST_F(AdapterFile, TakesThePlaceOfItsOwnKindAndOfNothingElse) {
  using test::put;
  const Adapter one = Adapter::load(*model, folder.path());
  std::vector<Adapter> both;
  both.push_back(Adapter::load(*model, folder.path()));
  both.push_back(Adapter::load(*model, folder.path()));
  put(folder / "notes", "mine");
  put(folder / "7-years" / "notes", "mine");
  Adapter::compose(std::move(both)).save(folder.path());
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"0-lora", "1-lora", "7-years", "adapter_config.json",
                                                      "deltaw_manifest.json", "notes"}));
  put(folder / "1-lora" / "notes", "mine");
  one.save(folder.path());
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"1-lora", "7-years", "adapter_config.json",
                                                      "adapter_model.safetensors", "deltaw_manifest.json", "notes"}));
  put(folder / "adapter_config.json", "mine");
  EXPECT_EQ(error_of([&] { one.save(folder.path()); }).id(), "config.output-foreign");
  EXPECT_EQ(read_file(folder / "adapter_config.json"), "mine");
  EXPECT_EQ(read_file(folder / "1-lora" / "notes"), "mine");
}

TEST_F(AdapterFile, IsNotWrittenWithValuesThatAreNotFinite) {
  Adapter adapter = Adapter::create(*model, AdapterConfig(), 1);
  {
    const at::NoGradGuard no_grad;
    adapter.trained().front().value.fill_(std::numeric_limits<double>::quiet_NaN());
  }
  const test::TemporaryFolder empty;
  EXPECT_EQ(error_of([&] { adapter.save(empty.path()); }).id(), "numeric.non-finite");
  EXPECT_TRUE(empty.names().empty());
}

TEST(AdapterHead, ComesWithLabelsOverABaseThatHasNone) {
  const std::string base = fixture("golden/models/bert_base").string();
  const auto model = load_model(base, {.dtype = "float32", .num_labels = 3, .label_names = {"x", "y", "z"}});
  const Adapter adapter = Adapter::create(*model, AdapterConfig(), 1);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());

  const ModelOptions options = with_adapter_head({.dtype = "float32"}, folder.path());
  EXPECT_EQ(options.label_names, (std::vector<std::string>{"x", "y", "z"}));
  const auto again = load_model(base, options);
  EXPECT_EQ(again->num_labels(), 3);
  EXPECT_NO_THROW(Adapter::load(*again, folder.path()));
}

TEST(AdapterHead, ThatNobodyBringsIsAnError) {
  const auto with_head = load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  Json values = read_json(fixture("golden/adapters/lora_no_task/adapter_config.json"));
  const auto bare = load_model(fixture("golden/models/bert_base").string(), {.dtype = "float32", .num_labels = 3});
  EXPECT_EQ(error_of([&] { Adapter::load(*bare, fixture("golden/adapters/lora_no_task")); }).id(),
            "format.missing-head");
}

// RandLoRA's file: one copy of the bases, or the key and a hash.
class RandLoraFile : public testing::TestWithParam<bool> {};

TEST_P(RandLoraFile, HoldsTheBasesOnceOrNotAtAll) {
  const auto model = load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  Adapter adapter = Adapter::create(
      *model, adapter_config_from_json({{"method", "randlora"}, {"r", 4}, {"save_projection", GetParam()}}, "test"), 1);
  test::randomise(adapter, 2);
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const io::SafetensorsFile file(folder / "adapter_model.safetensors");
  int64_t bases = 0;
  for (const io::TensorBytes& tensor : file.tensors()) {
    bases += tensor.name.ends_with("randlora_A") || tensor.name.ends_with("randlora_B");
  }
  EXPECT_EQ(bases, GetParam() ? 2 : 0);
  EXPECT_EQ(file.metadata().at("shared_hash").size(), 16u);
  const Adapter again = Adapter::load(*model, folder.path());
  EXPECT_TRUE(again.shared()["randlora_B"].equal(adapter.shared()["randlora_B"]));
}

INSTANTIATE_TEST_SUITE_P(SaveProjection, RandLoraFile, testing::Bool());

TEST(RandLoraFileSize, IsThatOfALoraWithAsManyParameters) {
  const test::TinyModel model(384, 384, at::kFloat);
  const auto bytes_per_parameter = [&](const Json& values) {
    Json all = values;
    all["target_modules"] = {"key", "dense"};
    const Adapter adapter = Adapter::create(model, adapter_config_from_json(all, "test"), 1);
    const test::TemporaryFolder folder;
    adapter.save(folder.path());
    return static_cast<double>(std::filesystem::file_size(folder / "adapter_model.safetensors")) /
           static_cast<double>(adapter.trained_count());
  };
  EXPECT_LT(bytes_per_parameter({{"method", "randlora"}, {"r", 24}, {"save_projection", false}}),
            1.05 * bytes_per_parameter({{"r", 8}}));
}

// LoRA^2 with fewer components than its planes are wide.
TEST(Lora2File, IsAsNarrowAsThePrunedCore) {
  const test::TinyModel model(6, 5, at::kDouble);
  const Json options = {{"r", 4}, {"k", 3}, {"target_r", 1}};
  Adapter adapter = Adapter::create(model, test::small_config(find_method("lora2"), options), 1);
  test::randomise(adapter, 2);
  const at::NoGradGuard no_grad;
  for (const AdaptedLayer* layer : adapter.layers()) {
    const bool first = layer == adapter.layers().front();
    const std::vector<bool> kept = first ? std::vector<bool>{false, true, false, false} : std::vector<bool>(4, true);
    adapter.kept_ranks[layer->info.name] = kept;
    Tensor E = layer->params["lora_E"];
    for (size_t i = 0; i < kept.size(); ++i) {
      if (!kept[i]) E[static_cast<int64_t>(i)].zero_();
    }
  }
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  const Adapter again = Adapter::load(model, folder.path());
  EXPECT_EQ(again.layers()[0]->params["lora_A"].sizes(), at::IntArrayRef({1, 5}));
  EXPECT_EQ(again.layers()[1]->params["lora_A"].sizes(), at::IntArrayRef({3, 5}));
  const Tensor x = at::randn({7, 5}, at::kDouble);
  Call before{.adapter = &adapter}, after{.adapter = &again};
  EXPECT_TRUE(at::allclose(model.run(x, before), model.run(x, after), 1e-10, 1e-10));
}

TEST(RandLoraBases, AreThoseThatPeftDraws) {
  for (const char* name : {"randlora_regenerated", "randlora_wide", "randlora_overshoot"}) {
    const test::Golden io(fixture(std::string("golden/adapters/") + name + "/io.safetensors"));
    const Json facts = read_json(fixture(std::string("golden/adapters/") + name + "/case.json"));
    const auto model =
        load_model(fixture("golden/models/" + facts["base"].get<std::string>()).string(), {.dtype = "float32"});
    Json config = read_json(fixture(std::string("golden/adapters/") + name + "/adapter_config.json"));
    const Adapter adapter = Adapter::create(*model, adapter_config_from_json(config, "test"), 1);
    EXPECT_TRUE(adapter.shared()["randlora_A"].equal(io["bases.randlora_A"])) << name;
    EXPECT_TRUE(adapter.shared()["randlora_B"].equal(io["bases.randlora_B"])) << name;
  }
}

}  // namespace
}  // namespace deltaw
