// Merged checkpoints beside base and adapter: the right ones pass in whatever type they are stored, the wrong ones
// fail.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "adapt/compared_outputs.h"
#include "adapt/intended.h"
#include "adapt/merge_check.h"
#include "adapt/write_checkpoint.h"
#include "io/safetensors.h"
#include "support/model_calls.h"
#include "support/opened.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::base_folder;
using test::differs;

namespace fs = std::filesystem;

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

ModelInput input_of(const std::string& base) {
  return test::Golden(test::fixture("golden/models/" + base + "/io.safetensors")).input();
}

AdapterConfig config_of(const MethodSpec& spec, const Model& model, Json more = Json::object()) {
  if (spec.on_layers() && !more.contains("target_modules")) more["target_modules"] = "all-linear";
  AdapterConfig config = test::small_config(spec, std::move(more));
  if (!spec.on_layers()) config.target_modules = Json();
  config.task_type = model.task_type();
  return config;
}

// A fixture whose checkpoint is stored in another type.
void store(const std::string& base, const fs::path& folder, at::ScalarType type) {
  const auto model = load_model(base_folder(base), {.dtype = "float32"});
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : model->parameters()) {
    if (parameter->value.defined() && parameter->tied_to.empty())
      tensors.push_back({parameter->name, parameter->value.to(type).contiguous()});
  }
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  fs::create_directories(folder);
  io::write_safetensors(folder / "model.safetensors", bytes);
  write_json(folder / "config.json", model->config());
}

using TensorMap = std::map<std::string, Tensor>;

TensorMap tensors_in(const fs::path& folder) {
  const test::Golden file(folder / "model.safetensors");
  TensorMap tensors;
  for (const std::string& name : file.names("")) tensors[name] = file[name].clone();
  return tensors;
}

void replace(const fs::path& folder, const TensorMap& tensors) {
  std::vector<io::TensorBytes> bytes;
  std::vector<Tensor> kept;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.contiguous());
    bytes.push_back(to_bytes(name, kept.back()));
  }
  io::write_safetensors(folder / "model.safetensors", bytes);
}

class Merge : public testing::TestWithParam<at::ScalarType> {};

TEST_P(Merge, OfEveryMethodPasses) {
  for (const std::string base : {"llama_biases", "bert_cls", "gpt2"}) {
    const test::TemporaryFolder folder;
    store(base, folder / "base", GetParam());
    for (const char* held : {"float32", "bf16"}) {
      const auto model = load_model((folder / "base").string(), {.dtype = held});
      for (const MethodSpec* spec : method_table()) {
        if (!spec->mergeable()) continue;
        SCOPED_TRACE(fmt::format("{} on {} held in {}", spec->id, base, held));
        Adapter adapter = Adapter::create(*model, config_of(*spec, *model), 7, test::tiny_calibration);
        for (const double size : {0.0, 0.003, 0.3}) {
          if (size > 0) test::randomise(adapter, 5, size);
          const MergeReport report = merge_checkpoint(adapter, folder / "merged", test::probe_of(input_of(base)));
          EXPECT_TRUE(report.passed) << size << ": " << report.problem;
          EXPECT_EQ(report.tensors, static_cast<int64_t>(tensors_in(folder / "base").size()) + (base == "gpt2"));
          EXPECT_LT(report.rounding_share, GetParam() == at::kFloat ? 2e-3 : 2.0);
        }
      }
    }
  }
}

// What the merge could get wrong, done to the folder that it wrote.
struct Sabotage {
  const char* name;
  const char* tensor;  // that the message names
  std::function<void(TensorMap& merged, const TensorMap& base)> work;
};

std::vector<Sabotage> sabotages() {
  const auto value = "model.layers.1.self_attn.v_proj.weight", square = "model.layers.0.self_attn.q_proj.weight";
  const auto bias = "model.layers.0.self_attn.q_proj.bias", norm = "model.layers.1.input_layernorm.weight";
  return {
      {"the adapter left out", "", [](TensorMap& merged, const TensorMap& base) { merged = base; }},
      {"a layer left out", value, [=](TensorMap& merged, const TensorMap& base) { merged[value] = base.at(value); }},
      {"half the scale", "",
       [](TensorMap& merged, const TensorMap& base) {
         for (auto& [name, tensor] : merged) {
           const Tensor wide = tensor.to(at::kDouble), before = base.at(name).to(at::kDouble);
           tensor = (before + (wide - before) / 2).to(tensor.scalar_type());
         }
       }},
      {"a matrix transposed", square,
       [=](TensorMap& merged, const TensorMap&) { merged[square] = merged[square].t().contiguous(); }},
      {"a bias dropped", bias, [=](TensorMap& merged, const TensorMap& base) { merged[bias] = base.at(bias); }},
      {"one number off", value, [=](TensorMap& merged, const TensorMap&) { merged[value].view({-1})[3].mul_(1.02); }},
      {"a tensor touched that the adapter leaves alone", norm,
       [=](TensorMap& merged, const TensorMap&) { merged[norm].view({-1})[2].mul_(1.01); }}};
}

