#include "models/unet.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "deltaw/error.h"
#include "ops/conv2d.h"
#include "ops/gradient_checkpointing.h"
#include "ops/layers.h"

namespace deltaw {
namespace {

constexpr int64_t kMostChannels = 1 << 20, kMostStages = 20;

std::array<int64_t, 2> sides(const ConfigValues& values, const char* key) {
  if (!values.has(key)) return {0, 0};
  if (!values.json()[key].is_array()) return {values.size(key), values.size(key)};
  const auto found = values.get<std::vector<int64_t>>(key);
  if (found.size() != 2 || std::min(found[0], found[1]) < 1) values.complain(key, "a size, or rows and columns");
  return {found[0], found[1]};
}

std::vector<StageForm> stages_of(const ConfigValues& values, const char* key,
                                 const std::vector<UNetBlockNames::Block>& blocks,
                                 const std::vector<std::string>& fallback, const std::vector<int64_t>& channels) {
  const auto types = values.get_or(key, fallback);
  if (types.size() != channels.size()) {
    values.complain(key, fmt::format("a block for each of the {} stages of block_out_channels", channels.size()));
  }
  std::vector<StageForm> stages;
  for (size_t i = 0; i < types.size(); ++i) {
    const std::string old = "UNetRes";  // before the same names, in old files
    const std::string type = types[i].starts_with(old) ? types[i].substr(old.size()) : types[i];
    const auto found =
        std::find_if(blocks.begin(), blocks.end(), [&](const auto& block) { return block.name == type; });
    if (found == blocks.end()) {
      std::vector<std::string> known;
      for (const auto& block : blocks) known.push_back(block.name);
      throw Error({.id = "config.unsupported",
                   .what = fmt::format("a block '{}' is not implemented", types[i]),
                   .where = fmt::format("{}, key \"{}\"", values.where(), key),
                   .fix = fmt::format("supported: {}", fmt::join(known, ", "))});
    }
    stages.push_back(
        {.channels = channels[i], .attention = found->attention, .resamples_by_resnet = found->resamples_by_resnet});
  }
  return stages;
}

using Attention = std::variant<std::monostate, PixelAttention, SpatialTransformer>;

Tensor attended(const Attention& attention, const Tensor& x, const Tensor& text, Call& call) {
  if (const auto* pixels = std::get_if<PixelAttention>(&attention)) return (*pixels)(x, call);
  if (const auto* transformer = std::get_if<SpatialTransformer>(&attention)) return (*transformer)(x, text, call);
  return x;
}

struct StageLayer {
  ResnetBlock resnet;
  Attention attention;
};

struct Stage {
  std::vector<StageLayer> layers;
  std::optional<Downsample> down;
  std::optional<Upsample> up;
  std::optional<ResnetBlock> resampler;  // in place of either
};

class UNetModel final : public Denoiser {
 public:
  UNetModel(const FamilyInput& input, const UNetConfig& config);

  Tensor denoise(const Tensor& sample, const Tensor& timesteps, const Condition& condition, Call& call) const override;

 private:
  Attention load_attention(Loader& load, const std::string& name, const StageForm& form, int64_t norm_num_groups,
                           double output_scale_factor) const;
  Stage load_down(Loader& load, const std::string& name, const StageForm& form, int64_t c_in, bool last) const;
  Stage load_up(Loader& load, const std::string& name, const StageForm& form, int64_t before, int64_t c_skipped,
                bool last) const;
  void load_middle(Loader& load);

  void check(const Tensor& sample, const Condition& condition) const;
  Tensor embedded(const Tensor& timesteps, const Condition& condition, Call& call) const;

