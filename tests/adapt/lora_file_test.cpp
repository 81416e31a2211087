// LoRA files of image models: the outputs that diffusers and PEFT give with them, whose names mean which layer, and
// what is refused. oracle/make_diffusion_loras.py wrote them; oracle/check_diffusion_loras.py lets diffusers read ours.
#include "adapt/lora_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/json.h"
#include "deltaw/error.h"
#include "support/mutations.h"
#include "support/opened.h"
#include "support/unets.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

using test::denoised;
using test::differs;
using test::error_of;
using test::fixture;
using test::logit_tolerance;

const fs::path kFixtures = fixture("golden/diffusion_loras");

std::vector<std::string> lora_fixtures() {
  std::vector<std::string> names = test::folders("diffusion_loras");
  std::erase_if(names, [](const std::string& name) { return !fs::exists(kFixtures / name / "case.json"); });
  return names;
}

struct LoraFixture {
  test::Golden io;
  Json facts;
  fs::path file;
  std::unique_ptr<Model> model;

  explicit LoraFixture(const std::string& name)
      : io(kFixtures / name / "io.safetensors"),
        facts(read_json(kFixtures / name / "case.json")),
        file(kFixtures / name / facts["file"].get<std::string>()),
        model(test::load_unet(facts["base"].get<std::string>())) {}
};

class LoraOracle : public testing::TestWithParam<std::string> {};

TEST_P(LoraOracle, GivesTheOutputsOfItsMaker) {
  const LoraFixture c(GetParam());
  testing::internal::CaptureStderr();
  const Adapter adapter = Adapter::load(*c.model, c.file);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(differs(denoised(*c.model, &adapter, c.io), c.io["output"], logit_tolerance(c.io["output"])), "");
  std::vector<std::string> layers;
  for (const AdaptedLayer* layer : adapter.layers()) layers.push_back(layer->info.name);
  std::sort(layers.begin(), layers.end());
  EXPECT_EQ(Json(layers), c.facts["layers"]);
  // What the UNet has no place for is told, every tensor of it.
  EXPECT_EQ(said.empty(), c.facts["text_layers"].empty()) << said;
  for (const Json& layer : c.facts["text_layers"]) {
    std::string flat = layer.get<std::string>();
    std::replace(flat.begin(), flat.end(), '.', '_');
    EXPECT_TRUE(said.find(layer.get<std::string>()) != std::string::npos || said.find(flat) != std::string::npos)
        << said;
  }
}

TEST_P(LoraOracle, IsFoundInItsFolder) {
  const LoraFixture c(GetParam());
  const test::TemporaryFolder folder;
  fs::copy(c.file, folder.path());
  EXPECT_EQ(find_lora_file(folder.path()), folder / c.file.filename());
  const Adapter adapter = Adapter::load(*c.model, folder.path());
  EXPECT_EQ(differs(denoised(*c.model, &adapter, c.io), c.io["output"], logit_tolerance(c.io["output"])), "");
}

// The adapter that was read is one of PEFT's folder like any other.
TEST_P(LoraOracle, IsSavedAsPeftSavesIt) {
  const LoraFixture c(GetParam());
  const test::TemporaryFolder folder;
  Adapter::load(*c.model, c.file, {.trainable = true}).save(folder.path());
  const Adapter adapter = Adapter::load(*c.model, folder.path());
  EXPECT_EQ(differs(denoised(*c.model, &adapter, c.io), c.io["output"], logit_tolerance(c.io["output"])), "");
}

INSTANTIATE_TEST_SUITE_P(Files, LoraOracle, testing::ValuesIn(lora_fixtures()), [](const auto& i) { return i.param; });

