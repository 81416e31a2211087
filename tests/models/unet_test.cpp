// UNets: outputs of diffusers, adapters of PEFT over them, and folders that are not what they should be.
#include "models/unet.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "deltaw/error.h"
#include "deltaw/export.h"
#include "io/resolve_model.h"
#include "support/checkpoint_folder.h"
#include "support/mutations.h"
#include "support/opened.h"
#include "support/tiny_model.h"
#include "support/unets.h"
#include "train/adamw.h"

namespace deltaw {
namespace {

using test::denoised;
using test::denoiser;
using test::differs;
using test::error_of;
using test::fixture;
using test::Golden;
using test::load_unet;
using test::logit_tolerance;
using test::unet_folder;

std::vector<std::string> folders_with(const char* file) {
  std::vector<std::string> names = test::folders("unets");
  std::erase_if(names,
                [&](const std::string& name) { return !std::filesystem::exists(unet_folder(name) + "/" + file); });
  return names;
}

Golden io_of(const std::string& name) {
  return Golden(unet_folder(name) + "/io.safetensors");
}

class UNetOracle : public testing::TestWithParam<std::string> {
 protected:
  Golden io = io_of(GetParam());
};

TEST_P(UNetOracle, GivesTheOutputsOfDiffusers) {
  EXPECT_EQ(differs(denoised(*load_unet(GetParam()), nullptr, io), io["output"], logit_tolerance(io["output"])), "");
  EXPECT_EQ(differs(denoised(*load_unet(GetParam(), "float64"), nullptr, io), io["output64"], 1e-9), "");
}

TEST_P(UNetOracle, ComputesInBf16) {
  const auto model = load_unet(GetParam(), "bf16");
  const Tensor output = denoised(*model, nullptr, io);
  EXPECT_EQ(output.scalar_type(), at::kBFloat16);
  const double steps = GetParam() == "text" ? 64 : 16;  // that one is 39 off in diffusers' own bf16 pass
  EXPECT_EQ(differs(output, io["output"], steps * io["output"].abs().max().item<double>() / 256), "");
}

TEST_P(UNetOracle, SaysWhatItReads) {
  const auto model = load_unet(GetParam());
  const Denoiser& unet = denoiser(*model);
  const Tensor sample = io["sample"], output = io["output"];
  EXPECT_EQ(unet.in_channels(), sample.size(1));
  EXPECT_EQ(unet.out_channels(), output.size(1));
  EXPECT_EQ(unet.sample_height(), 8);
  EXPECT_EQ(unet.sample_width(), GetParam() == "classes" ? 12 : 8);
  EXPECT_EQ(unet.num_class_embeds() > 0, io.has("class_labels"));
  EXPECT_EQ(unet.cross_attention_dim(), io.has("encoder_hidden_states") ? 6 : 0);
  EXPECT_EQ(model->task_type(), "NOISE");
  EXPECT_EQ(error_of([&] {
              Call call;
              model->features({}, call);
            }).id(),
            "internal.not-text");
}

INSTANTIATE_TEST_SUITE_P(UNets, UNetOracle, testing::ValuesIn(folders_with("config.json")),
                         [](const auto& i) { return i.param; });

struct Adapted {
  Golden io;
  Json facts;
  std::unique_ptr<Model> model;
  Adapter adapter;

  Adapted(const std::string& name, const std::string& dtype)
      : io(io_of(name)),
        facts(read_json(unet_folder(name) + "/case.json")),
        model(load_unet(facts["base"].get<std::string>(), dtype)),
        adapter(Adapter::load(*model, unet_folder(name), {.trainable = true})) {}

