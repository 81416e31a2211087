#include "models/vision_encoder.h"

#include <fmt/format.h>

#include "deltaw/active_updates.h"
#include "deltaw/error.h"
#include "ops/attention/attention.h"
#include "ops/checkpoint.h"
#include "ops/conv2d.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

/// One number, or one for rows and one for columns.
std::array<int64_t, 2> pair_or(const ConfigValues& values, const char* key, int64_t fallback) {
  if (!values.has(key) || !values.json()[key].is_array()) {
    const int64_t size = values.size_or(key, fallback);
    return {size, size};
  }
  const auto sizes = values.get<std::vector<int64_t>>(key);
  if (sizes.size() != 2 || std::min(sizes[0], sizes[1]) < 1 || std::max(sizes[0], sizes[1]) > 1 << 14) {
    values.complain(key, "a size, or one of rows and one of columns");
  }
  return {sizes[0], sizes[1]};
}

const Tensor& value_of(const Parameter& parameter, const Call& call) {
  return call.adapter ? call.adapter->value(parameter) : parameter.value;
}

}  // namespace

Tensor ImageModel::features(const ModelInput& /*input*/, Call& /*call*/) const {
  throw Error({.id = "internal.not-text",
               .what = "a model of images was given text",
               .where = architecture(),
               .fix = "call image_features()"});
}

VisionConfig VisionConfig::from_json(const ConfigValues& values, int64_t patch_size) {
  VisionConfig c;
  c.hidden_size = values.size("hidden_size");
  c.num_hidden_layers = values.layers("num_hidden_layers");
  c.num_attention_heads = values.size("num_attention_heads");
  if (values.has("intermediate_size")) c.intermediate_size = values.size("intermediate_size");
  c.num_channels = values.size_or("num_channels", c.num_channels);
  c.image_size = pair_or(values, "image_size", 224);
  c.patch_size = pair_or(values, "patch_size", patch_size);
  c.layer_norm_eps = values.not_negative_or("layer_norm_eps", c.layer_norm_eps);
  c.initializer_range = values.not_negative_or("initializer_range", c.initializer_range);
  c.hidden_dropout_prob = values.dropout_or("hidden_dropout_prob", 0);
  c.attention_probs_dropout_prob = values.dropout_or("attention_probs_dropout_prob", 0);
  c.hidden_act = values.get_or<std::string>("hidden_act", c.hidden_act);
  c.qkv_bias = values.get_or("qkv_bias", true);
  if (c.hidden_size % c.num_attention_heads != 0) {
    values.refuse("num_attention_heads", fmt::format("a divisor of hidden_size {}", c.hidden_size));
  }
  if (c.num_channels != 3) values.refuse("num_channels", "3: red, green and blue");
  if (c.image_size[0] < c.patch_size[0] || c.image_size[1] < c.patch_size[1]) {
    values.refuse("image_size", "at least one patch");
  }
  return c;
}

VisionEncoder::VisionEncoder(Loader& load, const VisionConfig& config, const VisionNames& names)
    : config_(config), activation_(config.gated ? "silu" : config.hidden_act) {
  const auto& c = config_;
  const std::string embeddings = names.base + ".embeddings.";
  const int64_t d = c.hidden_size;
  for (const std::string& token : names.tokens) tokens_.push_back(tensor(load, embeddings + token, {1, 1, d}));
  const int64_t patches = (c.image_size[0] / c.patch_size[0]) * (c.image_size[1] / c.patch_size[1]);
  const auto count = static_cast<int64_t>(names.tokens.size());
  positions_ = tensor(load, embeddings + "position_embeddings", {1, count + patches, d});
  register_count_ = names.register_count;
  if (register_count_ > 0) registers_ = tensor(load, embeddings + names.registers, {1, register_count_, d});
  patches_ = load.conv2d(embeddings + "patch_embeddings.projection", d, c.num_channels,
                         {.kernel = c.patch_size, .stride = c.patch_size});
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    blocks_.push_back(load_block(load, names, fmt::format("{}.encoder.layer.{}.", names.base, i)));
  }
  norm_ = load.layer_norm(names.base + ".layernorm", d, c.layer_norm_eps);
}

const Parameter* VisionEncoder::tensor(Loader& load, const std::string& name, const std::vector<int64_t>& shape) {
  load.tensor(tensors_.emplace_back(), name, shape);
  return &tensors_.back();
}