TEST(LoraKeys, AreReadInEveryStyle) {
  struct Style {
    const char *key, *part, *module;
    bool flat;
    LoraTensor tensor;
  };
  const Style styles[] = {
      {"unet.mid_block.attentions.0.proj_in.lora_A.weight", "unet", "mid_block.attentions.0.proj_in", false,
       LoraTensor::A},
      {"unet.conv_in.lora_B.weight", "unet", "conv_in", false, LoraTensor::B},
      {"unet.conv_in.lora_B.bias", "unet", "conv_in", false, LoraTensor::bias},
      {"unet.a.attn1.to_q.lora.down.weight", "unet", "a.attn1.to_q", false, LoraTensor::A},
      {"unet.a.attn1.processor.to_out_lora.up.weight", "unet", "a.attn1.to_out.0", false, LoraTensor::B},
      {"a.processor.to_k_lora.down.weight", "", "a.to_k", false, LoraTensor::A},
      {"unet.a.to_q.lora_magnitude_vector", "unet", "a.to_q", false, LoraTensor::magnitude},
      {"unet.a.attn1.processor.to_out.lora_magnitude_vector.weight", "unet", "a.attn1.to_out.0", false,
       LoraTensor::magnitude},
      {"unet.a.to_q.alpha", "unet", "a.to_q", false, LoraTensor::alpha},
      {"text_encoder.b.q_proj.lora_linear_layer.up.weight", "text_encoder", "b.q_proj", false, LoraTensor::B},
      {"text_encoder_2.b.q_proj.lora_A.weight", "text_encoder_2", "b.q_proj", false, LoraTensor::A},
      {"lora_unet_a_to_out_0.lora_down.weight", "unet", "a_to_out_0", true, LoraTensor::A},
      {"lora_unet_a_to_out_0.alpha", "unet", "a_to_out_0", true, LoraTensor::alpha},
      {"lora_unet_a_to_out_0.dora_scale", "unet", "a_to_out_0", true, LoraTensor::magnitude},
      {"lora_te_text_model_a.lora_up.weight", "text_encoder", "text_model_a", true, LoraTensor::B},
      {"lora_te1_text_model_a.lora_up.weight", "text_encoder", "text_model_a", true, LoraTensor::B},
      {"lora_te2_text_model_a.lora_up.weight", "text_encoder_2", "text_model_a", true, LoraTensor::B}};
  for (const Style& style : styles) {
    const auto key = lora_key(style.key, "file");
    ASSERT_TRUE(key) << style.key;
    EXPECT_EQ(key->part, style.part) << style.key;
    EXPECT_EQ(key->module, style.module) << style.key;
    EXPECT_EQ(key->flat, style.flat) << style.key;
    EXPECT_EQ(key->tensor, style.tensor) << style.key;
  }
  for (const char* other : {"base_model.model.conv_in.lora_A.weight", "unet.conv_in.weight", "unet.a.down.weight",
                            "lora_unet_a.b.lora_up.weight", "lora_unet_.alpha", "emb_params", ""}) {
    EXPECT_FALSE(lora_key(other, "file")) << other;
  }
}

