// A denoiser of one convolution, whose output leans on the time and the class: enough to see what a task makes of one.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <utility>

#include "deltaw/denoiser.h"
#include "ops/conv2d.h"

namespace deltaw::test {

class TinyDenoiser final : public Denoiser {
 public:
  struct Form {
    int64_t channels = 1, side = 4, classes = 0, text = 0, out_channels = 0;
  };

  explicit TinyDenoiser(Form form, std::filesystem::path folder = "tiny") {
    in_channels_ = form.channels;
    out_channels_ = form.out_channels > 0 ? form.out_channels : form.channels;
    sample_height_ = sample_width_ = form.side;
    num_class_embeds_ = form.classes;
    cross_attention_dim_ = form.text;
    head_ = {.task_type = "NOISE", .architecture = "UNet2DModel"};
    folder_ = std::move(folder);
    at::Generator generator = at::detail::createCPUGenerator(4);
    Conv2d& layer = convolutions_.emplace_back();
    layer.name = "conv";
    layer.kind = LayerKind::conv2d;
    layer.index = 0;
    layer.padding = {1, 1};
    layer.weight = {.name = "conv.weight", .value = 0.2 * at::randn({form.channels, form.channels, 3, 3}, generator)};
    layer.weight.slot = 0;
    layer.bias.slot = 1;
    layer.view = std::make_unique<BaseView>(layer.matrix());
    layers_ = {&layer};
    modules_ = {"conv"};
    parameters_ = {&layer.weight, &layer.bias};
  }

  Tensor denoise(const Tensor& sample, const Tensor& timesteps, const Condition& condition, Call& call) const override {
    Tensor shift = timesteps.to(at::kFloat) / 1000;
    if (condition.class_labels.defined()) shift = shift + condition.class_labels;
    return ops::conv2d(sample, convolutions_[0], call) + shift.view({-1, 1, 1, 1});
  }
};

}  // namespace deltaw::test