VisionEncoder::Block VisionEncoder::load_block(Loader& load, const VisionNames& names, const std::string& layer) {
  const auto& c = config_;
  const int64_t d = c.hidden_size;
  const auto scale = [&](const std::string& name) { return name.empty() ? nullptr : tensor(load, layer + name, {d}); };
  Block b{};
  b.norm_before = load.layer_norm(layer + names.norm_before, d, c.layer_norm_eps);
  b.query = load.linear(layer + "attention.attention.query", d, d, {.bias = c.qkv_bias});
  b.key = load.linear(layer + "attention.attention.key", d, d, {.bias = c.qkv_bias});
  b.value = load.linear(layer + "attention.attention.value", d, d, {.bias = c.qkv_bias});
  b.attention_output = load.linear(layer + "attention.output.dense", d, d);
  b.scale_attention = scale(names.scale_attention);
  b.norm_after = load.layer_norm(layer + names.norm_after, d, c.layer_norm_eps);
  b.intermediate = load.linear(layer + names.intermediate, (c.gated ? 2 : 1) * c.intermediate_size, d);
  b.output = load.linear(layer + names.output, d, c.intermediate_size);
  b.scale_output = scale(names.scale_output);
  return b;
}

// [1, tokens + rows * columns, hidden]: the patches' positions are a picture of their own, stretched where it has
// another size.
Tensor VisionEncoder::positions(int64_t rows, int64_t columns, const Call& call) const {
  const auto& c = config_;
  const Tensor& all = value_of(*positions_, call);
  const int64_t own_rows = c.image_size[0] / c.patch_size[0], own_columns = c.image_size[1] / c.patch_size[1];
  if (rows == own_rows && columns == own_columns) return all;
  const auto tokens = static_cast<int64_t>(tokens_.size());
  const at::ScalarType wide = all.scalar_type() == at::kBFloat16 ? at::kFloat : all.scalar_type();
  const Tensor picture = all.narrow(1, tokens, all.size(1) - tokens)
                             .view({1, own_rows, own_columns, c.hidden_size})
                             .permute({0, 3, 1, 2})
                             .to(wide);
  const Tensor stretched = c.antialiased_positions
                               ? at::_upsample_bicubic2d_aa(picture, {rows, columns}, /*align_corners=*/false)
                               : at::upsample_bicubic2d(picture, {rows, columns}, /*align_corners=*/false);
  const Tensor flat = stretched.permute({0, 2, 3, 1}).reshape({1, rows * columns, c.hidden_size});
  return at::cat({all.narrow(1, 0, tokens), flat.to(all.scalar_type())}, 1);
}

Tensor VisionEncoder::embed(const Tensor& pixel_values, Call& call) const {
  const auto& c = config_;
  const int64_t height = pixel_values.size(2), width = pixel_values.size(3);
  if (height % c.patch_size[0] != 0 || width % c.patch_size[1] != 0) {
    throw Error({.id = "data.image-size",
                 .what = fmt::format("an image of {} x {} pixels is no whole number of patches of {} x {}", height,
                                     width, c.patch_size[0], c.patch_size[1]),
                 .where = "the batch",
                 .fix = "set the size in preprocessor_config.json to a multiple of the model's patch_size"});
  }
  const Tensor patches = ops::conv2d(pixel_values.to(patches_->weight.value.scalar_type()), *patches_, call);
  std::vector<Tensor> parts;
  for (const Parameter* token : tokens_) parts.push_back(value_of(*token, call).expand({patches.size(0), -1, -1}));
  parts.push_back(patches.flatten(2).transpose(1, 2));
  Tensor x = at::cat(parts, 1) + positions(patches.size(2), patches.size(3), call);
  if (registers_) {
    const auto tokens = static_cast<int64_t>(tokens_.size());
    x = at::cat({x.narrow(1, 0, tokens), value_of(*registers_, call).expand({x.size(0), -1, -1}),
                 x.narrow(1, tokens, x.size(1) - tokens)},
                1);
  }
  return ops::dropout(x, c.hidden_dropout_prob, call);
}

