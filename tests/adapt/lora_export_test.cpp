// Adapters of image models for diffusers and for kohya's scripts: what stands in the files, that they are read again,
// and what is refused. oracle/check_diffusion_loras.py lets diffusers itself read them.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/json.h"
#include "deltaw/error.h"
#include "deltaw/export.h"
#include "io/safetensors.h"
#include "support/model_calls.h"
#include "support/temporary.h"
#include "support/tiny_model.h"
#include "support/unets.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;
using test::fixture;

constexpr const char *kDiffusers = "pytorch_lora_weights.safetensors", *kKohya = "lora.safetensors";

const Json kEverywhere = {"to_q",  "attn2.to_v",    "ff.net.0.proj", "proj_in",
                          "conv1", "conv_shortcut", "linear_1",      "conv_out"};

Adapter drawn(const Model& model, const Json& values) {
  Adapter adapter = Adapter::create(model, adapter_config_from_json(values, "test"), 1);
  test::randomise(adapter, 7);
  return adapter;
}

test::Golden noisy_batch() {
  return test::Golden(test::unet_folder("text") + "/io.safetensors");
}

Probe outputs() {
  return [](const Model& model, const Adapter* adapter) {
    return test::denoised(model, adapter, noisy_batch()).flatten(1).to(at::kDouble);
  };
}

struct Exported {
  test::TemporaryFolder folder;
  ExportReport report;

  Exported(const Adapter& adapter, ExportFormat format, int64_t rank = 0) {
    report = export_adapter(adapter, folder / "out", format, rank, outputs());
  }
  io::SafetensorsFile file(const char* name) const { return io::SafetensorsFile(folder / "out" / name); }
};

struct MethodCase {
  const char* name;
  Json values;
  int64_t rank = 0;
};

const std::vector<MethodCase>& methods() {
  static const std::vector<MethodCase> cases = {
      {"lora",
       {{"method", "lora"},
        {"r", 3},
        {"lora_alpha", 7},
        {"rank_pattern", {{"to_q", 1}, {"conv1", 2}}},
        {"alpha_pattern", {{"conv1", 5}}},
        {"target_modules", kEverywhere}}},
      {"rslora", {{"method", "rslora"}, {"r", 2}, {"lora_alpha", 3}, {"target_modules", kEverywhere}}},
      {"moslora", {{"method", "moslora"}, {"r", 2}, {"target_modules", {"to_q", "to_v", "conv1"}}}},
      {"pissa", {{"method", "pissa"}, {"r", 1}, {"target_modules", {"to_q", "to_v"}}}},
      {"randlora", {{"method", "randlora"}, {"r", 2}, {"target_modules", {"to_q", "to_v"}}}, 2},
      {"dora",
       {{"method", "dora"},
        {"r", 2},
        {"lora_alpha", 3},
        {"rank_pattern", {{"to_q", 1}}},
        {"target_modules", kEverywhere}}},
      {"loha", {{"method", "loha"}, {"r", 2}, {"target_modules", {"to_q", "conv1"}}}, 3}};
  return cases;
}

TEST(LoraExport, IsReadAgainAsItWas) {
  const auto model = test::load_unet("text");
  for (const MethodCase& c : methods()) {
    const Adapter adapter = drawn(*model, c.values);
    for (const ExportFormat format : {ExportFormat::diffusers, ExportFormat::kohya}) {
      const Exported exported(adapter, format, c.rank);
      const std::string what = fmt::format("{} as {}", c.name, format == ExportFormat::kohya ? kKohya : kDiffusers);
      EXPECT_TRUE(exported.report.passed) << what << ": " << exported.report.problem;
      EXPECT_EQ(exported.report.exact, c.rank == 0) << what;
      const Adapter read = Adapter::load(*model, exported.folder / "out");
      EXPECT_EQ(read.layers().size(), adapter.layers().size()) << what;
      if (c.rank > 0) continue;
      const Tensor before = test::denoised(*model, &adapter, noisy_batch()),
                   after = test::denoised(*model, &read, noisy_batch());
      EXPECT_EQ(differs(after, before, test::logit_tolerance(before)), "") << what;
      EXPECT_NE(differs(after, test::denoised(*model, nullptr, noisy_batch()), 1e-2), "") << what;
    }
  }
}

