// LoRAs of image models from one format to another: no scale is lost, for the UNet and the text encoder, in every
// order.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "adapt/lora_adapter.h"
#include "adapt/lora_file.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "support/opened.h"
#include "support/pipelines.h"
#include "support/tiny_model.h"
#include "support/unets.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

using test::denoised;
using test::differs;
using test::error_of;
using test::fixture;
using test::logit_tolerance;

const fs::path kLoras = fixture("golden/diffusion_loras");

/// A pipeline whose UNet is the fixture "text", with a text encoder beside it.
struct Pipeline {
  test::TemporaryFolder folder;

  explicit Pipeline(bool with_text = true) {
    write_json(folder / "model_index.json", {{"_class_name", "StableDiffusionPipeline"},
                                             {"unet", {"diffusers", "UNet2DConditionModel"}},
                                             {"text_encoder", {"transformers", "CLIPTextModel"}}});
    fs::copy(test::unet_folder("text"), folder / "unet");
    if (with_text) fs::copy(kLoras / "text_encoder", folder / "text_encoder");
  }
  std::string name() const { return folder.path().string(); }
};

fs::path source(const std::string& name) {
  const Json facts = read_json(kLoras / name / "case.json");
  return kLoras / name / facts["file"].get<std::string>();
}

/// The update of every layer of a part, in float64, and its magnitudes.
std::map<std::string, std::pair<Tensor, Tensor>> updates(const fs::path& adapter, const std::string& part,
                                                         const std::vector<std::string>& modules) {
  const fs::path found = find_lora_file(adapter);
  const LoraFile file = found.empty() ? LoraFile::of_peft(adapter, part) : LoraFile(found);
  std::vector<std::string> left;
  std::map<std::string, std::pair<Tensor, Tensor>> result;
  for (const LoraLayer& layer : file.placed(LoraModules(part, modules), left).layers) {
    const Tensor B = layer.B.to(at::kDouble).flatten(1), A = layer.A.to(at::kDouble).flatten(1);
    result[layer.module] = {at::mm(B, A) * layer.scale(), layer.magnitude};
  }
  return result;
}

void expect_same(const fs::path& adapter, const fs::path& before, const std::string& part,
                 const std::vector<std::string>& modules, const fs::path& peft_folder) {
  const auto own = updates(adapter.filename() == "peft" ? peft_folder : adapter, part, modules);
  const auto expected = updates(before, part, modules);
  EXPECT_EQ(own.size(), modules.size()) << adapter;
  EXPECT_EQ(expected.size(), modules.size()) << before;
  for (const auto& [module, update] : expected) {
    ASSERT_TRUE(own.contains(module)) << module;
    EXPECT_EQ(differs(own.at(module).first, update.first, 1e-6), "") << module;
    const Tensor &magnitude = own.at(module).second, &wanted = update.second;
    ASSERT_EQ(magnitude.defined(), wanted.defined()) << module;
    EXPECT_TRUE(!wanted.defined() || differs(magnitude, wanted, 0).empty()) << module;
  }
}

class LoraConversions : public testing::TestWithParam<std::string> {};

