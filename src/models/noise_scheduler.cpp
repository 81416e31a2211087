#include "deltaw/noise_scheduler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/files.h"
#include "core/json.h"
#include "deltaw/error.h"
#include "models/config_values.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// All have the betas of one schedule, and were it only to take other steps through it.
constexpr std::array kClasses = {"DDPMScheduler",
                                 "DDIMScheduler",
                                 "DPMSolverMultistepScheduler",
                                 "PNDMScheduler",
                                 "DEISMultistepScheduler",
                                 "DPMSolverSinglestepScheduler",
                                 "EulerAncestralDiscreteScheduler",
                                 "EulerDiscreteScheduler",
                                 "HeunDiscreteScheduler",
                                 "KDPM2AncestralDiscreteScheduler",
                                 "KDPM2DiscreteScheduler",
                                 "LMSDiscreteScheduler",
                                 "UniPCMultistepScheduler"};

/// Python writes an infinite number as a word that JSON does not know: lambda_min_clipped of
/// DPMSolverMultistepScheduler for one. Such a bound stands for none.
std::string without_infinities(std::string text) {
  for (const char* word : {"-Infinity", "Infinity"}) {
    const std::string after_key = std::string(": ") + word;
    for (size_t at = text.find(after_key); at != std::string::npos; at = text.find(after_key, at)) {
      text.replace(at + 2, after_key.size() - 2, "null");
    }
  }
  return text;
}

/// Betas so that alphas_cumprod falls as a squared cosine (Nichol and Dhariwal 2021, arXiv:2102.09672).
Tensor cosine_betas(int64_t steps) {
  const auto alpha_bar = [](double t) {
    const double root = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
    return root * root;
  };
  std::vector<float> betas;
  for (int64_t i = 0; i < steps; ++i) {
    const double begin = static_cast<double>(i) / static_cast<double>(steps);
    const double end = static_cast<double>(i + 1) / static_cast<double>(steps);
    betas.push_back(static_cast<float>(std::min(1 - alpha_bar(end) / alpha_bar(begin), 0.999)));
  }
  return at::tensor(betas, at::kFloat);
}

/// The same schedule, moved and stretched so that nothing is left of the picture at the last time (Lin et al. 2023,
/// arXiv:2305.08891, algorithm 1).
Tensor without_signal_at_last(const Tensor& betas) {
  Tensor roots = at::cumprod(1 - betas, 0).sqrt();
  const Tensor first = roots[0].clone(), last = roots[-1].clone();
  roots = (roots - last) * (first / (first - last));
  const Tensor bars = roots.square();
  const Tensor alphas = at::cat({bars.slice(0, 0, 1), bars.slice(0, 1) / bars.slice(0, 0, -1)});
  return 1 - alphas;
}

Tensor betas_of(const ConfigValues& config) {
  const int64_t steps = config.size_or("num_train_timesteps", 1000);
  if (steps > 1'000'000) config.complain("num_train_timesteps", "a whole number from 1 to 1000000");
  if (config.has("trained_betas")) {
    const auto betas = config.get<std::vector<double>>("trained_betas");
    if (static_cast<int64_t>(betas.size()) != steps) {
      config.complain("trained_betas", fmt::format("a list of num_train_timesteps ({}) numbers", steps));
    }
    return at::tensor(betas, at::kDouble).to(at::kFloat);
  }
  const double start = config.get_or("beta_start", 0.0001), end = config.get_or("beta_end", 0.02);
  const auto schedule = config.get_or<std::string>("beta_schedule", "linear");
  if (schedule == "linear") return at::linspace(start, end, steps, at::kFloat);
  if (schedule == "scaled_linear") return at::linspace(std::sqrt(start), std::sqrt(end), steps, at::kFloat).square();
  if (schedule == "squaredcos_cap_v2") return cosine_betas(steps);
  config.refuse("beta_schedule", "supported: linear, scaled_linear, squaredcos_cap_v2");
}

Prediction prediction_of(const ConfigValues& config) {
  const auto name = config.get_or<std::string>("prediction_type", "epsilon");
  if (name == "epsilon") return Prediction::epsilon;
  if (name == "v_prediction") return Prediction::v_prediction;
  if (name == "sample") return Prediction::sample;
  config.refuse("prediction_type", "supported: epsilon, v_prediction, sample");
}

}  // namespace