TEST_P(Merge, ThatIsWrongFailsAndNamesTheTensor) {
  const test::TemporaryFolder folder;
  store("llama_biases", folder / "base", GetParam());
  const Probe probe = test::probe_of(input_of("llama_biases"));
  for (const char* method : {"lora", "dora", "randlora", "oft"}) {
    const auto model = load_model((folder / "base").string(), {.dtype = "float32"});
    const Json more = method == std::string("lora") ? Json{{"lora_bias", true}} : Json{{"bias", "all"}};
    Adapter adapter = Adapter::create(*model, config_of(find_method(method), *model, more), 7);
    test::randomise(adapter, 5, 0.1);
    for (const Sabotage& sabotage : sabotages()) {
      SCOPED_TRACE(fmt::format("{}: {}", method, sabotage.name));
      std::filesystem::remove_all(folder / "merged");
      ASSERT_TRUE(merge_checkpoint(adapter, folder / "merged", probe).passed);
      TensorMap merged = tensors_in(folder / "merged");
      sabotage.work(merged, tensors_in(folder / "base"));
      replace(folder / "merged", merged);
      MergeReport report;
      check_merged(report, adapter, *model, folder / "merged", probe);
      EXPECT_FALSE(report.passed);
      EXPECT_NE(report.problem.find(sabotage.tensor), std::string::npos) << report.problem;
      EXPECT_NE(report.problem.find("numbers of"), std::string::npos) << report.problem;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Merge, testing::ValuesIn(kTypes),
                         [](const auto& i) { return std::string(type_name(i.param)); });

TEST(MergeCheck, SeesWhatIsAboveTheRoundedNumberAndWhatIsBelow) {
  const Columns expected{at::full({3, 1}, 1.001, at::kDouble), at::full({3, 1}, 1e-6, at::kDouble)};
  const Tensor actual = at::tensor({1.0, 1.0078125, 0.99609375}, at::kDouble).view({3, 1}).to(at::kBFloat16);
  const Tensor right = is_rounded(actual, expected, at::kBFloat16);
  EXPECT_TRUE(right[0].item<bool>());
  EXPECT_FALSE(right[1].item<bool>()) << "the next number above";
  EXPECT_FALSE(right[2].item<bool>()) << "the next number below";
}

// Readers tie the head to the embeddings again unless they are told.
TEST(MergeCheck, AHeadThatLeavesTheEmbeddingsIsToldOf) {
  const auto model = load_model(base_folder("llama_tied"), {.dtype = "float32"});
  const ModelInput input = input_of("llama_tied");
  for (const char* layer : {"lm_head", "q_proj"}) {
    const bool parts = layer == std::string("lm_head");
    Adapter adapter = Adapter::create(*model, config_of(find_method("lora"), *model, {{"target_modules", {layer}}}), 7);
    test::randomise(adapter, 5, 0.1);
    const test::TemporaryFolder folder;
    ASSERT_TRUE(merge_checkpoint(adapter, folder / "merged", test::probe_of(input)).passed) << layer;
    EXPECT_EQ(read_json(folder / "merged/config.json")["tie_word_embeddings"], !parts) << layer;
    EXPECT_EQ(tensors_in(folder / "merged").contains("lm_head.weight"), parts) << layer;
    const auto merged = load_model((folder / "merged").string(), {.dtype = "float32"});
    EXPECT_EQ(differs(test::logits_of(*merged, nullptr, input), test::logits_of(*model, &adapter, input), 1e-4), "");
  }
}

TEST(MergeCheck, FailsOnAConfigurationOfAnotherModel) {
  const auto model = load_model(base_folder("llama_biases"), {.dtype = "float32"});
  const Probe probe = test::probe_of(input_of("llama_biases"));
  Adapter adapter = Adapter::create(*model, config_of(find_method("lora"), *model), 7);
  test::randomise(adapter, 5, 0.1);
  for (const std::optional<at::ScalarType> stored : {std::optional<at::ScalarType>(), std::optional(at::kBFloat16)}) {
    const test::TemporaryFolder folder;
    ASSERT_TRUE(merge_checkpoint(adapter, folder / "merged", probe, {}, stored).passed);
    Json config = read_json(folder / "merged/config.json");
    config["rope_parameters"]["rope_theta"] = 90.0;
    write_json(folder / "merged/config.json", config);
    MergeReport report;
    check_merged(report, adapter, *model, folder / "merged", probe, stored);
    EXPECT_FALSE(report.passed);
    EXPECT_NE(report.problem.find("configuration"), std::string::npos) << report.problem;
  }
}

// An update below the rounding of the stored type is lost, and said to be; in float32 it is there.
TEST(MergeRounding, IsMeasuredAndNoFault) {
  const test::TemporaryFolder folder;
  store("llama_biases", folder / "base", at::kBFloat16);
  const auto model = load_model((folder / "base").string(), {.dtype = "bf16"});
  const Probe probe = test::probe_of(input_of("llama_biases"));
  Adapter adapter = Adapter::create(*model, config_of(find_method("lora"), *model), 7);
  test::randomise(adapter, 5, 0.003);
  const MergeReport rounded = merge_checkpoint(adapter, folder / "rounded", probe);
  EXPECT_TRUE(rounded.passed) << rounded.problem;
  EXPECT_EQ(rounded.dtype, "bfloat16");
  EXPECT_GT(rounded.rounding_share, 0.3);
  const MergeReport whole = merge_checkpoint(adapter, folder / "whole", probe, {}, at::kFloat);
  EXPECT_TRUE(whole.passed) << whole.problem;
  EXPECT_EQ(whole.dtype, "float32");
  EXPECT_LT(whole.rounding_share, 1e-3);
  EXPECT_EQ(read_json(folder / "whole/config.json")["dtype"], "float32");
  for (const auto& [name, tensor] : tensors_in(folder / "whole")) EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
}

// Every number of the merged checkpoint is as near to W0 + s B A, computed in float64, as its type has numbers: sums in
// the type itself are not.
TEST(MergeRounding, IsOneRoundingOfTheWholeSum) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const test::TemporaryFolder folder;
    store("bert_cls", folder / "base", type);
    const auto model = load_model((folder / "base").string(), {.dtype = "float32"});
    const AdapterConfig config =
        config_of(find_method("lora"), *model, {{"r", 3}, {"lora_alpha", 2}, {"lora_bias", true}});
    Adapter adapter = Adapter::create(*model, config, 7);
    test::randomise(adapter, 5, 0.2);
    EXPECT_TRUE(merge_checkpoint(adapter, folder / "merged", test::probe_of(input_of("bert_cls"))).passed);
    const TensorMap before = tensors_in(folder / "base"), after = tensors_in(folder / "merged");
    const auto expect_rounded_once = [&](const Tensor& exact, const Parameter& parameter) {
      const Tensor& merged = after.at(parameter.name);
      ASSERT_EQ(merged.scalar_type(), type);
      const Tensor nearest = (exact.to(type).to(at::kDouble) - exact).abs();
      const Tensor slack = 1e-6 * (exact.abs() + before.at(parameter.name).to(at::kDouble).abs() + 1);
      EXPECT_TRUE(((merged.to(at::kDouble) - exact).abs() <= nearest + slack).all().item<bool>()) << parameter.name;
      EXPECT_FALSE(merged.equal(before.at(parameter.name))) << parameter.name;
    };
    for (const AdaptedLayer* layer : adapter.layers()) {
      const auto wide = [&](const char* name) { return layer->params[name].to(at::kDouble); };
      const double s = 2.0 / 3;
      expect_rounded_once(
          before.at(layer->base->weight.name).to(at::kDouble) + s * at::mm(wide("lora_B"), wide("lora_A")),
          layer->base->weight);
      expect_rounded_once(before.at(layer->base->bias.name).to(at::kDouble) + s * wide("bias"), layer->base->bias);
    }
  }
}

// A method that looks at W0 looks at the checkpoint's own, however the base is held.
TEST(MergeCheck, ComparesOverTheCheckpointsOwnWeights) {
  const auto model = load_model(base_folder("llama_biases"), {.dtype = "bf16"});
  Adapter adapter = Adapter::create(*model, config_of(find_method("dora"), *model), 7);
  test::randomise(adapter, 5, 0.1);
  const test::TemporaryFolder folder;
  const MergeReport report = merge_checkpoint(adapter, folder / "merged", test::probe_of(input_of("llama_biases")));
  EXPECT_TRUE(report.passed) << report.problem;
  EXPECT_LT(report.max_difference, 1e-4);
}

}  // namespace
}  // namespace deltaw