TEST(LoraKeys, OfTheTextEncoderHaveThePrefixThatTransformersDropped) {
  for (const char* own : {"text_model.encoder.layers.0.self_attn.q_proj", "encoder.layers.0.self_attn.q_proj"}) {
    const LoraModules modules(kTextPart, {own, "encoder.layers.0.self_attn.out_proj"});
    for (const char* key : {"text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight",
                            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
                            "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight",
                            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
                            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"}) {
      EXPECT_EQ(modules.find(*lora_key(key, "file"), "file"), own) << key;
    }
    EXPECT_EQ(
        modules.find(*lora_key("text_encoder.encoder.layers.0.self_attn.to_out_lora.down.weight", "file"), "file"),
        "encoder.layers.0.self_attn.out_proj");
    EXPECT_EQ(kohya_layer(kTextPart, own), "lora_te_text_model_encoder_layers_0_self_attn_q_proj");
    EXPECT_EQ(diffusers_layer(kTextPart, own), "text_encoder.text_model.encoder.layers.0.self_attn.q_proj");
  }
}

TEST(LoraKeys, FindTheLayersOfStableDiffusion) {
  const Json names = read_json(kFixtures / "sd15.json");
  const LoraModules modules(kUnetPart, names["layers"].get<std::vector<std::string>>());
  EXPECT_EQ(names["layers"].size(), 282);
  EXPECT_EQ(names["kohya"].size() + names["outside_kohya"].size(), names["layers"].size());
  for (const Json& layer : names["layers"]) {
    const auto module = layer.get<std::string>();
    const std::string flat = kohya_layer(kUnetPart, module);
    EXPECT_EQ(names["kohya"].value(module, flat), flat);
    EXPECT_EQ(modules.find(*lora_key(flat + ".lora_down.weight", "file"), "file"), module);
    EXPECT_EQ(modules.find(*lora_key(diffusers_layer(kUnetPart, module) + ".lora.up.weight", "file"), "file"), module);
  }
}

TEST(LoraKeys, ThatMayMeanTwoLayersAreRefused) {
  const LoraModules modules(kUnetPart, {"a.b_c", "a_b.c", "d"});
  EXPECT_EQ(modules.find(*lora_key("lora_unet_d.alpha", "file"), "file"), "d");
  const Error error = error_of([&] { modules.find(*lora_key("lora_unet_a_b_c.alpha", "file"), "file"); });
  EXPECT_EQ(error.id(), "format.ambiguous-name");
  EXPECT_NE(error.parts().what.find("a.b_c"), std::string::npos);
  EXPECT_EQ(modules.find(*lora_key("unet.a.b_c.alpha", "file"), "file"), "a.b_c");
}

/// A file of tensors, each [name, shape], filled with 0.5.
fs::path written(const fs::path& file, const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
                 const std::map<std::string, std::string>& metadata = {}) {
  std::vector<Tensor> values;
  std::vector<io::TensorBytes> bytes;
  for (const auto& [name, shape] : tensors) {
    values.push_back(at::full(shape, 0.5, at::kFloat));
    bytes.push_back(to_bytes(name, values.back()));
  }
  io::write_safetensors(file, bytes, metadata);
  return file;
}

// Of the fixture "text": 4 and 8 channels.
const std::string kLayer = "lora_unet_mid_block_resnets_0_conv1";
const std::string kLinear = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";

Error refused(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
              const std::map<std::string, std::string>& metadata = {}) {
  static const auto model = test::load_unet("text");
  const test::TemporaryFolder folder;
  const fs::path file = written(folder / "x.safetensors", tensors, metadata);
  return error_of([&] { Adapter::load(*model, file); });
}

TEST(LoraFiles, AreRefusedByName) {
  const auto with = [](const std::string& name, const std::vector<int64_t>& shape) {
    return std::vector<std::pair<std::string, std::vector<int64_t>>>{{kLayer + ".lora_down.weight", {2, 8, 3, 3}},
                                                                     {kLayer + ".lora_up.weight", {8, 2, 1, 1}},
                                                                     {kLayer + name, shape}};
  };
  const auto says = [](const Error& error, const char* id, const char* what) {
    EXPECT_EQ(error.id(), id) << error.parts().what;
    EXPECT_NE(error.parts().what.find(what), std::string::npos) << error.parts().what;
  };
  says(refused(with(".lora_mid.weight", {2, 2, 3, 3})), "config.unsupported", "Tucker");
  says(refused(with(".hada_w1_a", {2, 2})), "config.unsupported", "LoHa");
  says(refused(with(".lokr_w1", {2, 2})), "config.unsupported", "LoKr");
  says(refused(with(".dora_scale", {1, 8, 1, 1})), "config.unsupported", "inputs");
  says(refused(with(".dora_scale", {5, 1, 1, 1})), "shape.mismatch", "8 outputs");
  says(refused(with(".alpha", {2})), "format.bad-adapter", "one number");
  says(refused({{kLayer + ".lora_down.weight", {2, 8, 3, 3}}}), "format.missing-tensor", "no second factor");
  says(refused({{kLayer + ".lora_up.weight", {8, 2, 1, 1}}, {kLayer + ".alpha", {}}}), "format.missing-tensor",
       "no first factor");
  says(refused({{kLayer + ".lora_down.weight", {2, 8, 3, 3}}, {kLayer + ".lora_up.weight", {8, 3, 1, 1}}}),
       "shape.mismatch", "ranks differ");
  says(refused({{kLayer + ".lora_down.weight", {2, 8, 1, 1}}, {kLayer + ".lora_up.weight", {8, 2, 1, 1}}}),
       "shape.mismatch", "[2, 8, 3, 3]");
  says(refused({{kLayer + ".lora_down.weight", {2, 7, 3, 3}}, {kLayer + ".lora_up.weight", {8, 2, 1, 1}}}),
       "shape.mismatch", "mid_block.resnets.0.conv1");
  says(refused({{kLayer + ".lora_down.weight", {}}, {kLayer + ".lora_up.weight", {8, 2, 1, 1}}}), "shape.mismatch",
       "two axes");
  says(refused({{kLinear + ".lora_down.weight", {2, 4}},
                {kLinear + ".lora_up.weight", {4, 2}},
                {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", {2, 4}},
                {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight", {4, 2}}}),
       "format.conflict", "factors of one layer");
  says(refused({{"unet.conv_in.lora_A.weight", {2, 4, 3, 3}},
                {"unet.conv_in.lora.down.weight", {2, 4, 3, 3}},
                {"unet.conv_in.lora_B.weight", {4, 2, 1, 1}}}),
       "format.conflict", "same tensor");
  const Error other = refused({{"lora_unet_x.lora_down.weight", {2, 4}}, {"lora_unet_x.lora_up.weight", {4, 2}}});
  says(other, "format.no-such-layer", "none of the file's 1 layers");
  EXPECT_EQ(other.parts().fix.find("XL"), std::string::npos);
  const std::string xl = "lora_unet_input_blocks_4_1_proj_in";
  EXPECT_NE(refused({{xl + ".lora_down.weight", {2, 4}}, {xl + ".lora_up.weight", {4, 2}}}).parts().fix.find("XL"),
            std::string::npos);
  says(refused({{"conv_in.weight", {4, 4, 3, 3}}}), "config.no-adapter", "a file");
}

TEST(LoraFiles, TellWhatTheyHoldBesides) {
  const auto model = test::load_unet("text");
  const test::TemporaryFolder folder;
  const fs::path file = written(folder / "x.safetensors", {{kLinear + ".lora_down.weight", {2, 4}},
                                                           {kLinear + ".lora_up.weight", {4, 2}},
                                                           {"lora_unet_nowhere.lora_up.weight", {4, 2}},
                                                           {"emb_params", {1}}});
  testing::internal::CaptureStderr();
  const Adapter adapter = Adapter::load(*model, file);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("2 tensors are of no layer of this model"), std::string::npos) << said;
  EXPECT_NE(said.find("lora_unet_nowhere.lora_up.weight, emb_params"), std::string::npos) << said;
  EXPECT_EQ(adapter.layers().size(), 1);
}

// 1 x 1 convolutions have been saved as matrices, and linear layers as such convolutions.
TEST(LoraFiles, MayWriteAPointwiseConvolutionAsAMatrix) {
  const auto model = test::load_unet("text");
  const test::TemporaryFolder folder;
  const std::string conv = "lora_unet_mid_block_attentions_0_proj_in";
  const fs::path file = written(folder / "x.safetensors", {{kLinear + ".lora_down.weight", {2, 4, 1, 1}},
                                                           {kLinear + ".lora_up.weight", {4, 2, 1, 1}},
                                                           {conv + ".lora_down.weight", {2, 8}},
                                                           {conv + ".lora_up.weight", {8, 2}}});
  const Adapter adapter = Adapter::load(*model, file);
  ASSERT_EQ(adapter.layers().size(), 2);
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Update u = layer->update();
    const Tensor expected = at::full({layer->info.d_out, layer->info.d_in}, 0.5);
    EXPECT_EQ(differs(at::mm(u.left * u.scale, u.right), expected, 1e-6), "") << layer->info.name;
  }
}

/// The tensors of a fixture's file, and one more.
fs::path with_one_more(const LoraFixture& c, const fs::path& file, const std::string& name, const Tensor& value) {
  const io::SafetensorsFile whole(c.file);
  std::vector<io::TensorBytes> tensors(whole.tensors().begin(), whole.tensors().end());
  tensors.push_back(to_bytes(name, value));
  io::write_safetensors(file, tensors, whole.metadata());
  return file;
}

// One layer is scaled as DoRA does, by numbers that change nothing; so the others must be, of which the file says none.
TEST(LoraFiles, MayHaveMagnitudesAndBiasesOfSomeLayers) {
  const test::TemporaryFolder folder;
  const auto expect_same = [](const LoraFixture& c, const fs::path& file) {
    const Adapter adapter = Adapter::load(*c.model, file);
    EXPECT_EQ(differs(denoised(*c.model, &adapter, c.io), c.io["output"], logit_tolerance(c.io["output"])), "") << file;
  };
  const LoraFixture kohya("kohya_ranks");
  const std::string name = "mid_block.resnets.0.conv1";
  const Adapter plain = Adapter::load(*kohya.model, kohya.file);
  for (const AdaptedLayer* layer : plain.layers()) {
    if (layer->info.name != name) continue;
    const Update u = layer->update();
    const Tensor weight = layer->base->matrix() + u.scale * at::mm(u.left, u.right);
    const Tensor norms = weight.detach().norm(2, 1).view({-1, 1, 1, 1}).contiguous();
    expect_same(kohya, with_one_more(kohya, folder / "k.safetensors", kLayer + ".dora_scale", norms));
  }
  EXPECT_TRUE(fs::exists(folder / "k.safetensors"));
  const LoraFixture peft("peft_names");
  expect_same(peft, with_one_more(peft, folder / "p.safetensors", "unet." + name + ".lora_B.bias", at::zeros({8})));
}

TEST(LoraFiles, AreOneOfSeveralInAFolder) {
  const test::TemporaryFolder folder;
  for (const char* name : {"a.safetensors", "b.safetensors"}) {
    written(folder / name, {{kLinear + ".lora_down.weight", {2, 4}}, {kLinear + ".lora_up.weight", {4, 2}}});
  }
  const Error error = error_of([&] { find_lora_file(folder.path()); });
  EXPECT_EQ(error.id(), "config.no-adapter");
  EXPECT_NE(error.parts().what.find("a.safetensors, b.safetensors"), std::string::npos);
  EXPECT_EQ(find_lora_file(folder / "a.safetensors"), folder / "a.safetensors");
}

TEST(LoraFiles, OfMetadataThatIsBrokenAreRefused) {
  const auto model = test::load_unet("text");
  const fs::path source = kFixtures / "peft_names" / "pytorch_lora_weights.safetensors";
  const io::SafetensorsFile file(source);
  const Json whole = parse_json(file.metadata().at("lora_adapter_metadata"), "test");
  Json good;
  for (const char* key : {"lora_alpha", "alpha_pattern", "use_rslora", "init_lora_weights", "bias", "target_modules"}) {
    good[fmt::format("unet.{}", key)] = whole.at(fmt::format("unet.{}", key));
  }
  const test::TemporaryFolder folder;
  test::each_mutation(good, [&](const Json& broken, const std::string& what) {
    const fs::path copy = folder / "x.safetensors";
    io::write_safetensors(copy, file.tensors(), {{"lora_adapter_metadata", broken.dump()}});
    try {
      Adapter::load(*model, copy);
    } catch (const Error& error) {
      EXPECT_FALSE(error.id().starts_with("internal")) << what << ": " << error.parts().what;
    }
  });
  io::write_safetensors(folder / "x.safetensors", file.tensors(), {{"lora_adapter_metadata", "{"}});
  EXPECT_EQ(error_of([&] { Adapter::load(*model, folder / "x.safetensors"); }).id(), "format.json");
}

TEST(LoraFiles, ThatAreCutAreRefused) {
  const auto model = test::load_unet("text");
  const test::TemporaryFolder folder;
  const std::string whole = read_file(kFixtures / "kohya" / "style.safetensors");
  for (const size_t length : {size_t{0}, size_t{7}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    std::ofstream(folder / "x.safetensors", std::ios::binary) << whole.substr(0, length);
    const Error error = error_of([&] { Adapter::load(*model, folder / "x.safetensors"); });
    EXPECT_TRUE(error.id().starts_with("format.")) << length << ": " << error.id();
  }
}

}  // namespace
}  // namespace deltaw