// From its own format to each of the three, and from each of these to each again.
TEST_P(LoraConversions, KeepEveryUpdate) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  const Json facts = read_json(kLoras / GetParam() / "case.json");
  const auto layers = facts["layers"].get<std::vector<std::string>>();
  const auto text = facts["text_layers"].get<std::vector<std::string>>();
  const test::Golden io(kLoras / GetParam() / "io.safetensors");
  const auto model = test::load_unet("text");
  const auto check = [&](const fs::path& adapter) {
    expect_same(adapter, source(GetParam()), kUnetPart, layers, adapter);
    if (!text.empty()) expect_same(adapter, source(GetParam()), kTextPart, text, adapter / "text_encoder");
    testing::internal::CaptureStderr();  // what is said of the text encoder
    const Adapter read = Adapter::load(*model, adapter);
    testing::internal::GetCapturedStderr();
    EXPECT_EQ(differs(denoised(*model, &read, io), io["output"], logit_tolerance(io["output"])), "") << adapter;
  };
  for (const std::string& first : lora_format_names()) {
    const fs::path once = folder / first / first;
    fs::create_directories(folder / first);
    const LoraConversion report = convert_lora(source(GetParam()), pipeline.name(), first, once);
    EXPECT_EQ(report.problem, "") << first;
    EXPECT_TRUE(report.left_out.empty()) << report.left_out.front();
    EXPECT_EQ(report.layers.at(kUnetPart), layers.size());
    EXPECT_EQ(report.layers.contains(kTextPart), !text.empty());
    check(once);
    for (const std::string& second : lora_format_names()) {
      const fs::path twice = folder / (first + "_" + second) / second;
      fs::create_directories(twice.parent_path());
      EXPECT_EQ(convert_lora(once, pipeline.name(), second, twice).problem, "") << first << " to " << second;
      check(twice);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, LoraConversions,
                         testing::Values("mixed_names", "kohya", "kohya_ranks", "kohya_magnitudes", "processors"),
                         [](const auto& i) { return i.param; });

TEST(ConvertLora, NamesTheTextEncoderAsEveryReaderDoes) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  convert_lora(source("mixed_names"), pipeline.name(), "kohya", folder / "kohya");
  convert_lora(source("kohya"), pipeline.name(), "diffusers", folder / "diffusers");
  const io::SafetensorsFile kohya(folder / "kohya/lora.safetensors");
  EXPECT_TRUE(kohya.find("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"));
  const io::SafetensorsFile diffusers(folder / "diffusers/pytorch_lora_weights.safetensors");
  EXPECT_TRUE(diffusers.find("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight"));
  const Json config = Json::parse(diffusers.metadata().at("lora_adapter_metadata"));
  for (const Json& module : config["text_encoder.target_modules"]) {
    EXPECT_TRUE(module.get<std::string>().starts_with("encoder.layers.")) << module;  // an end that any version has
  }
}

TEST(ConvertLora, ListsWhatItCannotPlace) {
  const Pipeline pipeline(/*with_text=*/false);
  const test::TemporaryFolder folder;
  const LoraConversion report = convert_lora(source("kohya"), pipeline.name(), "diffusers", folder / "out");
  EXPECT_EQ(report.problem, "");
  const Json facts = read_json(kLoras / "kohya" / "case.json");
  EXPECT_EQ(report.left_out.size(), 3 * facts["text_layers"].size());
  for (const std::string& name : report.left_out) EXPECT_TRUE(name.starts_with("lora_te_")) << name;
  const Error error = error_of([&] {
    convert_lora(source("bare_processors"), test::unet_folder("without_attention"), "peft", folder / "none");
  });
  EXPECT_EQ(error.id(), "format.no-such-layer");
  EXPECT_FALSE(fs::exists(folder / "none"));
}

// Numbers that float16 holds are folded in float16 only where it holds the product.
TEST(ConvertLora, KeepsTypesWhereTheyHoldTheScale) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  const std::string layer = "lora_unet_mid_block_attentions_0_proj_in";
  for (const auto& [alpha, dtype] : {std::pair{1.0, at::kHalf}, {2.0, at::kHalf}, {0.6, at::kFloat}}) {
    const Tensor down = at::full({2, 8, 1, 1}, 0.3, at::kHalf), up = at::full({8, 2, 1, 1}, 0.7, at::kHalf);
    const Tensor scale = at::scalar_tensor(alpha, at::kHalf);
    io::write_safetensors(folder / "x.safetensors",
                          {to_bytes(layer + ".lora_down.weight", down), to_bytes(layer + ".lora_up.weight", up),
                           to_bytes(layer + ".alpha", scale)});
    const fs::path out = folder / fmt::format("out{}", alpha);
    EXPECT_EQ(convert_lora(folder / "x.safetensors", pipeline.name(), "diffusers", out).problem, "");
    const test::Golden written(out / "pytorch_lora_weights.safetensors");
    EXPECT_EQ(written["unet.mid_block.attentions.0.proj_in.lora_A.weight"].scalar_type(), at::kHalf);
    const Tensor B = written["unet.mid_block.attentions.0.proj_in.lora_B.weight"];
    EXPECT_EQ(B.scalar_type(), dtype) << alpha;
    EXPECT_EQ(differs(B, up.to(at::kDouble) * (scale.item<double>() / 2), 1e-7), "");
  }
}