  UNetConfig config_;
  const Conv2d *conv_in_, *conv_out_;
  std::optional<TimeEmbedding> time_embedding_;
  const Embedding* class_embedding_ = nullptr;
  std::vector<Stage> down_, up_;
  std::optional<Attention> middle_attention_;
  std::vector<ResnetBlock> middle_;
  ops::GroupNorm conv_norm_out_;
};

UNetModel::UNetModel(const FamilyInput& input, const UNetConfig& config) : config_(config) {
  const auto& c = config_;
  Loader load(*this, input, "unet");
  const int64_t first = c.down.front().channels;
  conv_in_ = load_conv3x3(load, "conv_in", first, c.in_channels);
  time_embedding_.emplace(load, "time_embedding", first, c.resnet.time_width);
  if (c.num_class_embeds > 0) {
    class_embedding_ = load.embedding("class_embedding", c.num_class_embeds, c.resnet.time_width);
  }
  int64_t channels = first;
  for (size_t i = 0; i < c.down.size(); ++i) {
    down_.push_back(load_down(load, fmt::format("down_blocks.{}", i), c.down[i], channels, i + 1 == c.down.size()));
    channels = c.down[i].channels;
  }
  if (c.middle) load_middle(load);
  for (size_t i = 0; i < c.up.size(); ++i) {
    const int64_t skipped = c.up[std::min(i + 1, c.up.size() - 1)].channels;
    up_.push_back(load_up(load, fmt::format("up_blocks.{}", i), c.up[i], channels, skipped, i + 1 == c.up.size()));
    channels = c.up[i].channels;
  }
  conv_norm_out_ = load_group_norm(load, "conv_norm_out", first, c.resnet.norm_num_groups, c.resnet.norm_eps);
  conv_out_ = load_conv3x3(load, "conv_out", c.out_channels, first);
  load.finish({});
  in_channels_ = c.in_channels;
  out_channels_ = c.out_channels;
  sample_height_ = c.sample_size[0];
  sample_width_ = c.sample_size[1];
  num_class_embeds_ = c.num_class_embeds;
  cross_attention_dim_ = c.cross_attention_dim;
}

Attention UNetModel::load_attention(Loader& load, const std::string& name, const StageForm& form,
                                    int64_t norm_num_groups, double output_scale_factor) const {
  if (form.attention == StageAttention::none) return {};
  if (form.attention == StageAttention::pixels) {
    return PixelAttention(load, name,
                          {.channels = form.channels,
                           .heads = form.heads,
                           .norm_num_groups = norm_num_groups,
                           .norm_eps = config_.resnet.norm_eps,
                           .output_scale_factor = output_scale_factor});
  }
  return SpatialTransformer(load, name,
                            {.channels = form.channels,
                             .heads = form.heads,
                             .cross_attention_dim = config_.cross_attention_dim,
                             .blocks = config_.transformer_blocks,
                             .norm_num_groups = norm_num_groups,
                             .linear_projection = config_.linear_projection});
}

Stage UNetModel::load_down(Loader& load, const std::string& name, const StageForm& form, int64_t c_in,
                           bool last) const {
  Stage stage;
  for (int64_t i = 0; i < config_.layers_per_block; ++i) {
    ResnetBlock resnet(load, fmt::format("{}.resnets.{}", name, i), config_.resnet,
                       {.c_in = i == 0 ? c_in : form.channels, .c_out = form.channels});
    stage.layers.push_back({std::move(resnet), load_attention(load, fmt::format("{}.attentions.{}", name, i), form,
                                                              config_.resnet.norm_num_groups, 1)});
  }
  if (last) return stage;
  const std::string sampler = name + ".downsamplers.0";
  if (form.resamples_by_resnet) {
    stage.resampler.emplace(
        load, sampler, config_.resnet,
        ResnetBlock::Shape{.c_in = form.channels, .c_out = form.channels, .resampling = Resampling::down});
  } else {
    stage.down.emplace(load, sampler, form.channels, config_.asymmetric_downsampling);
  }
  return stage;
}

// `before`: channels that enter; `c_skipped`: of the stage on the way down that the last layer reads.
Stage UNetModel::load_up(Loader& load, const std::string& name, const StageForm& form, int64_t before,
                         int64_t c_skipped, bool last) const {
  Stage stage;
  for (int64_t i = 0; i <= config_.layers_per_block; ++i) {
    const int64_t own = i == 0 ? before : form.channels;
    const int64_t skipped = i == config_.layers_per_block ? c_skipped : form.channels;
    ResnetBlock resnet(load, fmt::format("{}.resnets.{}", name, i), config_.resnet,
                       {.c_in = own + skipped, .c_out = form.channels});
    stage.layers.push_back({std::move(resnet), load_attention(load, fmt::format("{}.attentions.{}", name, i), form,
                                                              config_.resnet.norm_num_groups, 1)});
  }
  if (last) return stage;
  const std::string sampler = name + ".upsamplers.0";
  if (form.resamples_by_resnet) {
    stage.resampler.emplace(
        load, sampler, config_.resnet,
        ResnetBlock::Shape{.c_in = form.channels, .c_out = form.channels, .resampling = Resampling::up});
  } else {
    stage.up.emplace(load, sampler, form.channels);
  }
  return stage;
}

void UNetModel::load_middle(Loader& load) {
  const UNetConfig::Middle& middle = *config_.middle;
  const int64_t channels = config_.down.back().channels;
  const auto resnet = [&](const char* name) {
    middle_.emplace_back(
        load, name, config_.resnet,
        ResnetBlock::Shape{.c_in = channels, .c_out = channels, .output_scale_factor = middle.output_scale_factor});
  };
  resnet("mid_block.resnets.0");
  middle_attention_ = load_attention(load, "mid_block.attentions.0",
                                     {.channels = channels, .attention = middle.attention, .heads = middle.heads},
                                     middle.norm_num_groups, middle.output_scale_factor);
  resnet("mid_block.resnets.1");
}

void UNetModel::check(const Tensor& sample, const Condition& condition) const {
  const auto refuse = [&](const char* id, const std::string& what, const std::string& fix) {
    throw Error({.id = id, .what = what, .where = "the batch", .fix = fix});
  };
  if (sample.dim() != 4 || sample.size(1) != in_channels_) {
    refuse("shape.mismatch",
           fmt::format("the pictures are [{}], the model takes [batch, {}, rows, columns]",
                       fmt::join(sample.sizes().vec(), ", "), in_channels_),
           "give it pictures or latents of its own kind");
  }
  const int64_t multiple = config_.any_size ? 1 : int64_t{1} << (config_.down.size() - 1);
  if (sample.size(2) < 1 || sample.size(3) < 1 || sample.size(2) % multiple != 0 || sample.size(3) % multiple != 0) {
    refuse("data.image-size",
           fmt::format("a picture of {} x {} cannot be halved {} times", sample.size(2), sample.size(3),
                       config_.down.size() - 1),
           fmt::format("both sides must be multiples of {}", multiple));
  }
  if (condition.class_labels.defined() != (num_class_embeds_ > 0)) {
    refuse("data.class-labels",
           num_class_embeds_ > 0 ? "the model is told the class of each picture, and there is none"
                                 : "the model knows no classes, and the pictures have them",
           num_class_embeds_ > 0 ? "give each picture a class" : "leave the classes out");
  }
  const Tensor& text = condition.encoder_hidden_states;
  if (text.defined() != (cross_attention_dim_ > 0)) {
    refuse("data.no-text",
           cross_attention_dim_ > 0 ? "the model reads a text with each picture, and there is none"
                                    : "the model reads no text, and the pictures have one",
           cross_attention_dim_ > 0 ? "give each picture the states of its text's encoder" : "leave the texts out");
  }
}

Tensor UNetModel::embedded(const Tensor& timesteps, const Condition& condition, Call& call) const {
  const Tensor times = sinusoids(timesteps, config_.down.front().channels, config_.flip_sin_to_cos, config_.freq_shift);
  const Tensor time = (*time_embedding_)(times.to(dtype()), call);
  return class_embedding_ ? time + ops::embedding(condition.class_labels, *class_embedding_, call) : time;
}

Tensor UNetModel::denoise(const Tensor& sample, const Tensor& timesteps, const Condition& condition, Call& call) const {
  check(sample, condition);
  const Tensor time = embedded(timesteps, condition, call);
  const Tensor& given = condition.encoder_hidden_states;
  const Tensor text = given.defined() ? given.to(dtype()) : given;
  Tensor x = sample.to(dtype());
  if (config_.center_input_sample) x = 2 * x - 1;
  x = ops::conv2d(x, *conv_in_, call);

  // A layer reads x, and on the way up what a layer on the way down made.
  const auto run = [&](const StageLayer& layer, const Tensor& skipped) {
    const auto block = [&layer](const std::vector<Tensor>& in, Call& own) {
      const Tensor read = in[3].defined() ? at::cat({in[0], in[3]}, 1) : in[0];
      return attended(layer.attention, layer.resnet(read, in[1], own), in[2], own);
    };
    x = ops::checkpointed(block, {x, time, text, skipped}, call);
  };
  const auto run_resnet = [&](const ResnetBlock& resnet) {
    const auto block = [&resnet](const std::vector<Tensor>& in, Call& own) { return resnet(in[0], in[1], own); };
    x = ops::checkpointed(block, {x, time}, call);
  };

  std::vector<Tensor> made{x};
  for (const Stage& stage : down_) {
    for (const StageLayer& layer : stage.layers) {
      run(layer, {});
      made.push_back(x);
    }
    if (!stage.down && !stage.resampler) continue;
    if (stage.resampler) run_resnet(*stage.resampler);
    if (stage.down) x = (*stage.down)(x, call);
    made.push_back(x);
  }
  if (!middle_.empty()) {
    run_resnet(middle_[0]);
    const auto block = [this](const std::vector<Tensor>& in, Call& own) {
      return attended(*middle_attention_, in[0], in[1], own);
    };
    x = ops::checkpointed(block, {x, text}, call);
    run_resnet(middle_[1]);
  }
  for (const Stage& stage : up_) {
    for (const StageLayer& layer : stage.layers) {
      run(layer, made.back());
      made.pop_back();
    }
    if (stage.resampler) run_resnet(*stage.resampler);
    if (stage.up) {
      const Tensor& next = made.back();
      x = (*stage.up)(x, next.size(2), next.size(3), call);
    }
  }
  return ops::conv2d(conv_norm_out_.silu(x, call), *conv_out_, call);
}

}  // namespace

std::vector<int64_t> stage_channels(const ConfigValues& values, std::vector<int64_t> fallback) {
  const char* key = "block_out_channels";
  std::vector<int64_t> channels = values.get_or(key, std::move(fallback));
  const auto absurd = [](int64_t c) { return c < 1 || c > kMostChannels; };
  if (channels.empty() || channels.size() > kMostStages || std::any_of(channels.begin(), channels.end(), absurd)) {
    values.complain(key, "the channels of each stage");
  }
  return channels;
}

UNetConfig unet_config(const ConfigValues& values, const UNetBlockNames& names,
                       const std::vector<int64_t>& default_channels) {
  const std::vector<int64_t> channels = stage_channels(values, default_channels);
  UNetConfig c;
  c.sample_size = sides(values, "sample_size");
  c.center_input_sample = values.get_or("center_input_sample", false);
  c.flip_sin_to_cos = values.get_or("flip_sin_to_cos", true);
  c.freq_shift = values.get_or("freq_shift", 0.0);
  if (c.freq_shift < 0 || c.freq_shift >= static_cast<double>(channels[0] / 2)) {
    values.complain("freq_shift",
                    fmt::format("a number from 0 and below half of the {} channels that the time has", channels[0]));
  }
  if (values.has("layers_per_block")) c.layers_per_block = values.layers("layers_per_block");
  if (values.json().contains("norm_num_groups") && !values.has("norm_num_groups")) {
    values.refuse("norm_num_groups", "a number of groups");
  }
  c.resnet = {.time_width = values.size_or("time_embedding_dim", 4 * channels[0]),
              .norm_num_groups = values.size_or("norm_num_groups", 32),
              .norm_eps = values.not_negative_or("norm_eps", 1e-5),
              .dropout = values.dropout_or("dropout", 0)};
  const auto shift = values.get_or<std::string>("resnet_time_scale_shift", "default");
  c.resnet.scale_shift = shift == "scale_shift";
  if (shift != "default" && shift != "scale_shift") {
    values.refuse("resnet_time_scale_shift", "supported: default, scale_shift");
  }
  const auto padding = values.get_or<int64_t>("downsample_padding", 1);
  c.asymmetric_downsampling = padding == 0;
  if (padding != 0 && padding != 1) values.refuse("downsample_padding", "supported: 0, 1");
  const auto act = values.get_or<std::string>("act_fn", "silu");
  if (act != "silu" && act != "swish") values.refuse("act_fn", "supported: silu");
  values.accept_only("time_embedding_type", "positional");
  c.down = stages_of(values, "down_block_types", names.down, names.default_down, channels);
  c.up = stages_of(values, "up_block_types", names.up, names.default_up, {channels.rbegin(), channels.rend()});
  return c;
}

bool has_middle(const ConfigValues& values, const std::string& type) {
  const char* key = "mid_block_type";
  if (values.json().contains(key) && !values.has(key)) return false;
  if (values.get_or(key, type) != type) values.refuse(key, "supported: " + type + ", null");
  return true;
}

std::unique_ptr<Model> load_unet(const FamilyInput& input, const UNetConfig& config) {
  return std::make_unique<UNetModel>(input, config);
}

FamilySpec unet_family(const std::string& model_type, std::function<std::unique_ptr<Model>(const FamilyInput&)> load) {
  return {.model_type = model_type,
          .heads = {{.task_type = "NOISE", .architecture = model_type}},
          .lora_target_modules = {"to_k", "to_q", "to_v", "to_out.0"},  // those of diffusers' scripts
          .load = std::move(load)};
}

}  // namespace deltaw