  Tensor loss(const std::string& prefix, bool recompute = false) const {
    Call call{.adapter = &adapter, .training = true, .recompute = recompute};
    return at::mse_loss(denoised(*model, io, call, prefix), io[prefix + "target"].to(at::kDouble));
  }
};

class UNetAdapterOracle : public testing::TestWithParam<std::string> {};

TEST_P(UNetAdapterOracle, GivesTheOutputsOfPeft) {
  for (const char* dtype : {"float32", "float64"}) {
    const Adapted c(GetParam(), dtype);
    const bool wide = std::string(dtype) == "float64";
    const Tensor expected = c.io[wide ? "output64" : "output"];
    EXPECT_EQ(differs(denoised(*c.model, &c.adapter, c.io), expected, wide ? 1e-7 : logit_tolerance(expected)), "");
    EXPECT_NE(differs(denoised(*c.model, nullptr, c.io), expected, 100 * logit_tolerance(expected)), "");
  }
}

TEST_P(UNetAdapterOracle, GivesTheLossAndEveryGradient) {
  for (const bool recompute : {false, true}) {
    const Adapted c(GetParam(), "float64");
    const Tensor loss = c.loss("", recompute);
    EXPECT_EQ(differs(loss.reshape({1}), c.io["loss64"], 1e-7), "");
    loss.backward();
    std::set<std::string> expected;
    for (const std::string& name : c.io.names("grad.")) expected.insert(name);
    for (const NamedTensor& tensor : c.adapter.trained()) {
      const std::string key = "base_model.model." + tensor.name;
      ASSERT_TRUE(expected.erase(key)) << "PEFT does not train " << key;
      const Tensor gradient = c.io["grad." + key].reshape(tensor.value.sizes());  // kernels are matrices here
      const double scale = std::max(1.0, gradient.abs().max().item<double>());
      EXPECT_EQ(differs(tensor.value.grad(), gradient, 1e-7 * scale), "") << tensor.name;
    }
    EXPECT_TRUE(expected.empty()) << "not trained here: " << *expected.begin();
  }
}

TEST_P(UNetAdapterOracle, TakesTenStepsOfAdamW) {
  const Adapted c(GetParam(), "float64");
  std::vector<NamedTensor> moved;  // the oracle decays every tensor, so the names that would be spared are hidden
  for (const NamedTensor& tensor : c.adapter.trained())
    moved.push_back({fmt::format("w{}", moved.size()), tensor.value});
  train::AdamW adamw(moved, {.weight_decay = 0.01});
  for (int64_t step = 1; step <= 10; ++step) {
    const Tensor loss = c.loss(step % 2 == 1 ? "" : "batch1.");
    EXPECT_NEAR(loss.item<double>(), c.io["losses"][step - 1].item<double>(), 1e-7) << "step " << step;
    loss.backward();
    adamw.step(0.01);
    for (const NamedTensor& tensor : moved) tensor.value.mutable_grad() = Tensor();
  }
  for (const NamedTensor& tensor : c.adapter.trained()) {
    const Tensor expected = c.io["step10.base_model.model." + tensor.name].reshape(tensor.value.sizes());
    EXPECT_EQ(differs(tensor.value, expected, 1e-8), "") << tensor.name;
  }
}

TEST_P(UNetAdapterOracle, TheFileWrittenIsPefts) {
  const Adapted c(GetParam(), "float32");
  const test::TemporaryFolder written;
  c.adapter.save(written.path());
  const io::SafetensorsFile ours(written / "adapter_model.safetensors"),
      theirs(unet_folder(GetParam()) + "/adapter_model.safetensors");
  EXPECT_EQ(ours.tensors().size(), theirs.tensors().size());
  for (const io::TensorBytes& expected : theirs.tensors()) {
    const io::TensorBytes* found = ours.find(expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    EXPECT_EQ(found->shape, expected.shape) << expected.name;
    EXPECT_TRUE(std::equal(expected.data, expected.data + expected.size(), found->data)) << expected.name;
  }
  EXPECT_TRUE(read_json(written / "adapter_config.json")["task_type"].is_null());
}

// diffusers' folder of weights, with its own names and without keys of transformers.
TEST_P(UNetAdapterOracle, MergesIntoAFolderOfDiffusers) {
  const Adapted c(GetParam(), "float32");
  const test::TemporaryFolder parent;
  const MergeReport report = merge_checkpoint(
      c.adapter, parent / "merged",
      [&](const Model& model, const Adapter* adapter) { return denoised(model, adapter, c.io).to(at::kDouble); });
  EXPECT_TRUE(report.passed) << report.problem;
  EXPECT_TRUE(std::filesystem::exists(parent / "merged" / "diffusion_pytorch_model.safetensors"));
  EXPECT_EQ(read_json(parent / "merged" / "config.json"), read_json(c.model->folder() / "config.json"));
  const auto merged = load_model((parent / "merged").string(), {.dtype = "float32"});
  EXPECT_EQ(differs(denoised(*merged, nullptr, c.io), c.io["output"], logit_tolerance(c.io["output"])), "");
}

INSTANTIATE_TEST_SUITE_P(UNets, UNetAdapterOracle, testing::ValuesIn(folders_with("adapter_config.json")),
                         [](const auto& i) { return i.param; });

class UNet : public testing::Test {
 protected:
  void copy(const std::string& name, const std::string& to = "") const {
    std::filesystem::create_directories(folder / to);
    for (const char* file : {"config.json", "diffusion_pytorch_model.safetensors", "io.safetensors"}) {
      std::filesystem::copy_file(unet_folder(name) + "/" + file, folder / to / file);
    }
  }
  void edit(const Json& changes) const {
    Json config = read_json(folder / "config.json");
    config.update(changes);
    write_json(folder / "config.json", config);
  }
  std::unique_ptr<Model> load() const { return load_model(folder.path().string(), {.dtype = "float32"}); }
  Error refusal(const Json& changes) const {
    const Json whole = read_json(folder / "config.json");
    edit(changes);
    Error error = error_of([&] { load(); });
    write_json(folder / "config.json", whole);
    return error;
  }
  /// Each key with this value is refused by name.
  void expect_refused(const std::string& id, const std::vector<std::pair<std::string, Json>>& wrong) const {
    for (const auto& [key, value] : wrong) {
      const Error error = refusal({{key, value}});
      EXPECT_EQ(error.id(), id) << key << ": " << error.what();
      EXPECT_NE((error.parts().what + error.parts().where).find(key), std::string::npos) << error.what();
    }
  }
  void rename_tensors(const std::function<std::string(std::string)>& renamed) const {
    const io::SafetensorsFile file(unet_folder("pixels") + "/diffusion_pytorch_model.safetensors");
    std::vector<io::TensorBytes> tensors(file.tensors().begin(), file.tensors().end());
    for (io::TensorBytes& tensor : tensors) tensor.name = renamed(tensor.name);
    io::write_safetensors(folder / "diffusion_pytorch_model.safetensors", tensors);
  }
  void expect_output(const std::string& name) const {
    const Golden io = io_of(name);
    EXPECT_EQ(differs(denoised(*load(), nullptr, io), io["output"], logit_tolerance(io["output"])), "");
  }

  test::TemporaryFolder folder;
};

// oracle/make_unets.py has diffusers read them.
TEST_F(UNet, ReadsTheNamesOfOldCheckpoints) {
  copy("pixels");
  std::filesystem::remove(folder / "diffusion_pytorch_model.safetensors");
  rename_tensors([](std::string name) {
    for (const auto& [ours, old] : std::map<std::string, std::string>{
             {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}) {
      if (const size_t at = name.find(ours); at != std::string::npos) name.replace(at, ours.size(), old);
    }
    return name;
  });
  expect_output("pixels");
  EXPECT_NE(io::SafetensorsFile(folder / "diffusion_pytorch_model.safetensors")
                .find("mid_block.attentions.0.proj_attn.weight"),
            nullptr);
}

TEST_F(UNet, ReadsTheVariantOfHalfPrecisionAndShards) {
  copy("pixels");
  const auto whole = folder / "diffusion_pytorch_model.safetensors";
  std::filesystem::rename(whole, folder / "diffusion_pytorch_model.fp16.safetensors");
  expect_output("pixels");
  const std::string shard = "diffusion_pytorch_model.fp16-00001-of-00001.safetensors";
  std::filesystem::rename(folder / "diffusion_pytorch_model.fp16.safetensors", folder / shard);
  Json map = Json::object();
  const io::SafetensorsFile file(folder / shard);
  for (const io::TensorBytes& tensor : file.tensors()) map[tensor.name] = shard;
  write_json(folder / "diffusion_pytorch_model.safetensors.index.fp16.json", {{"weight_map", map}});
  expect_output("pixels");
  std::filesystem::remove(folder / "diffusion_pytorch_model.safetensors.index.fp16.json");
  const Error error = error_of([&] { load(); });
  EXPECT_EQ(error.id(), "io.not-found");
  EXPECT_NE(error.parts().what.find("no diffusion_pytorch_model.safetensors"), std::string::npos) << error.what();
}

TEST_F(UNet, OfAPipelineIsFound) {
  copy("text", "unet");
  write_json(folder / "model_index.json", {{"_class_name", "StableDiffusionPipeline"},
                                           {"_diffusers_version", "0.42.1"},
                                           {"safety_checker", {nullptr, nullptr}},
                                           {"scheduler", {"diffusers", "PNDMScheduler"}},
                                           {"unet", {"diffusers", "UNet2DConditionModel"}}});
  EXPECT_EQ(io::resolve_model(folder.path().string()), folder / "unet");
  EXPECT_EQ(load()->folder(), folder / "unet");
  EXPECT_EQ(task_type_of(folder.path().string()), "NOISE");
  expect_output("text");
  std::filesystem::remove_all(folder / "unet");
  EXPECT_EQ(error_of([&] { load(); }).parts().what, "the pipeline's unet is missing");
  write_json(folder / "model_index.json",
             {{"scheduler", {"diffusers", "PNDMScheduler"}}, {"transformer", {"diffusers", "FluxTransformer2DModel"}}});
  EXPECT_EQ(error_of([&] { load(); }).parts().what, "the pipeline has no unet; its parts are scheduler, transformer");
  write_json(folder / "model_index.json", Json::array());
  EXPECT_EQ(error_of([&] { load(); }).id(), "format.config");
}

// The first pipelines have their UNet beside model_index.json.
TEST_F(UNet, BesideModelIndexIsRead) {
  copy("pixels");
  write_json(folder / "model_index.json", {{"unet", {"diffusers", "UNet2DModel"}}});
  EXPECT_EQ(load()->folder(), folder.path());
}

TEST_F(UNet, RefusesWhatItLacksByName) {
  copy("pixels");
  EXPECT_EQ(refusal({{"_class_name", "DiTTransformer2DModel"}}).parts().what,
            "_class_name 'DiTTransformer2DModel' is not implemented");
  expect_refused("config.unsupported", {{"time_embedding_type", "fourier"},
                                        {"class_embed_type", "timestep"},
                                        {"act_fn", "mish"},
                                        {"downsample_padding", 2},
                                        {"downsample_type", "fir"},
                                        {"upsample_type", "fir"},
                                        {"norm_num_groups", nullptr},
                                        {"mid_block_type", "UNetMidBlock2DSimpleCrossAttn"},
                                        {"resnet_time_scale_shift", "ada_group"},
                                        {"down_block_types", {"DownBlock2D", "SkipDownBlock2D"}},
                                        {"up_block_types", {"KUpBlock2D", "UpBlock2D"}}});
  expect_refused("config.bad-model", {{"_class_name", 3},
                                      {"block_out_channels", Json::array()},
                                      {"block_out_channels", {4, -8}},
                                      {"down_block_types", {"DownBlock2D"}},
                                      {"up_block_types", "UpBlock2D"},
                                      {"attention_head_dim", 3},
                                      {"freq_shift", 2},
                                      {"sample_size", {8, 8, 8}},
                                      {"norm_num_groups", 3}});
  EXPECT_EQ(refusal({{"norm_num_groups", 3}}).parts().what, "norm_num_groups is 3, and a norm has 4 channels");
}

TEST_F(UNet, OfTextsRefusesWhatItLacksByName) {
  copy("text");
  expect_refused("config.unsupported", {{"only_cross_attention", true},
                                        {"dual_cross_attention", true},
                                        {"addition_embed_type", "text_time"},
                                        {"class_embed_type", "projection"},
                                        {"num_class_embeds", 7},
                                        {"encoder_hid_dim", 12},
                                        {"num_attention_heads", 2},
                                        {"time_cond_proj_dim", 256},
                                        {"conv_in_kernel", 5},
                                        {"resnet_out_scale_factor", 2},
                                        {"attention_type", "gated"},
                                        {"timestep_post_act", "silu"},
                                        {"mid_block_type", "UNetMidBlock2D"},
                                        {"down_block_types", {"SimpleCrossAttnDownBlock2D", "DownBlock2D"}}});
  expect_refused("config.bad-model", {{"attention_head_dim", 3},
                                      {"attention_head_dim", {2}},
                                      {"cross_attention_dim", {6, 6}},
                                      {"transformer_layers_per_block", {1, 2}}});
}

TEST_F(UNet, NamesATensorThatIsMissingOrOfAnotherShape) {
  copy("pixels");
  const auto error = [&](const std::string& id) {
    Error found = error_of([&] { load(); });
    EXPECT_EQ(found.id(), id) << found.what();
    return found.parts().what;
  };
  edit({{"layers_per_block", 2}});
  EXPECT_NE(error("format.missing-tensor").find("'down_blocks.0.resnets.1.norm1.weight'"), std::string::npos);
  edit({{"layers_per_block", 1}, {"in_channels", 3}});
  EXPECT_EQ(error("shape.mismatch"), "tensor 'conv_in.weight' is [4, 2, 3, 3], config.json makes it [4, 3, 3, 3]");
  edit({{"in_channels", 2}, {"mid_block_type", nullptr}});
  EXPECT_NE(error("format.unexpected-tensor").find("mid_block."), std::string::npos);
}

TEST_F(UNet, AnswersStrangeConfigurationsByName) {
  for (const char* name : {"pixels", "text_linear"}) {
    copy(name, name);
    const Json whole = read_json(folder / name / "config.json");
    test::each_mutation(whole, [&](const Json& changed, const std::string& what) {
      write_json(folder / name / "config.json", changed);
      try {
        load_model((folder / name).string(), {.dtype = "float32"});
      } catch (const Error& error) {
        EXPECT_NE(error.id().substr(0, 9), "internal.") << what << ": " << error.what();
      }
    });
  }
}

TEST_F(UNet, TakesPicturesThatItCanHalve) {
  const auto model = load_unet("scale_shift");  // three stages: halved twice
  const auto ask = [&](std::vector<int64_t> shape, const Condition& condition, const Model& of) {
    return error_of([&] {
      Call call;
      denoiser(of).denoise(at::zeros(shape), at::zeros({shape[0]}, at::kLong), condition, call);
    });
  };
  const Condition classes{.class_labels = at::zeros({1}, at::kLong)};
  EXPECT_EQ(ask({1, 3, 12, 4}, classes, *model).id(), "none");
  const Error size = ask({1, 3, 8, 6}, classes, *model);
  EXPECT_EQ(size.id(), "data.image-size");
  EXPECT_EQ(size.parts().what, "a picture of 8 x 6 cannot be halved 2 times");
  EXPECT_EQ(size.parts().fix, "both sides must be multiples of 4");
  EXPECT_EQ(ask({1, 3, 0, 4}, classes, *model).id(), "data.image-size");
  EXPECT_EQ(ask({1, 4, 8, 8}, classes, *model).id(), "shape.mismatch");
  EXPECT_EQ(ask({1, 3, 8, 8}, {}, *model).id(), "data.class-labels");
  EXPECT_EQ(ask({1, 2, 8, 8}, classes, *load_unet("pixels")).id(), "data.class-labels");
  const auto text = load_unet("text");
  EXPECT_EQ(ask({1, 4, 8, 8}, {}, *text).id(), "data.no-text");
  EXPECT_EQ(ask({1, 4, 8, 8}, {.encoder_hidden_states = at::zeros({1, 3, 5})}, *text).id(), "shape.mismatch");
  EXPECT_EQ(ask({1, 4, 1, 3}, {.encoder_hidden_states = at::zeros({1, 3, 6})}, *text).id(), "none");
}

TEST_F(UNet, DropsOutInTrainingAlone) {
  copy("pixels");
  const Golden io = io_of("pixels");
  edit({{"dropout", 0.5}});
  const auto model = load();
  const auto run = [&](uint64_t seed, bool training) {
    Call call{.training = training, .seed = seed};
    return denoised(*model, io, call);
  };
  expect_output("pixels");
  EXPECT_EQ(differs(run(1, true), run(1, true), 0), "");
  EXPECT_NE(differs(run(1, true), run(2, true), 1e-3), "");
  EXPECT_NE(differs(run(1, true), run(1, false), 1e-3), "");
}

// diffusers' scripts choose these layers.
TEST_F(UNet, AdaptsTheLayersOfAttentionWhereNothingIsAsked) {
  const auto model = load_unet("text");
  const Adapter adapter = Adapter::create(*model, AdapterConfig{}, 1);
  size_t count = 0;
  for (const Layer* layer : model->layers()) count += layer->name.find(".attn") != std::string::npos ? 1 : 0;
  EXPECT_EQ(adapter.layers().size(), count);
  for (const AdaptedLayer* layer : adapter.layers()) {
    EXPECT_NE(layer->info.name.find(".to_"), std::string::npos) << layer->info.name;
  }
  const test::TemporaryFolder saved;
  adapter.save(saved.path());
  const Json config = read_json(saved / "adapter_config.json");
  EXPECT_TRUE(config["task_type"].is_null());  // PEFT knows no such task
  EXPECT_EQ(config["auto_mapping"],
            (Json{{"task", "NOISE"}, {"base_model_class", "UNet2DConditionModel"}, {"parent_library", "diffusers"}}));
}

// Every method whose place a UNet has, on linear layers and kernels of both sizes.
TEST_F(UNet, TakesEveryMethodOfLayers) {
  const auto model = load_unet("text");
  const Golden io = io_of("text");
  const Tensor plain = denoised(*model, nullptr, io);
  for (const MethodSpec* spec : method_table()) {
    if (spec->on(ActsOn::virtual_tokens) || spec->on(ActsOn::sublayer_outputs)) continue;
    SCOPED_TRACE(spec->id);
    AdapterConfig config{.method = spec->id, .options = test::small_options(*spec)};
    if (spec->on_layers()) config.target_modules = {"to_q", "attn2.to_v", "ff.net.2", "conv1", "proj_in"};
    if (spec->id == "head") continue;  // of which there is none
    const Adapter adapter = Adapter::create(*model, config, 1);
    test::draw_trained(adapter);
    const Tensor adapted = denoised(*model, &adapter, io);
    EXPECT_NE(differs(adapted, plain, 1e-3), "");

    const test::TemporaryFolder saved;
    adapter.save(saved.path());
    const Adapter again = Adapter::load(*model, saved.path());
    EXPECT_TRUE(at::equal(denoised(*model, &again, io), adapted));
  }
}

}  // namespace
}  // namespace deltaw
