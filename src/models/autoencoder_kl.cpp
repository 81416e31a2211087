// AutoencoderKL of diffusers: the first stage of latent diffusion (Rombach et al. 2022, arXiv:2112.10752).
//
//   encode   conv_in, stages that halve the sides, a middle with attention, conv_out: mean and log of the variance
//   decode   the same backwards, without what was made on the way down
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/autoencoder.h"
#include "deltaw/error.h"
#include "models/gguf.h"
#include "models/unet.h"
#include "models/unet_blocks.h"
#include "ops/conv2d.h"

namespace deltaw {
namespace {

constexpr const char* kAutoencoder = "AutoencoderKL";
constexpr double kCodecNormEps = 1e-6;                  // config.json has no key for it
constexpr double kLeastLogVar = -30, kMostLogVar = 20;  // between which the variance is cut

struct CodecConfig {
  int64_t channels = 3, out_channels = 3, latent_channels = 4;
  std::vector<int64_t> stages;  // their channels, on the way down
  int64_t layers_per_block = 1;
  int64_t norm_num_groups = 32;
  bool attention = true;  // in the middle
  bool quant_conv = true, post_quant_conv = true;
  double scaling_factor = 0.18215;
};

void check_stages(const ConfigValues& values, const char* key, const std::string& name, size_t stages) {
  const auto types = values.get_or(key, std::vector<std::string>{name});
  if (types.size() != stages) {
    values.complain(key, fmt::format("a block for each of the {} stages of block_out_channels", stages));
  }
  for (const std::string& type : types) {
    if (type != name) values.refuse(key, "supported: " + name);
  }
}

CodecConfig codec_config(const ConfigValues& values) {
  const auto kind = values.get<std::string>("_class_name");
  if (kind != kAutoencoder) values.refuse("_class_name", fmt::format("supported: {}", kAutoencoder));
  for (const char* key : {"shift_factor", "latents_mean", "latents_std"}) values.accept_only(key, nullptr);
  values.accept_only("act_fn", "silu");
  CodecConfig c;
  c.channels = values.size_or("in_channels", c.channels);
  c.out_channels = values.size_or("out_channels", c.out_channels);
  if (c.channels != c.out_channels) values.refuse("out_channels", "as many as in_channels");
  c.latent_channels = values.size_or("latent_channels", c.latent_channels);
  c.stages = stage_channels(values, {64});
  check_stages(values, "down_block_types", "DownEncoderBlock2D", c.stages.size());
  check_stages(values, "up_block_types", "UpDecoderBlock2D", c.stages.size());
  if (values.has("layers_per_block")) c.layers_per_block = values.layers("layers_per_block");
  c.norm_num_groups = values.size_or("norm_num_groups", c.norm_num_groups);
  c.attention = values.get_or("mid_block_add_attention", true);
  c.quant_conv = values.get_or("use_quant_conv", true);
  c.post_quant_conv = values.get_or("use_post_quant_conv", true);
  c.scaling_factor = values.positive_or("scaling_factor", c.scaling_factor);
  return c;
}

/// Encoder or decoder: stages and a middle block, which is last in the encoder and first in the decoder.
class Codec {
 public:
  Codec(Loader& load, const std::string& name, const CodecConfig& config, bool encodes);
  Tensor operator()(const Tensor& x, Call& call) const;

 private:
  struct Part {
    std::vector<ResnetBlock> resnets;
    std::optional<Downsample> down;
    std::optional<Upsample> up;
  };

  Part load_stage(Loader& load, const std::string& name, const CodecConfig& config, int64_t c_in, int64_t c_out) const;
  void load_middle(Loader& load, const std::string& name, const CodecConfig& config);
  Tensor middle(const Tensor& x, Call& call) const;