/// Writes a file of factors, each [name, shape].
fs::path written(const fs::path& file, const std::vector<std::pair<std::string, std::vector<int64_t>>>& factors) {
  std::vector<Tensor> values;
  std::vector<io::TensorBytes> bytes;
  for (const auto& [name, shape] : factors) {
    values.push_back(at::full(shape, 0.5));
    bytes.push_back(to_bytes(name, values.back()));
  }
  io::write_safetensors(file, bytes);
  return file;
}

const std::string kConv = "lora_unet_mid_block_attentions_0_proj_in";
const std::string kLinear = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";

// Others read a factor in the shape that its layer has, and no other one.
TEST(ConvertLora, WritesFactorsInTheShapesOfTheirLayers) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  const fs::path file = written(folder / "x.safetensors", {{kConv + ".lora_down.weight", {2, 8}},
                                                           {kConv + ".lora_up.weight", {8, 2}},
                                                           {kLinear + ".lora_down.weight", {2, 8, 1, 1}},
                                                           {kLinear + ".lora_up.weight", {8, 2, 1, 1}}});
  for (const std::string& to : lora_format_names()) {
    EXPECT_EQ(convert_lora(file, pipeline.name(), to, folder / to).problem, "") << to;
    const fs::path result = to == "peft" ? folder / to / "adapter_model.safetensors" : find_lora_file(folder / to);
    const io::SafetensorsFile tensors(result);
    for (const io::TensorBytes& tensor : tensors.tensors()) {
      if (tensor.name.ends_with(".alpha")) continue;
      EXPECT_EQ(tensor.shape.size(), tensor.name.find("to_q") == std::string::npos ? 4 : 2) << tensor.name;
    }
  }
}

TEST(ConvertLora, RefusesFactorsOfAnotherModel) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  const fs::path file = written(folder / "x.safetensors", {{kConv + ".lora_down.weight", {2, 9, 1, 1}},
                                                           {kConv + ".lora_up.weight", {8, 2, 1, 1}}});
  const Error error = error_of([&] { convert_lora(file, pipeline.name(), "diffusers", folder / "out"); });
  EXPECT_EQ(error.id(), "shape.mismatch");
  EXPECT_NE(error.parts().what.find("mid_block.attentions.0.proj_in"), std::string::npos) << error.parts().what;
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(ConvertLora, LeavesMagnitudesOfSomeLayersToKohyasFiles) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  const fs::path file = written(folder / "x.safetensors", {{kConv + ".lora_down.weight", {2, 8, 1, 1}},
                                                           {kConv + ".lora_up.weight", {8, 2, 1, 1}},
                                                           {kConv + ".dora_scale", {8, 1, 1, 1}},
                                                           {kLinear + ".lora_down.weight", {2, 8}},
                                                           {kLinear + ".lora_up.weight", {8, 2}}});
  EXPECT_EQ(convert_lora(file, pipeline.name(), "kohya", folder / "kohya").problem, "");
  for (const char* to : {"diffusers", "peft"}) {
    const Error error = error_of([&] { convert_lora(file, pipeline.name(), to, folder / to); });
    EXPECT_EQ(error.id(), "config.no-export") << to;
    EXPECT_FALSE(fs::exists(folder / to));
  }
}