Tensor VisionEncoder::attend(const Tensor& x, const Block& block, bool firsts_only, Call& call) const {
  const auto& c = config_;
  std::vector<Tensor> qkv;
  if (firsts_only) {
    qkv = ops::linear_group(x, {block.key, block.value}, call);
    qkv.insert(qkv.begin(), ops::linear(x.narrow(1, 0, 1), *block.query, call));
  } else {
    qkv = ops::linear_group(x, {block.query, block.key, block.value}, call);
  }
  const auto split = [&](const Tensor& t) {
    return t.view({t.size(0), t.size(1), c.num_attention_heads, -1}).transpose(1, 2);
  };
  const Tensor mixed = ops::attention(split(qkv[0]), split(qkv[1]), split(qkv[2]), {},
                                      {.dropout = c.attention_probs_dropout_prob}, call);
  return ops::linear(mixed.transpose(1, 2).flatten(2), *block.attention_output, call);
}

Tensor VisionEncoder::ending(Tensor output, const Linear& layer, const Parameter* scale, Call& call) const {
  const auto& c = config_;
  output = ops::mapped_output(ops::dropout(output, c.hidden_dropout_prob, call), layer, call);
  if (scale) output = output * value_of(*scale, call);
  if (!call.training || c.drop_path_rate == 0) return output;
  return output * ops::dropout(at::ones({output.size(0), 1, 1}, output.options()), c.drop_path_rate, call);
}

Tensor VisionEncoder::run_block(const Tensor& x, const Block& b, bool firsts_only, Call& call) const {
  const Tensor asking = firsts_only ? x.narrow(1, 0, 1) : x;
  const Tensor attended = attend(ops::normalised(x, *b.norm_before, call), b, firsts_only, call);
  const auto [sum, fed] =
      ops::add_normalised(ending(attended, *b.attention_output, b.scale_attention, call), asking, *b.norm_after, call);
  Tensor inner = ops::linear(fed, *b.intermediate, call), up;
  if (config_.gated) {
    const std::vector<Tensor> halves = inner.chunk(2, -1);
    inner = halves[0];
    up = halves[1];
  }
  return sum + ending(ops::activated_linear(activation_, inner, up, *b.output, call), *b.output, b.scale_output, call);
}

Tensor VisionEncoder::states(const Tensor& pixel_values, bool firsts_only, Call& call) const {
  Tensor x = embed(pixel_values, call);
  for (const Block& b : blocks_) {
    // An observer is to see every token.
    const bool firsts = firsts_only && &b == &blocks_.back() && !call.observer;
    const auto block = [this, &b, firsts](const std::vector<Tensor>& inputs, Call& own) {
      return run_block(inputs[0], b, firsts, own);
    };
    x = ops::checkpointed(block, {x}, call);
  }
  return ops::normalised(firsts_only ? x.narrow(1, 0, 1) : x, *norm_, call);
}

VisionFamilyModel::VisionFamilyModel(const FamilyInput& input, const VisionConfig& config, const VisionNames& names,
                                     bool reads_mean, const std::vector<std::string>& others)
    : reads_mean_(reads_mean) {
  Loader load(*this, input, names.base);
  encoder_ = std::make_unique<VisionEncoder>(load, config, names);
  layers_.last(load, num_labels(), (reads_mean ? 2 : 1) * config.hidden_size, config.initializer_range, /*p=*/0);
  load.finish(others);
  image_height_ = config.image_size[0];
  image_width_ = config.image_size[1];
}

Tensor VisionFamilyModel::image_features(const Tensor& pixel_values, Call& call) const {
  const Tensor states = encoder_->states(pixel_values, /*firsts_only=*/!reads_mean_, call);
  const Tensor first = states.select(1, 0);
  if (!reads_mean_) return first;
  const int64_t before = encoder_->before_patches();
  return at::cat({first, states.narrow(1, before, states.size(1) - before).mean(1)}, 1);
}

HeadSpec image_classifier(const std::string& name) {
  return {.task_type = "image-classification",
          .architecture = name + "ForImageClassification",
          .module = "classifier",
          .weight = "classifier.weight",
          .problem_type = true};
}

FamilySpec vision_family(FamilySpec own) {
  const auto silent = [](Json& list, Json names) {
    if (list.is_null()) list = std::move(names);
  };
  silent(own.lora_target_modules, {"query", "value"});  // PEFT has none
  silent(own.ia3_target_modules, {"key", "value", "output.dense"});
  silent(own.ia3_feedforward_modules, {"output.dense"});
  silent(own.sublayer_outputs, {"output.dense"});
  silent(own.feedforward_outputs, ".*\\.layer\\.\\d+\\.output\\.dense");
  return own;
}

}  // namespace deltaw
