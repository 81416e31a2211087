// Autoencoders and text encoders of pipelines give what diffusers' give; wrong folders are refused.
#include "deltaw/pipeline.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "deltaw/error.h"
#include "io/safetensors.h"
#include "support/mutations.h"
#include "support/pipelines.h"
#include "support/temporary.h"
#include "support/tiny_denoiser.h"

namespace deltaw {
namespace {

using test::denoiser;
using test::differs;
using test::error_of;
using test::Golden;
using test::load_pipeline_unet;
using test::logit_tolerance;
using test::pipeline_case;
using test::pipeline_folder;
using test::pipeline_io;
using Strings = std::vector<std::string>;

class PipelineOracle : public testing::TestWithParam<std::string> {
 protected:
  PipelineParts parts(const std::string& dtype = "float32") const {
    const auto model = load_pipeline_unet(GetParam(), dtype);
    return load_parts(denoiser(*model));
  }
  Golden io = pipeline_io(GetParam());
};

TEST_P(PipelineOracle, EncodesPicturesAsDiffusersDoes) {
  for (const char* dtype : {"float32", "float64"}) {
    const PipelineParts own = parts(dtype);
    const bool wide = std::string(dtype) == "float64";
    const std::string end = wide ? "64" : "";
    const at::NoGradGuard no_grad;
    Call call;
    const LatentDistribution latents = own.autoencoder->encode(io["pixels"], call);
    for (const auto& [name, value] :
         std::map<std::string, Tensor>{{"mean", latents.mean}, {"deviation", latents.deviation}}) {
      const Tensor expected = io[name + end];
      EXPECT_EQ(differs(value, expected, wide ? 1e-9 : logit_tolerance(expected)), "") << name << " in " << dtype;
    }
    const Tensor decoded = io["decoded" + end];
    EXPECT_EQ(differs(own.autoencoder->decode(io["latents"], call), decoded, wide ? 1e-9 : logit_tolerance(decoded)),
              "");
  }
}

TEST_P(PipelineOracle, ReadsTextsAsDiffusersDoes) {
  const auto texts = pipeline_case(GetParam())["texts"].get<Strings>();
  const PipelineParts own = parts();
  EXPECT_EQ(differs(own.prompts->ids(texts), io["ids"], 0), "");
  EXPECT_EQ(differs(own.prompts->encode(texts), io["states"], logit_tolerance(io["states"])), "");
  EXPECT_EQ(differs(parts("float64").prompts->encode(texts), io["states64"], 1e-9), "");
  EXPECT_EQ(own.prompts->length(), 77);
  EXPECT_EQ(own.prompts->width(), io["states"].size(2));
  EXPECT_FALSE(own.prompts->cuts(texts[0]));
  EXPECT_TRUE(own.prompts->cuts(texts[3]));
}

TEST_P(PipelineOracle, SaysWhatItMakes) {
  const PipelineParts own = parts();
  const bool first = GetParam() == "first";
  EXPECT_EQ(own.autoencoder->channels(), first ? 3 : 1);
  EXPECT_EQ(own.autoencoder->latent_channels(), 4);
  EXPECT_EQ(own.autoencoder->factor(), first ? 2 : 4);
  EXPECT_EQ(own.autoencoder->scaling_factor(), first ? 0.18215 : 0.7);
  const auto id = [&](const std::function<void(Call&)>& ask) {
    return error_of([&] {
             Call call;
             ask(call);
           })
        .id();
  };
  const Autoencoder& vae = *own.autoencoder;
  const int64_t channels = vae.channels();
  EXPECT_EQ(id([&](Call& call) { vae.features({}, call); }), "internal.not-text");
  EXPECT_EQ(id([&](Call& call) { vae.encode(at::zeros({1, channels + 1, 8, 8}), call); }), "shape.mismatch");
  EXPECT_EQ(id([&](Call& call) { vae.encode(at::zeros({1, channels, 8, 7}), call); }), "data.image-size");
  EXPECT_EQ(id([&](Call& call) { vae.decode(at::zeros({1, 3, 2, 2}), call); }), "shape.mismatch");
}

INSTANTIATE_TEST_SUITE_P(Pipelines, PipelineOracle, testing::Values("first", "second"),
                         [](const auto& i) { return i.param; });

class PipelineFolder : public testing::Test {
 protected:
  PipelineFolder() {
    std::filesystem::copy(pipeline_folder("first"), folder.path(),
                          std::filesystem::copy_options::overwrite_existing | std::filesystem::copy_options::recursive);
  }
  void edit(const std::string& file, const Json& changes) const {
    Json config = read_json(folder / file);
    config.update(changes);
    write_json(folder / file, config);
  }
  PipelineParts parts() const {
    const auto model = load_model(folder.path().string(), {.dtype = "float32"});
    return load_parts(denoiser(*model));
  }
  /// Each key of `file` with this value is refused by name.
  void expect_refused(const std::string& file, const std::string& id,
                      const std::vector<std::pair<std::string, Json>>& wrong) const {
    const Json whole = read_json(folder / file);
    for (const auto& [key, value] : wrong) {
      edit(file, {{key, value}});
      const Error error = error_of([&] { parts(); });
      EXPECT_EQ(error.id(), id) << key << ": " << error.what();
      EXPECT_NE((error.parts().what + error.parts().where).find(key), std::string::npos) << error.what();
      write_json(folder / file, whole);
    }
  }
  void rename_tensors(const std::string& file, const std::function<std::string(std::string)>& renamed) const {
    const io::SafetensorsFile stored(pipeline_folder("first") / file);
    std::vector<io::TensorBytes> tensors(stored.tensors().begin(), stored.tensors().end());
    for (io::TensorBytes& tensor : tensors) tensor.name = renamed(tensor.name);
    std::filesystem::remove(folder / file);
    io::write_safetensors(folder / file, tensors);
  }