TEST(ConvertLora, RefusesWhatIsNoLora) {
  const Pipeline pipeline;
  const test::TemporaryFolder folder;
  const auto refused = [&](const fs::path& adapter, const std::string& model, const std::string& to) {
    return error_of([&] { convert_lora(adapter, model, to, folder / "out"); });
  };
  EXPECT_EQ(refused(test::unet_folder("loha"), pipeline.name(), "kohya").id(), "config.unsupported");
  EXPECT_EQ(refused(source("kohya"), fixture("golden/models/bert_cls").string(), "peft").id(), "config.unsupported");
  EXPECT_EQ(refused(folder / "nothing", pipeline.name(), "peft").id(), "config.no-adapter");
  EXPECT_EQ(refused(source("kohya"), pipeline.name(), "gguf").id(), "config.out-of-range");
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(LoraConversion, TakesAFolderOfUnetAndTextEncoder) {
  const auto model = test::load_pipeline_unet("first");
  add_text_encoder(dynamic_cast<Denoiser&>(*model));
  Adapter adapter = Adapter::create(
      *model,
      adapter_config_from_json({{"method", "lora"},
                                {"r", 2},
                                {"lora_alpha", 3},
                                {"target_modules", {"to_q", "q_proj"}},
                                {"alpha_pattern", {{"text_encoder.encoder.layers.0.self_attn.q_proj", 7}}},
                                {"rank_pattern", {{"text_encoder.encoder.layers.1.self_attn.q_proj", 1}}}},
                               "test"),
      1);
  test::randomise(adapter, 7);
  const test::TemporaryFolder folder;
  fs::create_directory(folder / "own");
  adapter.save(folder / "own");
  const auto dense = [](const AdaptedLayer& layer) {
    const Update update = layer.update();
    return at::mm(update.left, update.right) * update.scale;
  };
  for (const char* to : {"diffusers", "kohya", "peft"}) {
    const LoraConversion report =
        convert_lora(folder / "own", test::pipeline_folder("first").string(), to, folder / to);
    EXPECT_EQ(report.problem, "") << to;
    EXPECT_TRUE(report.left_out.empty());
    EXPECT_EQ(report.layers.at(kTextPart), 2);
    EXPECT_TRUE(changes_text_encoder(folder / to)) << to;
    const Adapter read = Adapter::load(*model, folder / to);
    ASSERT_EQ(read.layers().size(), adapter.layers().size());
    for (const AdaptedLayer* layer : adapter.layers()) {
      EXPECT_EQ(differs(dense(*read.layer(*layer->base)), dense(*layer), 1e-6), "") << layer->info.name << " of " << to;
    }
  }
  EXPECT_TRUE(changes_text_encoder(folder / "own"));
  EXPECT_FALSE(changes_text_encoder(test::pipeline_folder("first_prior")));
  // Without the text encoder the UNet's layers of PEFT's two folders are read.
  const auto unet = test::load_pipeline_unet("first");
  EXPECT_EQ(Adapter::load(*unet, folder / "peft").layers().size(), adapter.layers().size() - 2);
  EXPECT_EQ(Adapter::load(*unet, folder / "peft").config().base_model_name_or_path,
            test::pipeline_folder("first").string());
}

TEST(LoraConversion, NamesMagnitudesOfTheTextEncoderAsTransformersReadsThem) {
  const auto model = test::load_pipeline_unet("first");
  add_text_encoder(dynamic_cast<Denoiser&>(*model));
  const Json values = {{"method", "dora"}, {"r", 2}, {"target_modules", {"to_q", "q_proj"}}};
  Adapter adapter = Adapter::create(*model, adapter_config_from_json(values, "test"), 1);
  test::randomise(adapter, 7);
  const test::TemporaryFolder folder;
  fs::create_directory(folder / "own");
  adapter.save(folder / "own");
  convert_lora(folder / "own", test::pipeline_folder("first").string(), "diffusers", folder / "diffusers");
  const io::SafetensorsFile file(folder / "diffusers/pytorch_lora_weights.safetensors");
  const std::string q_proj = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj";
  EXPECT_TRUE(file.find(q_proj + ".lora_magnitude_vector.weight"));
  EXPECT_FALSE(file.find(q_proj + ".lora_magnitude_vector"));
  EXPECT_TRUE(file.find("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_magnitude_vector"));
  const Adapter read = Adapter::load(*model, folder / "diffusers");
  for (const AdaptedLayer* layer : adapter.layers()) {
    EXPECT_EQ(differs(read.layer(*layer->base)->params["lora_magnitude_vector"], layer->params["lora_magnitude_vector"],
                      1e-6),
              "")
        << layer->info.name;
  }
}

}  // namespace
}  // namespace deltaw
