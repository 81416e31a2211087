#include "models/vision_encoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"
#include "ops/conv2d.h"
#include "ops/gradient_checkpointing.h"
#include "ops/layers.h"
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
  c.pooler_act = values.get_or<std::string>("pooler_act", c.pooler_act);
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

VisionEncoder::VisionEncoder(Loader& load, const VisionConfig& config, const VisionNames& names) : config_(config) {
  const auto& c = config_;
  const std::string embeddings = names.base + ".embeddings.";
  const int64_t d = c.hidden_size;
  const std::vector<int64_t> of_token = names.flat_tokens ? std::vector{d} : std::vector<int64_t>{1, 1, d};
  for (const std::string& token : names.tokens) tokens_.push_back(load.tensor(embeddings + token, of_token));
  const int64_t places = static_cast<int64_t>(tokens_.size()) + c.grid()[0] * c.grid()[1];
  if (names.position_table) {
    position_table_ = load.embedding(embeddings + names.positions, places, d);
  } else {
    positions_ = load.tensor(embeddings + names.positions, {1, places, d});
  }
  if (!names.registers.empty()) registers_ = load.tensor(embeddings + names.registers, {1, names.register_count, d});
  patches_ = load.conv2d(embeddings + names.patches, d, c.num_channels,
                         {.kernel = c.patch_size, .stride = c.patch_size, .bias = c.patch_bias});
  const auto norm = [&](const std::string& name) {
    return name.empty() ? nullptr : load.layer_norm(names.base + "." + name, d, c.layer_norm_eps);
  };
  first_norm_ = norm(names.first_norm);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    blocks_.push_back(load_block(load, names, fmt::format("{}.{}.{}.", names.base, names.layer, i)));
  }
  norm_ = norm(names.norm);
}

Block VisionEncoder::load_block(Loader& load, const VisionNames& names, const std::string& layer) {
  const auto& c = config_;
  const int64_t d = c.hidden_size, inner = c.intermediate_size;
  const auto projection = [&](const std::string& name) {
    return load.linear(layer + name, d, d, {.bias = c.qkv_bias});
  };
  const auto output = [&](const std::string& name, int64_t d_in, const std::string& scale) {
    return SublayerOutput{.layer = load.linear(layer + name, d, d_in),
                          .dropout = c.drops_sublayers ? c.hidden_dropout_prob : 0,
                          .scale = scale.empty() ? nullptr : load.tensor(layer + scale, {d}),
                          .drop_path = c.drop_path_rate};
  };
  // Braces load the tensors in the order in which they stand here.
  Block block{.norms_first = true};
  block.attention_norm = load.layer_norm(layer + names.norm_before, d, c.layer_norm_eps);
  block.attention = {.qkv = {projection(names.query), projection(names.key), projection(names.value)},
                     .heads = c.num_attention_heads,
                     .key_heads = c.num_attention_heads,
                     .width = d / c.num_attention_heads,
                     .form = {.dropout = c.attention_probs_dropout_prob},
                     .output = output(names.attention_output, d, names.scale_attention)};
  block.feed_forward_norm = load.layer_norm(layer + names.norm_after, d, c.layer_norm_eps);
  block.feed_forward = {.inner = {load.linear(layer + names.intermediate, (c.gated ? 2 : 1) * inner, d)},
                        .gated = c.gated,
                        .activation = ops::Activation(c.gated ? "silu" : c.hidden_act),
                        .output = output(names.output, inner, names.scale_output)};
  return block;
}

// The patches' positions are a picture of their own, stretched where the image has another size.
Tensor VisionEncoder::positions(int64_t rows, int64_t columns, const Call& call, at::ScalarType type) const {
  const auto [own_rows, own_columns] = config_.grid();
  const auto every = [&] {
    const Tensor ids =
        at::arange(position_table_->weight.value.size(0), patches_->weight.value.options().dtype(at::kLong));
    return ops::embedding(ids, *position_table_, call).unsqueeze(0);
  };
  const Tensor all = position_table_ ? every() : ops::value_of(*positions_, call, type);
  if (rows == own_rows && columns == own_columns) return all;
  const auto tokens = static_cast<int64_t>(tokens_.size());
  const Tensor picture = all.narrow(1, tokens, own_rows * own_columns)
                             .unflatten(1, {own_rows, own_columns})
                             .permute({0, 3, 1, 2})
                             .to(type == at::kBFloat16 ? at::kFloat : type);
  const Tensor stretched = config_.antialiased_positions
                               ? at::_upsample_bicubic2d_aa(picture, {rows, columns}, /*align_corners=*/false)
                               : at::upsample_bicubic2d(picture, {rows, columns}, /*align_corners=*/false);
  return at::cat({all.narrow(1, 0, tokens), stretched.flatten(2).transpose(1, 2).to(type)}, 1);
}