  test::TemporaryFolder folder;
  Golden io = pipeline_io("first");
};

// oracle/make_pipelines.py has diffusers read them.
TEST_F(PipelineFolder, HasTheNamesOfOldAutoencoders) {
  rename_tensors("vae/diffusion_pytorch_model.safetensors", [](std::string name) {
    for (const auto& [ours, old] : std::map<std::string, std::string>{
             {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}) {
      if (const size_t at = name.find(ours); at != std::string::npos) name.replace(at, ours.size(), old);
    }
    return name;
  });
  const PipelineParts own = parts();
  const at::NoGradGuard no_grad;
  Call call;
  EXPECT_EQ(differs(own.autoencoder->encode(io["pixels"], call).mean, io["mean"], logit_tolerance(io["mean"])), "");
  EXPECT_EQ(differs(own.autoencoder->decode(io["latents"], call), io["decoded"], logit_tolerance(io["decoded"])), "");
}

// transformers 4 wrote the names below "text_model", and what it now counts by itself; transformers 5 leaves both out.
TEST_F(PipelineFolder, HasTheNamesOfOldAndOfNewTextEncoders) {
  const auto texts = pipeline_case("first")["texts"].get<Strings>();
  const std::string prefix = "text_model.";
  const auto bare = [&](const std::string& name) {
    return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  };
  for (const std::string& before : {prefix, std::string()}) {
    rename_tensors("text_encoder/model.safetensors", [&](const std::string& name) { return before + bare(name); });
    EXPECT_EQ(differs(parts().prompts->encode(texts), io["states"], logit_tolerance(io["states"])), "") << before;
  }
}

TEST_F(PipelineFolder, RefusesByNameWhatItsAutoencoderHas) {
  const std::string file = "vae/config.json";
  expect_refused(file, "config.unsupported",
                 {{"_class_name", "VQModel"},
                  {"act_fn", "mish"},
                  {"shift_factor", 0.1},
                  {"latents_mean", {0, 0, 0, 0}},
                  {"out_channels", 4},
                  {"down_block_types", {"DownEncoderBlock2D", "AttnDownEncoderBlock2D"}},
                  {"up_block_types", {"UpDecoderBlock2D", "AttnUpDecoderBlock2D"}}});
  expect_refused(
      file, "config.bad-model",
      {{"down_block_types", {"DownEncoderBlock2D"}}, {"scaling_factor", 0}, {"block_out_channels", Json::array()}});
  edit(file, {{"norm_num_groups", 3}});
  EXPECT_EQ(error_of([&] { parts(); }).parts().what, "norm_num_groups is 3, and a norm has 4 channels");
  edit(file, {{"norm_num_groups", 2}, {"use_quant_conv", false}});
  EXPECT_NE(error_of([&] { parts(); }).parts().what.find("quant_conv."), std::string::npos);
  edit(file, {{"use_quant_conv", true}, {"layers_per_block", 2}});
  EXPECT_NE(error_of([&] { parts(); }).parts().what.find("'encoder.down_blocks.0.resnets.1.norm1.weight'"),
            std::string::npos);
}

TEST_F(PipelineFolder, RefusesByNameWhatItsTextEncoderHas) {
  expect_refused("text_encoder/config.json", "config.unsupported",
                 {{"model_type", "t5"}, {"use_attention_mask", true}, {"num_attention_heads", 3}});
}

TEST_F(PipelineFolder, AnswersStrangeConfigurationsByName) {
  const auto mutate = [&](const char* file, const std::function<void()>& load) {
    const Json whole = read_json(folder / file);
    test::each_mutation(whole, [&](const Json& changed, const std::string& what) {
      write_json(folder / file, changed);
      try {
        load();
      } catch (const Error& error) {
        EXPECT_NE(error.id().substr(0, 9), "internal.") << file << ", " << what << ": " << error.what();
      }
    });
    write_json(folder / file, whole);
  };
  const auto prompts = [&] { PromptEncoder(folder / "text_encoder", folder / "tokenizer"); };
  mutate("vae/config.json", [&] { load_autoencoder(folder / "vae"); });
  mutate("text_encoder/config.json", prompts);
  mutate("tokenizer/tokenizer_config.json", prompts);
}

TEST_F(PipelineFolder, MustHaveThePartsThatTheModelNeeds) {
  const auto without = [&](const char* part) {
    std::filesystem::rename(folder / part, folder / "away");
    Error error = error_of([&] { parts(); });
    std::filesystem::rename(folder / "away", folder / part);
    return error;
  };
  EXPECT_NE(without("vae").parts().what.find("latents, and there is no folder vae"), std::string::npos);
  EXPECT_NE(without("text_encoder").parts().what.find("no folder text_encoder"), std::string::npos);
  EXPECT_NE(without("tokenizer").parts().what.find("no folder tokenizer"), std::string::npos);

  std::filesystem::remove_all(folder / "text_encoder");
  std::filesystem::copy(pipeline_folder("second") / "text_encoder", folder / "text_encoder");
  EXPECT_EQ(error_of([&] { parts(); }).parts().what,
            "the model reads texts of width 8, and the text encoder beside it makes 6");
}

TEST_P(PipelineOracle, ReadsTextsByAPartOfTheModel) {
  const auto model = load_pipeline_unet(GetParam());
  const size_t layers = model->layers().size(), parameters = model->parameters().size();
  const Json config = model->config();
  const auto folder = model->folder();
  EXPECT_TRUE(has_text_encoder(denoiser(*model)));
  EXPECT_EQ(denoiser(*model).text_encoder(), nullptr);
  add_text_encoder(dynamic_cast<Denoiser&>(*model));
  EXPECT_EQ(model->config(), config);
  EXPECT_EQ(model->folder(), folder);
  EXPECT_GT(model->layers().size(), layers);
  EXPECT_EQ(denoiser(*model).text_encoder()->folder(), pipeline_folder(GetParam()) / "text_encoder");
  for (size_t i = 0; i < model->layers().size(); ++i) {
    const Layer& layer = *model->layers()[i];
    EXPECT_EQ(layer.index, i);
    EXPECT_EQ(layer.name.starts_with(kTextEncoderScope), i >= layers) << layer.name;
  }
  for (size_t i = parameters; i < model->parameters().size(); ++i) {
    EXPECT_EQ(model->parameters()[i]->slot, i);
    EXPECT_TRUE(model->parameters()[i]->name.starts_with(kTextEncoderScope)) << model->parameters()[i]->name;
  }
  const PipelineParts own = load_parts(denoiser(*model));
  EXPECT_TRUE(own.prompts->is_part());
  const Tensor states = own.prompts->encode(pipeline_case(GetParam())["texts"].get<Strings>());
  EXPECT_TRUE(at::equal(states, parts().prompts->encode(pipeline_case(GetParam())["texts"].get<Strings>())));
  Call call;
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(states, denoiser(*model).encode_text(io["ids"], call)));
  const auto again = load_pipeline_unet(GetParam());
  extend_like(*again, *load_pipeline_unet(GetParam()));
  EXPECT_EQ(denoiser(*again).text_encoder(), nullptr);
  extend_like(*again, *model);
  EXPECT_EQ(again->layers().size(), model->layers().size());
}

TEST_F(PipelineFolder, WithATextEncoderOfOtherTensorsIsRefused) {
  const auto file = folder / "text_encoder" / "model.safetensors";
  const auto add = [&] {
    const auto model = load_model(folder.path().string());
    add_text_encoder(dynamic_cast<Denoiser&>(*model));
  };
  add();
  const io::SafetensorsFile before(pipeline_folder("first") / "text_encoder" / "model.safetensors");
  std::vector<io::TensorBytes> tensors = before.tensors();
  tensors.front().name = "embeddings.another";
  std::filesystem::remove(file);
  io::write_safetensors(file, tensors, {});
  EXPECT_EQ(error_of(add).id(), "format.missing-tensor");
  tensors = before.tensors();
  tensors.push_back(tensors.back());
  tensors.back().name = "encoder.more.weight";
  io::write_safetensors(file, tensors, {});
  EXPECT_EQ(error_of(add).id(), "format.unexpected-tensor");
}

TEST_F(PipelineFolder, OfPixelsHasNoParts) {
  const PipelineParts own = load_parts(test::TinyDenoiser({.channels = 3}, folder / "nothing" / "unet"));
  EXPECT_EQ(own.autoencoder, nullptr);
  EXPECT_EQ(own.prompts, nullptr);
  const Error error = error_of([&] { load_parts(test::TinyDenoiser({.channels = 5}, folder / "unet")); });
  EXPECT_EQ(error.id(), "config.unsupported");
  EXPECT_NE(error.parts().what.find("makes latents of 4"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace deltaw
