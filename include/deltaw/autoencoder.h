// Models that make latents of pictures and pictures of latents: what a denoiser of latents is trained and asked with.
#pragma once

#include <filesystem>
#include <memory>

#include "deltaw/model.h"

namespace deltaw {

/// What the latents of a picture are drawn from, number by number: N(mean, deviation^2). Both are [batch,
/// latent_channels, rows, columns].
struct LatentDistribution {
  Tensor mean, deviation;
};

/// A variational autoencoder. Latents are given and taken as a denoiser sees them, multiplied with scaling_factor().
class Autoencoder : public Model {
 public:
  /// Of pixels [batch, channels, height, width] in [-1, 1]; a row of latents stands for factor() rows of pixels. Throws
  /// data.image-size for sides that are no multiples of it, shape.mismatch for other channels.
  virtual LatentDistribution encode(const Tensor& pixels, Call& call) const = 0;
  /// Pixels of latents [batch, latent_channels, rows, columns], [batch, channels, factor() rows, factor() columns].
  /// They may lie outside [-1, 1]. Throws shape.mismatch.
  virtual Tensor decode(const Tensor& latents, Call& call) const = 0;

  int64_t channels() const { return channels_; }  // of a picture
  int64_t latent_channels() const { return latent_channels_; }
  int64_t factor() const { return factor_; }  // pixels of a side for one latent
  double scaling_factor() const { return scaling_factor_; }

  /// It reads no text and has no head. Both throw internal.not-text.
  Tensor features(const ModelInput& input, Call& call) const override;
  Tensor logits(const Tensor& features, Call& call) const override;

 protected:
  int64_t channels_ = 0, latent_channels_ = 0, factor_ = 1;
  double scaling_factor_ = 1;
};

/// Loads the AutoencoderKL of diffusers that a folder holds. Throws what load_model throws, and config.unsupported for
/// another class or a key of config.json that is not implemented.
std::unique_ptr<Autoencoder> load_autoencoder(const std::filesystem::path& folder, at::ScalarType dtype = at::kFloat);

}  // namespace deltaw
