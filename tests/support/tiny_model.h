// A model of two layers of one shape and kind that share their input: enough for every property of the contract.
#pragma once

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "models/loader.h"
#include "ops/conv2d.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "support/model_calls.h"

namespace deltaw::test {

class TinyModel final : public Model {
 public:
  TinyModel(int64_t d_out, int64_t d_in, at::ScalarType dtype, LayerKind kind = LayerKind::linear, uint64_t seed = 1) {
    dtype_ = dtype;
    labels_ = {"LABEL_0"};
    regression_ = true;
    config_ = {{"model_type", "bert"}, {"problem_type", "regression"}};
    folder_ = "tiny";
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
    for (const char* name : {"layer.0.attention.key", "layer.0.output.dense"}) {
      const bool table = kind == LayerKind::embedding, convolves = kind == LayerKind::conv2d;
      LayerInfo info{.name = name, .d_out = d_out, .d_in = d_in, .kind = kind};
      if (convolves) info.kernel = {kKernel, kKernel};
      Layer& layer = add(kind);
      layer.name = name;
      layer.kind = kind;
      layer.index = static_cast<int64_t>(layers_.size());
      layer.weight = {.name = layer.name + ".weight",
                      .value = as_stored(info, draw({d_out, d_in}, generator)).contiguous()};
      if (!table) layer.bias = {.name = layer.name + ".bias", .value = draw({d_out}, generator)};
      layer.ends_sublayer = !table && !convolves;
      layer.feed_forward = layer.name.ends_with("output.dense");
      layer.view = std::make_unique<BaseView>(layer.matrix());
      layers_.push_back(&layer);
      modules_.push_back(layer.name);
      for (Parameter* parameter : {&layer.weight, &layer.bias}) {
        parameter->slot = static_cast<int64_t>(parameters_.size());
        parameters_.push_back(parameter);
      }
    }
  }

  /// Both layers' outputs side by side: [..., 2 d_out]. Rows of x are one-hot where the layers are embeddings; of
  /// convolutions x is images [..., d_in / 9, 4, 6], and the output has a row for each of six places.
  Tensor run(const Tensor& x, Call& call) const {
    if (!convolutions_.empty()) {
      const auto rows = [&](const Conv2d& layer) { return ops::conv2d(x, layer, call).flatten(-2).transpose(-1, -2); };
      return at::cat({rows(convolutions_[0]), rows(convolutions_[1])}, -1);
    }
    if (!embeddings_.empty()) {
      const Tensor ids = x.argmax(-1);
      return at::cat({ops::embedding(ids, embeddings_[0], call), ops::embedding(ids, embeddings_[1], call)}, -1);
    }
    std::vector<Tensor> outputs = ops::linear_group(x, {&linears_[0], &linears_[1]}, call);
    for (size_t i = 0; i < 2; ++i) outputs[i] = ops::mapped_output(outputs[i], linears_[i], call);
    return at::cat(outputs, -1);
  }

  /// Both layers' outputs over vectors or images in place of tokens, for calibration.
  Tensor features(const ModelInput& input, Call& call) const override {
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(11);
    const LayerInfo info = layers_[0]->info();
    const bool convolves = info.kind == LayerKind::conv2d;
    const int64_t width = convolves ? info.channels() * kRows * kColumns : info.d_in;
    const Tensor x = at::embedding(draw({32, width}, generator), input.input_ids);
    if (!convolves) return run(x, call);
    const Tensor rows = run(x.reshape({-1, info.channels(), kRows, kColumns}), call);
    return rows.reshape({x.size(0), -1, rows.size(-1)});
  }

  /// Their mean square: [batch, 1].
  Tensor logits(const Tensor& features, Call& /*call*/) const override {
    return features.square().mean({1, 2}).unsqueeze(1);
  }

  // Of convolutions and their images.
  static constexpr int64_t kKernel = 3, kStride = 2, kPadding = 1, kRows = 4, kColumns = 6;

 private:
  Layer& add(LayerKind kind) {
    if (kind == LayerKind::embedding) return embeddings_.emplace_back();
    if (kind != LayerKind::conv2d) return linears_.emplace_back();
    Conv2d& layer = convolutions_.emplace_back();
    layer.stride = {kStride, kStride};
    layer.padding = {kPadding, kPadding};
    return layer;
  }

  Tensor draw(at::IntArrayRef shape, at::Generator& generator) const {
    return at::empty(shape, at::kDouble).normal_(0, 0.5, generator).to(dtype_);
  }
};

/// Rows for starts from data.
inline std::vector<CalibrationBatch> tiny_calibration(int64_t /*samples*/) {
  return {calibration_batch({.input_ids = at::arange(16, at::kLong).view({2, 8})}, at::ones({2}, at::kFloat)),
          calibration_batch({.input_ids = at::arange(16, 32, at::kLong).view({2, 8})}, at::zeros({2}, at::kFloat))};
}

/// Options of a method that fit layers of a few rows.
inline Json small_options(const MethodSpec& spec) {
  const Json small = {{"r", 3}, {"k", 2}, {"init_r", 3}, {"randlora_alpha", 3}, {"bottleneck_dim", 2}};
  Json options = Json::object();
  for (const FieldInfo& field : spec.options()) {
    if (small.contains(field.name)) options[field.name] = small[field.name];
  }
  if (options.contains("init_r") || spec.id == "lora2") options["target_r"] = 1;
  if (spec.id == "lokr") options["r"] = 1;                                  // so that its second factor is decomposed
  if (spec.id == "oft") options.update({{"r", 0}, {"oft_block_size", 7}});  // or the nearest that divides
  return options;
}

inline AdapterConfig small_config(const MethodSpec& spec, Json more = Json::object()) {
  Json values = small_options(spec);
  values.update(spec.peft_settings);
  values["method"] = spec.id;
  values["target_modules"] = {"key", "dense"};
  values.update(more);
  if (values.value("init_lora_weights", Json()) == "lora_ga") values["r"] = 2;  // it takes 2 r singular triplets
  return adapter_config_from_json(values, "test");
}

/// Moves every trained tensor away from its start, so that nothing is hidden behind a zero.
inline void randomise(Adapter& adapter, uint64_t seed, double std = 0.4) {
  const at::NoGradGuard no_grad;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (NamedTensor& tensor : adapter.trained()) {
    tensor.value.add_(
        at::empty(tensor.value.sizes(), at::kDouble).normal_(0, std, generator).to(tensor.value.scalar_type()));
  }
}

}  // namespace deltaw::test
