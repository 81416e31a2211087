// The parts of diffusers' UNets, under the names that diffusers gives their layers. Pictures are [batch, channels,
// rows, columns], the time is an embedding [batch, width].
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/loader.h"
#include "ops/group_norm.h"

namespace deltaw {

/// Sines and cosines of `numbers` [batch] at width / 2 frequencies from 1 down to about 1 / 10000, as Ho et al. 2020
/// (arXiv:2006.11239) tell a model the time: float32 [batch, width], cosines first where they are flipped. freq_shift
/// is taken off the number of frequencies that the exponents are divided by.
Tensor sinusoids(const Tensor& numbers, int64_t width, bool flip_sin_to_cos, double freq_shift);

/// Two linear layers with SiLU between.
struct TimeEmbedding {
  const Linear *linear_1 = nullptr, *linear_2 = nullptr;

  TimeEmbedding(Loader& load, const std::string& name, int64_t d_in, int64_t width);
  Tensor operator()(const Tensor& x, Call& call) const;
};

/// What the ResNet blocks of a model have in common.
struct ResnetForm {
  int64_t time_width = 0;  // 0: they are told no time
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5, dropout = 0;
  bool scale_shift = false;  // the time scales and shifts behind the second norm, and is not added before it
};

enum class Resampling { none, down, up };  // by 2, as the mean of 2 x 2 pixels or as copies

/// norm, SiLU, convolution, twice, with the time between where there is one, added to the input (He et al. 2016). It
/// may halve or double the sides.
class ResnetBlock {
 public:
  struct Shape {
    int64_t c_in = 0, c_out = 0;
    Resampling resampling = Resampling::none;
    double output_scale_factor = 1;  // divides the sum
  };
  ResnetBlock(Loader& load, const std::string& name, const ResnetForm& form, const Shape& shape);

  /// `time` is undefined where the form has none.
  Tensor operator()(const Tensor& x, const Tensor& time, Call& call) const;

 private:
  Tensor resampled(const Tensor& x) const;

  ops::GroupNorm norm1_, norm2_;
  const Conv2d *conv1_, *conv2_, *conv_shortcut_ = nullptr;
  const Linear* time_emb_proj_ = nullptr;
  double dropout_, output_scale_factor_;
  bool scale_shift_;
  Resampling resampling_;
};

/// Attention of every pixel to every pixel, added to the input.
class PixelAttention {
 public:
  struct Form {
    int64_t channels = 0, heads = 1;
    int64_t norm_num_groups = 32;  // 0: there is no norm
    double norm_eps = 1e-5;
    double output_scale_factor = 1;
  };
  PixelAttention(Loader& load, const std::string& name, const Form& form);

  Tensor operator()(const Tensor& x, Call& call) const;

 private:
  std::optional<ops::GroupNorm> group_norm_;
  std::vector<const Linear*> to_qkv_;
  const Linear* to_out_;
  int64_t heads_;
  double output_scale_factor_;
};

/// Halves both sides by a convolution of stride 2: padded by one on every side, or below and to the right only.
class Downsample {
 public:
  Downsample(Loader& load, const std::string& name, int64_t channels, bool asymmetric);
  Tensor operator()(const Tensor& x, Call& call) const;

 private:
  const Conv2d* conv_;
  bool asymmetric_;
};

/// Copies of every pixel up to a size, and a convolution.
class Upsample {
 public:
  Upsample(Loader& load, const std::string& name, int64_t channels);
  Tensor operator()(const Tensor& x, int64_t rows, int64_t columns, Call& call) const;

 private:
  const Conv2d* conv_;
};

/// A 3 x 3 convolution that keeps the sides.
const Conv2d* load_conv3x3(Loader& load, const std::string& name, int64_t c_out, int64_t c_in);

/// The norm of `channels` in groups.
ops::GroupNorm load_group_norm(Loader& load, const std::string& name, int64_t channels, int64_t groups, double eps);

}  // namespace deltaw
