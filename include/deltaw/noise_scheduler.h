// How much noise a picture has at each time of the diffusion, and how it is taken off again: the schedulers of
// diffusers.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/options.h"

namespace deltaw {

using at::Tensor;

/// What a denoiser is trained to say: the noise, the velocity, or the clean picture.
enum class Prediction { epsilon, v_prediction, sample };

/// A schedule of noise, of a scheduler_config.json. At time t, from 0, a picture is
///
///   x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise        a = alphas_cumprod, falling
class NoiseScheduler {
 public:
  static constexpr const char* kFile = "scheduler_config.json";
  /// Where a model's folder has its scheduler_config.json: scheduler/, beside its own folder, or itself.
  static std::optional<std::filesystem::path> file_for(const std::filesystem::path& model);

  /// Throws io.*, format.json and what from_json throws.
  static NoiseScheduler from_file(const std::filesystem::path& file);
  /// Reads the configurations of DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler and those
  /// that differ from them in the sampler alone; what they leave open is DDPMScheduler's default. Throws
  /// config.unsupported for another class or a schedule that is not implemented, config.bad-model for a value that
  /// cannot be.
  static NoiseScheduler from_json(Json config, const std::string& where);
  /// diffusers' DDPMScheduler as it is made without arguments: 1000 times, linear, epsilon.
  static NoiseScheduler standard();

  int64_t num_train_timesteps() const { return static_cast<int64_t>(alphas_cumprod_.size()); }
  Prediction prediction() const { return prediction_; }
  const std::vector<float>& alphas_cumprod() const { return alphas_cumprod_; }
  /// The configuration, with _class_name.
  const Json& config() const { return config_; }
  const std::string& where() const { return where_; }

  /// x_t of clean pictures [n, ...] at timesteps [n] int64. In the pictures' type, as the next two.
  Tensor add_noise(const Tensor& samples, const Tensor& noise, const Tensor& timesteps) const;
  /// sqrt(a_t) noise - sqrt(1 - a_t) x_0.
  Tensor velocity(const Tensor& samples, const Tensor& noise, const Tensor& timesteps) const;
  /// What a model of this prediction() should say.
  Tensor target(const Tensor& samples, const Tensor& noise, const Tensor& timesteps) const;
  /// a_t / (1 - a_t), [n] float32.
  Tensor snr(const Tensor& timesteps) const;
  /// The weight of each picture's squared error under min-SNR with this gamma (Hang et al. 2023, arXiv:2303.09556), [n]
  /// float32.
  Tensor min_snr_weights(const Tensor& timesteps, double gamma) const;

 private:
  NoiseScheduler() = default;
  std::pair<Tensor, Tensor> roots(const Tensor& samples, const Tensor& timesteps) const;

  Json config_;
  std::string where_;
  Prediction prediction_ = Prediction::epsilon;
  std::vector<float> alphas_cumprod_;
  Tensor alphas_;  // the same as a tensor
};

struct SamplerOptions {
  /// ddpm, ddim or dpmsolver++; auto: what the configuration is of, ddim for PNDM, dpmsolver++ for others.
  std::string scheduler = "auto";
  int64_t num_inference_steps = 0;  // 0: every time of training for ddpm, else 50
  double eta = 0;                   // of ddim: the share of DDPM's noise that each step adds

  void fields(FieldVisitor& f);
};

/// Takes the noise off, step by step. It is made for one picture, or several at once, and keeps what the steps before
/// said.
class NoiseSampler {
 public:
  virtual ~NoiseSampler() = default;

  /// When the model is asked, the noisiest time first.
  const std::vector<int64_t>& timesteps() const { return timesteps_; }
  /// Whether a step adds new noise.
  virtual bool adds_noise(size_t step) const = 0;
  /// The picture after a step: of what the model said at timesteps()[step], and of the picture before. Steps come in
  /// their order. `noise` is drawn from N(0, 1) and undefined where adds_noise() is false. In float32.
  virtual Tensor step(size_t step, const Tensor& output, const Tensor& sample, const Tensor& noise) = 0;

 protected:
  explicit NoiseSampler(std::vector<int64_t> timesteps) : timesteps_(std::move(timesteps)) {}
  std::vector<int64_t> timesteps_;
};

/// As diffusers' DDPMScheduler, DDIMScheduler or DPMSolverMultistepScheduler (dpmsolver++, second order, midpoint)
/// makes itself of the configuration: a key that it leaves open has that class's default. Throws config.unsupported for
/// a key of it that is not implemented, config.out-of-range for steps or eta that cannot be.
std::unique_ptr<NoiseSampler> make_sampler(const NoiseScheduler& scheduler, const SamplerOptions& options = {});

}  // namespace deltaw
