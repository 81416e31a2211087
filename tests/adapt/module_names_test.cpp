// Adapters that PEFT made over models without a head (oracle/make_bare.py), on such models and on those with one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "support/opened.h"

namespace deltaw {
namespace {

using test::fixture;
using test::Golden;
using Names = std::set<std::string>;

const std::string kStart = "base_model.model.";

std::filesystem::path bare(const std::string& name) {
  return fixture("golden/bare/" + name);
}

Names names_in(const std::filesystem::path& folder) {
  Names names;
  for (const std::string& name : Golden(folder / "adapter_model.safetensors").names("")) names.insert(name);
  return names;
}

class OfBareModels : public testing::TestWithParam<std::string> {};

TEST_P(OfBareModels, GiveTheirLogitsBehindAHead) {
  const test::Opened opened("bare", GetParam(), "float32");
  const Tensor expected = opened.io["logits"];
  const auto differs = [&](const Adapter& adapter) {
    return test::differs(test::logits_of(*opened.model, &adapter, opened.io.input()), expected,
                         test::logit_tolerance(expected));
  };
  EXPECT_EQ(differs(*opened.adapter), "");

  // What is written is an adapter of the model with the head, as PEFT names it then.
  const test::TemporaryFolder folder;
  opened.adapter->save(folder.path());
  Names expected_names;
  for (const std::string& name : names_in(bare(GetParam()))) {
    expected_names.insert(kStart + opened.facts["prefix"].get<std::string>() + "." + name.substr(kStart.size()));
  }
  EXPECT_EQ(names_in(folder.path()), expected_names);
  EXPECT_TRUE(read_json(folder / "adapter_config.json")["task_type"].is_null());
  EXPECT_EQ(differs(Adapter::load(*opened.model, folder.path())), "");
}

TEST_P(OfBareModels, GiveTheirHiddenStatesAndKeepTheirNamesWithoutOne) {
  const Json facts = read_json(bare(GetParam()) / "case.json");
  const std::string base = test::base_folder(facts["base"]);
  const FamilySpec& family = *find_family(read_json(base + "/config.json")["model_type"].get<std::string>());
  if (!family.head("FEATURE_EXTRACTION")) return;  // a decoder
  const auto model = load_model(base, {.task_type = "FEATURE_EXTRACTION", .dtype = "float32"});
  const Golden io(bare(GetParam()) / "io.safetensors");
  const auto differs = [&](const Adapter& adapter) {
    const at::NoGradGuard no_grad;
    Call call{.adapter = &adapter};
    const Tensor padding = io.input().attention_mask.eq(0).unsqueeze(-1);
    const Tensor expected = io["hidden"].masked_fill(padding, 0);
    return test::differs(model->features(io.input(), call).masked_fill(padding, 0), expected,
                         test::logit_tolerance(expected));
  };
  const Adapter adapter = Adapter::load(*model, bare(GetParam()));
  EXPECT_EQ(differs(adapter), "");
  const test::TemporaryFolder folder;
  adapter.save(folder.path());
  EXPECT_EQ(names_in(folder.path()), names_in(bare(GetParam())));
  EXPECT_EQ(differs(Adapter::load(*model, folder.path())), "");
}

INSTANTIATE_TEST_SUITE_P(Peft, OfBareModels, testing::ValuesIn(test::folders("bare")),
                         [](const auto& info) { return info.param; });

TEST(BareNames, MeanTheSameLayersWhereAnExpressionChoosesThem) {
  const test::TemporaryFolder folder;
  std::filesystem::copy(bare("bert"), folder.path(), std::filesystem::copy_options::recursive);
  Json config = read_json(folder / "adapter_config.json");
  config["target_modules"] = R"(encoder\.layer\.\d+\.attention\.self\.(query|key|value))";
  config["exclude_modules"] = R"(encoder\..*\.key)";
  write_json(folder / "adapter_config.json", config);
  const auto model = load_model(test::base_folder("bert_cls"), {.dtype = "float32"});
  const Golden io(bare("bert") / "io.safetensors");
  const Adapter adapter = Adapter::load(*model, folder.path());
  EXPECT_EQ(test::differs(test::logits_of(*model, &adapter, io.input()), io["logits"], 1e-4), "");
}

// PEFT adapts it where target_modules is all-linear or names `dense`.
TEST(BareNames, OfAPoolerThatNoHiddenStateGoesThroughArePassedOver) {
  const test::TemporaryFolder folder;
  std::filesystem::copy(bare("bert"), folder.path(), std::filesystem::copy_options::recursive);
  const auto file = folder / "adapter_model.safetensors";
  const auto write_with = [&](const std::string& module) {
    const io::SafetensorsFile source(bare("bert") / "adapter_model.safetensors");
    std::vector<io::TensorBytes> tensors = source.tensors();
    const Tensor A = at::ones({3, 16}), B = at::ones({16, 3});
    tensors.push_back(to_bytes(kStart + module + ".lora_A.weight", A));
    tensors.push_back(to_bytes(kStart + module + ".lora_B.weight", B));
    std::filesystem::remove(file);
    io::write_safetensors(file, tensors, source.metadata());
  };
  const std::string base = test::base_folder("bert_cls");
  const auto model = load_model(base, {.task_type = "FEATURE_EXTRACTION", .dtype = "float32"});
  const Golden io(bare("bert") / "io.safetensors");
  write_with("pooler.dense");
  const Adapter adapter = Adapter::load(*model, folder.path());
  Call call{.adapter = &adapter};
  const Tensor padding = io.input().attention_mask.eq(0).unsqueeze(-1);
  EXPECT_EQ(test::differs(model->features(io.input(), call).masked_fill(padding, 0),
                          io["hidden"].masked_fill(padding, 0), 1e-4),
            "");
  // Where the model has one, the configuration decides.
  const auto headed = load_model(base, {.dtype = "float32"});
  EXPECT_EQ(test::error_of([&] { Adapter::load(*headed, folder.path()); }).id(), "format.unexpected-tensor");
  write_with("poolers.dense");
  EXPECT_EQ(test::error_of([&] { Adapter::load(*model, folder.path()); }).id(), "format.unexpected-tensor");
}

TEST(BareNames, OfAnotherModelAreRefused) {
  const auto model = load_model(test::base_folder("bert_cls"), {.dtype = "float32"});
  EXPECT_EQ(test::error_of([&] { Adapter::load(*model, bare("llama")); }).id(), "config.task-type");
  EXPECT_EQ(test::error_of([&] { Adapter::load(*model, bare("modernbert")); }).id(), "config.no-target");
}

}  // namespace
}  // namespace deltaw