std::optional<fs::path> NoiseScheduler::file_for(const fs::path& model) {
  // A path with a slash at its end has no name, and no folder beside it.
  const fs::path folder = model.has_filename() ? model : model.parent_path();
  for (const fs::path& place : {folder / "scheduler", folder.parent_path() / "scheduler", folder}) {
    if (fs::exists(place / kFile)) return place / kFile;
  }
  return std::nullopt;
}

NoiseScheduler NoiseScheduler::from_file(const fs::path& file) {
  return from_json(parse_json(without_infinities(read_file(file)), file.string()), file.string());
}

NoiseScheduler NoiseScheduler::standard() {
  return from_json({{"_class_name", "DDPMScheduler"}}, "diffusers' DDPMScheduler");
}

NoiseScheduler NoiseScheduler::from_json(Json json, const std::string& where) {
  const ConfigValues config(json, where);
  const auto name = config.get<std::string>("_class_name");
  if (std::find(kClasses.begin(), kClasses.end(), name) == kClasses.end()) {
    config.refuse("_class_name", fmt::format("supported: {}", fmt::join(kClasses, ", ")));
  }
  config.accept_only("timestep_type", "discrete");
  Tensor betas = betas_of(config);
  if (config.get_or("rescale_betas_zero_snr", false)) betas = without_signal_at_last(betas);
  NoiseScheduler scheduler;
  scheduler.prediction_ = prediction_of(config);
  scheduler.alphas_ = at::cumprod(1 - betas, 0);
  scheduler.alphas_cumprod_ = ops::host_values<float>(scheduler.alphas_);
  for (const float beta : ops::host_values<float>(betas)) {
    if (beta >= 0 && beta <= 1) continue;
    throw Error({.id = "config.bad-model",
                 .what = fmt::format("the betas are no schedule: {} is not from 0 to 1", beta),
                 .where = where,
                 .fix = "correct beta_start, beta_end or trained_betas"});
  }
  scheduler.config_ = std::move(json);
  scheduler.where_ = where;
  return scheduler;
}

/// sqrt(a_t) and sqrt(1 - a_t), each [n, 1, ...] in the type of `samples`.
std::pair<Tensor, Tensor> NoiseScheduler::roots(const Tensor& samples, const Tensor& timesteps) const {
  const Tensor alphas = alphas_.to(samples.device(), samples.scalar_type()).index_select(0, timesteps);
  std::vector<int64_t> shape(static_cast<size_t>(samples.dim()), 1);
  shape[0] = -1;
  return {alphas.sqrt().view(shape), (1 - alphas).sqrt().view(shape)};
}

Tensor NoiseScheduler::add_noise(const Tensor& samples, const Tensor& noise, const Tensor& timesteps) const {
  const auto [signal, sigma] = roots(samples, timesteps);
  return signal * samples + sigma * noise;
}

Tensor NoiseScheduler::velocity(const Tensor& samples, const Tensor& noise, const Tensor& timesteps) const {
  const auto [signal, sigma] = roots(samples, timesteps);
  return signal * noise - sigma * samples;
}

Tensor NoiseScheduler::target(const Tensor& samples, const Tensor& noise, const Tensor& timesteps) const {
  switch (prediction_) {
    case Prediction::v_prediction:
      return velocity(samples, noise, timesteps);
    case Prediction::sample:
      return samples;
    default:
      return noise;
  }
}

Tensor NoiseScheduler::snr(const Tensor& timesteps) const {
  const Tensor alphas = alphas_.to(timesteps.device()).index_select(0, timesteps);
  return (alphas.sqrt() / (1 - alphas).sqrt()).square();
}

Tensor NoiseScheduler::min_snr_weights(const Tensor& timesteps, double gamma) const {
  const Tensor ratio = snr(timesteps);
  const Tensor capped = ratio.clamp_max(gamma);
  switch (prediction_) {
    case Prediction::v_prediction:
      return capped / (ratio + 1);
    case Prediction::sample:
      return capped;
    default:
      return capped / ratio;
  }
}

}  // namespace deltaw