  bool encodes_;
  ResnetForm form_;
  const Conv2d *conv_in_, *conv_out_;
  std::vector<Part> stages_;
  std::vector<ResnetBlock> middle_;
  std::optional<PixelAttention> attention_;
  ops::GroupNorm conv_norm_out_;
};

Codec::Codec(Loader& load, const std::string& name, const CodecConfig& config, bool encodes)
    : encodes_(encodes), form_{.norm_num_groups = config.norm_num_groups, .norm_eps = kCodecNormEps} {
  std::vector<int64_t> channels = config.stages;
  if (!encodes) std::reverse(channels.begin(), channels.end());
  conv_in_ =
      load_conv3x3(load, name + ".conv_in", channels.front(), encodes ? config.channels : config.latent_channels);
  if (!encodes) load_middle(load, name, config);
  for (size_t i = 0; i < channels.size(); ++i) {
    const std::string stage = fmt::format("{}.{}_blocks.{}", name, encodes ? "down" : "up", i);
    stages_.push_back(load_stage(load, stage, config, channels[i == 0 ? 0 : i - 1], channels[i]));
    if (i + 1 == channels.size()) break;
    if (encodes) {
      stages_.back().down.emplace(load, stage + ".downsamplers.0", channels[i], /*asymmetric=*/true);
    } else {
      stages_.back().up.emplace(load, stage + ".upsamplers.0", channels[i]);
    }
  }
  if (encodes) load_middle(load, name, config);
  conv_norm_out_ =
      load_group_norm(load, name + ".conv_norm_out", channels.back(), form_.norm_num_groups, form_.norm_eps);
  conv_out_ = load_conv3x3(load, name + ".conv_out", encodes ? 2 * config.latent_channels : config.out_channels,
                           channels.back());
}

Codec::Part Codec::load_stage(Loader& load, const std::string& name, const CodecConfig& config, int64_t c_in,
                              int64_t c_out) const {
  Part part;
  const int64_t layers = config.layers_per_block + (encodes_ ? 0 : 1);
  for (int64_t i = 0; i < layers; ++i) {
    part.resnets.emplace_back(load, fmt::format("{}.resnets.{}", name, i), form_,
                              ResnetBlock::Shape{.c_in = i == 0 ? c_in : c_out, .c_out = c_out});
  }
  return part;
}

void Codec::load_middle(Loader& load, const std::string& name, const CodecConfig& config) {
  const int64_t channels = config.stages.back();
  const auto resnet = [&](const char* own) {
    middle_.emplace_back(load, name + own, form_, ResnetBlock::Shape{.c_in = channels, .c_out = channels});
  };
  resnet(".mid_block.resnets.0");
  if (config.attention) {
    attention_.emplace(
        load, name + ".mid_block.attentions.0",
        PixelAttention::Form{
            .channels = channels, .heads = 1, .norm_num_groups = form_.norm_num_groups, .norm_eps = form_.norm_eps});
  }
  resnet(".mid_block.resnets.1");
}

Tensor Codec::middle(const Tensor& x, Call& call) const {
  const Tensor y = middle_[0](x, {}, call);
  return middle_[1](attention_ ? (*attention_)(y, call) : y, {}, call);
}

Tensor Codec::operator()(const Tensor& input, Call& call) const {
  Tensor x = ops::conv2d(input, *conv_in_, call);
  if (!encodes_) x = middle(x, call);
  for (const Part& stage : stages_) {
    for (const ResnetBlock& resnet : stage.resnets) x = resnet(x, {}, call);
    if (stage.down) x = (*stage.down)(x, call);
    if (stage.up) x = (*stage.up)(x, 2 * x.size(2), 2 * x.size(3), call);
  }
  if (encodes_) x = middle(x, call);
  return ops::conv2d(conv_norm_out_.silu(x, call), *conv_out_, call);
}

class KlAutoencoder final : public Autoencoder {
 public:
  KlAutoencoder(const FamilyInput& input, const CodecConfig& c) {
    Loader load(*this, input, "vae");
    encoder_.emplace(load, "encoder", c, /*encodes=*/true);
    decoder_.emplace(load, "decoder", c, /*encodes=*/false);
    if (c.quant_conv) quant_conv_ = load.conv2d("quant_conv", 2 * c.latent_channels, 2 * c.latent_channels);
    if (c.post_quant_conv) post_quant_conv_ = load.conv2d("post_quant_conv", c.latent_channels, c.latent_channels);
    load.finish({});
    channels_ = c.channels;
    latent_channels_ = c.latent_channels;
    factor_ = int64_t{1} << (c.stages.size() - 1);
    scaling_factor_ = c.scaling_factor;
  }

  LatentDistribution encode(const Tensor& pixels, Call& call) const override {
    check_channels("pictures", pixels, channels_);
    if (pixels.size(2) < 1 || pixels.size(3) < 1 || pixels.size(2) % factor_ != 0 || pixels.size(3) % factor_ != 0) {
      throw Error(
          {.id = "data.image-size",
           .what = fmt::format("a picture of {} x {} has no whole number of latents", pixels.size(2), pixels.size(3)),
           .where = "the batch",
           .fix = fmt::format("both sides must be multiples of {}", factor_)});
    }
    Tensor said = (*encoder_)(pixels.to(dtype()), call);
    if (quant_conv_) said = ops::conv2d(said, *quant_conv_, call);
    const std::vector<Tensor> parts = said.chunk(2, 1);
    const Tensor deviation = (0.5 * parts[1].clamp(kLeastLogVar, kMostLogVar)).exp();
    return {.mean = scaling_factor_ * parts[0], .deviation = scaling_factor_ * deviation};
  }

  Tensor decode(const Tensor& latents, Call& call) const override {
    check_channels("latents", latents, latent_channels_);
    Tensor x = latents.to(dtype()) / scaling_factor_;
    if (post_quant_conv_) x = ops::conv2d(x, *post_quant_conv_, call);
    return (*decoder_)(x, call);
  }

 private:
  static void check_channels(const char* what, const Tensor& given, int64_t channels) {
    if (given.dim() == 4 && given.size(1) == channels) return;
    throw Error({.id = "shape.mismatch",
                 .what = fmt::format("the {} are [{}], the autoencoder takes [batch, {}, rows, columns]", what,
                                     fmt::join(given.sizes().vec(), ", "), channels),
                 .where = "the batch",
                 .fix = "use the vae of the pipeline that the denoiser is from"});
  }

  std::optional<Codec> encoder_, decoder_;
  const Conv2d *quant_conv_ = nullptr, *post_quant_conv_ = nullptr;
};

[[noreturn]] void refuse_text_of(const Model& model) {
  throw Error({.id = "internal.not-text",
               .what = "an autoencoder of pictures was asked for what it makes of text",
               .where = model.folder().string(),
               .fix = "call encode() and decode()"});
}

}  // namespace

Tensor Autoencoder::features(const ModelInput& /*input*/, Call& /*call*/) const {
  refuse_text_of(*this);
}

Tensor Autoencoder::logits(const Tensor& /*features*/, Call& /*call*/) const {
  refuse_text_of(*this);
}

std::unique_ptr<Autoencoder> load_autoencoder(const std::filesystem::path& folder, at::ScalarType dtype) {
  FamilyInput input{.checkpoint = std::make_shared<const io::Checkpoint>(folder), .dtype = dtype};
  return std::make_unique<KlAutoencoder>(input, codec_config(config_of(input)));
}

}  // namespace deltaw