Tensor VisionEncoder::embed(const Tensor& pixel_values, Call& call) const {
  const auto& c = config_;
  const int64_t height = pixel_values.size(2), width = pixel_values.size(3);
  if (height < c.patch_size[0] || width < c.patch_size[1]) {
    throw Error({.id = "data.image-size",
                 .what = fmt::format("an image of {} x {} pixels is smaller than a patch of {} x {}", height, width,
                                     c.patch_size[0], c.patch_size[1]),
                 .where = "the batch",
                 .fix = "set the size in preprocessor_config.json to that of the model's images"});
  }
  // Pixels behind the last whole patch are not seen: SigLIP has images of 384 in patches of 14.
  const at::ScalarType type = patches_->weight.value.scalar_type();
  const Tensor patches = ops::conv2d(pixel_values.to(type), *patches_, call);
  const auto of_rows = [&](const Parameter& tokens) {
    return ops::value_of(tokens, call, type).reshape({1, -1, c.hidden_size}).expand({patches.size(0), -1, -1});
  };
  std::vector<Tensor> parts;
  for (const Parameter* token : tokens_) parts.push_back(of_rows(*token));
  parts.push_back(patches.flatten(2).transpose(1, 2));
  Tensor x = at::cat(parts, 1) + positions(patches.size(2), patches.size(3), call, type);
  if (registers_) {
    const auto tokens = static_cast<int64_t>(tokens_.size());
    x = at::cat({x.narrow(1, 0, tokens), of_rows(*registers_), x.narrow(1, tokens, x.size(1) - tokens)}, 1);
  }
  if (first_norm_) x = ops::normalised(x, *first_norm_, call);
  return ops::dropout(x, c.hidden_dropout_prob, call);
}

Tensor VisionEncoder::states(const Tensor& pixel_values, Reads reads, Call& call) const {
  Tensor x = embed(pixel_values, call);
  const auto last = static_cast<int64_t>(blocks_.size()) - 1;
  for (int64_t i = 0; i <= last; ++i) {
    // An observer is to see every token.
    const bool firsts_only = i == last && reads == Reads::first && !call.observer;
    const auto block = [this, i, firsts_only](const std::vector<Tensor>& inputs, Call& own) {
      return blocks_[static_cast<size_t>(i)](inputs[0], {.layer = i, .firsts_only = firsts_only}, own);
    };
    x = ops::checkpointed(block, {x}, call);
  }
  if (reads == Reads::first && call.observer) x = x.select(1, 0);
  return norm_ ? ops::normalised(x, *norm_, call) : x;
}

VisionFamilyModel::VisionFamilyModel(const FamilyInput& input, const VisionConfig& config, const VisionNames& names,
                                     ImageReads reads, const std::vector<std::string>& others)
    : reads_(reads) {
  Loader load(*this, input, names.base);
  encoder_ = std::make_unique<VisionEncoder>(load, config, names);
  if (load.is_part()) {
    load_pooler(load, config, names);
  } else {
    const int64_t width = (reads == ImageReads::first_and_mean ? 2 : 1) * config.hidden_size;
    layers_.last(load, num_labels(), width, config.initializer_range, /*p=*/0);
  }
  load.finish(others);
  shape_ = {.layers = config.num_hidden_layers, .hidden = config.hidden_size, .heads = config.num_attention_heads};
  image_height_ = config.image_size[0];
  image_width_ = config.image_size[1];
}

void VisionFamilyModel::load_pooler(Loader& load, const VisionConfig& config, const VisionNames& names) {
  const int64_t d = config.hidden_size;
  reads_ = ImageReads::first;
  if (!names.attention_pooling.empty()) {
    pooling_ = std::make_unique<AttentionPooling>(load, names.attention_pooling,
                                                  AttentionPooling::Form{.width = d,
                                                                         .heads = config.num_attention_heads,
                                                                         .inner = config.intermediate_size,
                                                                         .activation = config.hidden_act,
                                                                         .eps = config.layer_norm_eps});
  } else if (!names.pooler.empty()) {
    layers_.linear(load.pooler(names.base + "." + names.pooler, d, config.initializer_range))
        .activation(config.pooler_act, "pooler_act");
  }
}

Tensor VisionFamilyModel::image_features(const Tensor& pixel_values, Call& call) const {
  if (pooling_) return (*pooling_)(encoder_->states(pixel_values, Reads::every, call), call);
  const bool reads_first = reads_ == ImageReads::first;
  const Tensor states = encoder_->states(pixel_values, reads_first ? Reads::first : Reads::every, call);
  if (reads_first) return states;
  const int64_t before = encoder_->before_patches();
  const Tensor mean = states.narrow(1, before, states.size(1) - before).mean(1);
  return reads_ == ImageReads::mean ? mean : at::cat({states.select(1, 0), mean}, 1);
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
  if (own.names_in_memory.empty()) {
    own.names_in_memory = {{"encoder.layer.", "layers."},
                           {"attention.attention.query", "attention.q_proj"},
                           {"attention.attention.key", "attention.k_proj"},
                           {"attention.attention.value", "attention.v_proj"},
                           {"attention.output.dense", "attention.o_proj"},
                           {"intermediate.dense", "mlp.fc1"},
                           {"output.dense", "mlp.fc2"}};
  }
  return own;
}

}  // namespace deltaw