TEST(LoraExport, ForKohyaHasItsNamesAndMetadata) {
  const auto model = test::load_unet("text");
  const Exported exported(drawn(*model, methods()[0].values), ExportFormat::kohya);
  const io::SafetensorsFile file = exported.file(kKohya);
  std::set<std::string> endings;
  for (const io::TensorBytes& tensor : file.tensors()) {
    EXPECT_TRUE(tensor.name.starts_with("lora_unet_")) << tensor.name;
    endings.insert(tensor.name.substr(tensor.name.find('.')));
    if (tensor.name.ends_with(".alpha")) {
      EXPECT_TRUE(tensor.shape.empty());
      EXPECT_EQ(test::Golden(exported.folder / "out" / kKohya)[tensor.name].item<float>(), 3) << tensor.name;
    }
  }
  EXPECT_EQ(endings, (std::set<std::string>{".alpha", ".lora_down.weight", ".lora_up.weight"}));
  const io::TensorBytes* down = file.find("lora_unet_mid_block_resnets_0_conv1.lora_down.weight");
  ASSERT_TRUE(down);
  EXPECT_EQ(down->shape, (std::vector<int64_t>{2, 8, 3, 3}));
  EXPECT_EQ(file.find("lora_unet_mid_block_resnets_0_conv1.lora_up.weight")->shape, (std::vector<int64_t>{8, 2, 1, 1}));
  EXPECT_EQ(file.find("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight")->shape,
            (std::vector<int64_t>{3, 8, 1, 1}));
  EXPECT_EQ(file.metadata().at("ss_network_module"), "networks.lora");
  EXPECT_EQ(file.metadata().at("ss_network_dim"), "3");
  EXPECT_EQ(file.metadata().at("ss_network_alpha"), "3.0");
  const Json args = parse_json(file.metadata().at("ss_network_args"), "test");
  EXPECT_EQ(args["conv_dim"], "3");  // conv_out's
  EXPECT_EQ(args["conv_alpha"], "3.0");
  EXPECT_FALSE(file.metadata().contains("ss_base_model_version"));  // the text is 6 wide
}

TEST(LoraExport, ForDiffusersSaysRanksInItsMetadata) {
  const auto model = test::load_unet("text");
  const Adapter adapter = drawn(*model, methods()[0].values);
  const Exported exported(adapter, ExportFormat::diffusers);
  const io::SafetensorsFile file = exported.file(kDiffusers);
  for (const io::TensorBytes& tensor : file.tensors()) {
    EXPECT_TRUE(tensor.name.starts_with("unet.")) << tensor.name;
    EXPECT_TRUE(tensor.name.ends_with(".lora_A.weight") || tensor.name.ends_with(".lora_B.weight")) << tensor.name;
  }
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const Json config = parse_json(file.metadata().at("lora_adapter_metadata"), "test");
  EXPECT_EQ(config["unet.r"], 3);
  EXPECT_EQ(config["unet.lora_alpha"], 3);
  EXPECT_EQ(config["unet.rank_pattern"], config["unet.alpha_pattern"]);
  EXPECT_EQ(config["unet.rank_pattern"]["mid_block.resnets.0.conv1"], 2);
  for (const AdaptedLayer* layer : adapter.layers()) {
    EXPECT_EQ(config["unet.rank_pattern"].value(layer->info.name, 3), layer->params["lora_A"].size(0));
  }
}

TEST(LoraExport, KeepsMagnitudes) {
  const auto model = test::load_unet("text");
  const Adapter adapter = drawn(*model, methods()[5].values);
  const Exported kohya(adapter, ExportFormat::kohya), diffusers(adapter, ExportFormat::diffusers);
  const test::Golden flat(kohya.folder / "out" / kKohya), dotted(diffusers.folder / "out" / kDiffusers);
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor expected = layer->params["lora_magnitude_vector"];
    std::string name = layer->info.name;
    const Tensor own = dotted["unet." + name + ".lora_magnitude_vector"];
    std::replace(name.begin(), name.end(), '.', '_');
    const Tensor scale = flat["lora_unet_" + name + ".dora_scale"];
    const bool conv = layer->info.kind == LayerKind::conv2d;
    EXPECT_EQ(own.sizes().vec(),
              conv ? std::vector<int64_t>({1, layer->info.d_out, 1, 1}) : std::vector<int64_t>({layer->info.d_out}));
    EXPECT_EQ(scale.sizes().vec(),
              conv ? std::vector<int64_t>({layer->info.d_out, 1, 1, 1}) : std::vector<int64_t>({layer->info.d_out, 1}));
    EXPECT_EQ(differs(own.flatten(), expected, 1e-5), "") << name;
    EXPECT_EQ(differs(scale.flatten(), expected, 1e-5), "") << name;
  }
  const io::SafetensorsFile file = kohya.file(kKohya);
  EXPECT_EQ(file.metadata().at("ss_network_module"), "lycoris.kohya");
  EXPECT_NE(file.metadata().at("ss_network_args").find("dora_wd"), std::string::npos);
  // A plain LoRA has none, so that it is cut there.
  const test::TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { export_adapter(adapter, folder / "out", ExportFormat::lora, 0, outputs()); }).id(),
            "config.no-rank");
}

TEST(LoraExport, HoldsTheBiasOfFactorsForDiffusersAlone) {
  const auto model = test::load_unet("text");
  const Adapter adapter = drawn(
      *model, {{"method", "lora"}, {"r", 2}, {"lora_alpha", 3}, {"lora_bias", true}, {"target_modules", {"to_out.0"}}});
  const Exported exported(adapter, ExportFormat::diffusers);
  EXPECT_TRUE(exported.report.passed) << exported.report.problem;
  const test::TemporaryFolder folder;
  const Error error = error_of([&] { export_adapter(adapter, folder / "out", ExportFormat::kohya, 0, outputs()); });
  EXPECT_EQ(error.id(), "config.no-export");
  EXPECT_NE(error.parts().what.find("bias"), std::string::npos);
}

TEST(LoraExport, IsRefusedWhatTheFilesCannotHold) {
  const auto refused = [](const Model& model, const Json& values, ExportFormat format) {
    const Adapter adapter = drawn(model, values);
    const test::TemporaryFolder folder;
    const Error error = error_of([&] { export_adapter(adapter, folder / "out", format, 0, outputs()); });
    EXPECT_FALSE(std::filesystem::exists(folder / "out"));
    return error;
  };
  const auto classes = test::load_unet("classes");
  const auto bert = load_model(fixture("golden/models/bert_cls").string(), {.dtype = "float32"});
  for (const ExportFormat format : {ExportFormat::diffusers, ExportFormat::kohya}) {
    const Error norms = refused(
        *classes, {{"method", "lora"}, {"r", 1}, {"target_modules", {"to_q"}}, {"modules_to_save", {"conv_norm_out"}}},
        format);
    EXPECT_EQ(norms.id(), "config.no-export");
    EXPECT_NE(norms.parts().what.find("conv_norm_out"), std::string::npos) << norms.parts().what;
    const Error table =
        refused(*classes, {{"method", "lora"}, {"r", 1}, {"target_modules", {"class_embedding"}}}, format);
    EXPECT_EQ(table.id(), "config.no-export");
    EXPECT_NE(table.parts().what.find("class_embedding"), std::string::npos) << table.parts().what;
    EXPECT_EQ(refused(*bert, {{"method", "lora"}, {"target_modules", {"query"}}}, format).id(), "config.no-export");
  }
}

TEST(LoraExport, KnowsItsFormatsByName) {
  for (const std::string& name : export_format_names()) EXPECT_NO_THROW(export_format_named(name)) << name;
  EXPECT_EQ(export_format_named("kohya"), ExportFormat::kohya);
  EXPECT_EQ(error_of([] { export_format_named("koyha"); }).id(), "config.out-of-range");
}

}  // namespace
}  // namespace deltaw
