// The steps that take noise off a picture, computed as diffusers does, in float32: 1 - a_t / a_s of neighbouring times
// has few digits left there, and a wider type would end elsewhere.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "deltaw/error.h"
#include "deltaw/noise_scheduler.h"
#include "models/config_values.h"

namespace deltaw {
namespace {

using Times = std::vector<int64_t>;

ConfigValues config_of(const NoiseScheduler& scheduler) {
  return {scheduler.config(), scheduler.where()};
}

/// numpy's linspace(0, last, count), rounded.
std::vector<double> rounded_line(int64_t last, int64_t count) {
  std::vector<double> line;
  const double step = count > 1 ? static_cast<double>(last) / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i) line.push_back(std::nearbyint(static_cast<double>(i) * step));
  if (count > 1) line.back() = static_cast<double>(last);
  return line;
}

/// From `end` down in steps of `step`, as far as they stay above 0; rounded, less one.
Times trailing_times(int64_t end, double step) {
  Times times;
  const auto count = static_cast<int64_t>(std::ceil(static_cast<double>(end) / step));
  for (int64_t i = 0; i < count; ++i) {
    times.push_back(static_cast<int64_t>(std::nearbyint(static_cast<double>(end) - static_cast<double>(i) * step)) - 1);
  }
  return times;
}

/// The times of training, spread over `steps`. With `ends_early`, as multistep solvers have it, one step more is
/// spread, and the last of them, at no noise, is left out.
Times spread_times(const ConfigValues& config, const char* usual, int64_t end, int64_t all, int64_t steps,
                   bool ends_early) {
  const auto spacing = config.get_or<std::string>("timestep_spacing", usual);
  const int64_t points = steps + (ends_early ? 1 : 0);
  Times times;
  if (spacing == "linspace") {
    for (const double time : rounded_line(end - 1, points)) times.push_back(static_cast<int64_t>(time));
    std::reverse(times.begin(), times.end());
    times.resize(static_cast<size_t>(steps));
  } else if (spacing == "leading") {
    const auto offset = config.get_or<int64_t>("steps_offset", 0);
    for (int64_t i = points - 1; i >= points - steps; --i) times.push_back(i * (end / points) + offset);
  } else if (spacing == "trailing") {
    times = trailing_times(end, static_cast<double>(all) / static_cast<double>(steps));
  } else {
    config.refuse("timestep_spacing", "supported: leading, linspace, trailing");
  }
  const auto [least, most] = std::minmax_element(times.begin(), times.end());
  if (*least < 0 || *most >= all) {
    throw Error({.id = "config.out-of-range",
                 .what = fmt::format("{} steps with the schedule's steps_offset reach time {}, and the model was "
                                     "trained on times 0 to {}",
                                     steps, *least < 0 ? *least : *most, all - 1),
                 .where = "key 'num_inference_steps'",
                 .fix = "give fewer: --num_inference_steps 50"});
  }
  return times;
}

/// What a model says, as the clean picture and the noise: x_t = signal x_0 + sigma noise.
struct Said {
  Tensor picture, noise;
};

Said said_of(Prediction prediction, const Tensor& output, const Tensor& sample, float signal, float sigma) {
  switch (prediction) {
    case Prediction::sample:
      return {output, (sample - signal * output) / sigma};
    case Prediction::v_prediction:
      return {signal * sample - sigma * output, signal * output + sigma * sample};
    default:
      return {(sample - sigma * output) / signal, output};
  }
}

/// What DDPM and DDIM do with the clean picture that a model means.
class Clip {
 public:
  explicit Clip(const ConfigValues& config)
      : clips_(config.get_or("clip_sample", true)), range_(config.get_or("clip_sample_range", 1.0)) {
    config.accept_only("thresholding", false);
  }
  Tensor operator()(const Tensor& picture) const { return clips_ ? picture.clamp(-range_, range_) : picture; }

 private:
  bool clips_;
  double range_;
};

/// Ho et al. 2020, arXiv:2006.11239.
class Ddpm final : public NoiseSampler {
 public:
  Ddpm(const NoiseScheduler& scheduler, int64_t steps)
      : NoiseSampler(spread_times(config_of(scheduler), "leading", scheduler.num_train_timesteps(),
                                  scheduler.num_train_timesteps(), steps, false)),
        alphas_(scheduler.alphas_cumprod()),
        prediction_(scheduler.prediction()),
        clip_(config_of(scheduler)) {
    const ConfigValues config = config_of(scheduler);
    variance_ = config.get_or<std::string>("variance_type", "fixed_small");
    if (variance_ != "fixed_small" && variance_ != "fixed_small_log" && variance_ != "fixed_large") {
      config.refuse("variance_type", "supported: fixed_small, fixed_small_log, fixed_large");
    }
  }

  bool adds_noise(size_t step) const override { return timesteps_[step] > 0; }

  Tensor step(size_t step, const Tensor& output, const Tensor& sample, const Tensor& noise) override {
    const float alpha = alphas_[static_cast<size_t>(timesteps_[step])];
    const float before = step + 1 < timesteps_.size() ? alphas_[static_cast<size_t>(timesteps_[step + 1])] : 1;
    const float beta = 1 - alpha, beta_before = 1 - before;
    const float kept = alpha / before, lost = 1 - kept;
    const Said said =
        said_of(prediction_, output.to(at::kFloat), sample.to(at::kFloat), std::sqrt(alpha), std::sqrt(beta));
    const Tensor mean = (std::sqrt(before) * lost / beta) * clip_(said.picture) +
                        (std::sqrt(kept) * beta_before / beta) * sample.to(at::kFloat);
    if (!noise.defined()) return mean;
    const float variance = std::max(beta_before / beta * lost, 1e-20F);
    return mean + std::sqrt(variance_ == "fixed_large" ? lost : variance) * noise;
  }

 private:
  std::vector<float> alphas_;
  Prediction prediction_;
  Clip clip_;
  std::string variance_;
};

/// Song et al. 2021, arXiv:2010.02502.
class Ddim final : public NoiseSampler {
 public:
  Ddim(const NoiseScheduler& scheduler, int64_t steps, double eta)
      : NoiseSampler(spread_times(config_of(scheduler), "leading", scheduler.num_train_timesteps(),
                                  scheduler.num_train_timesteps(), steps, false)),
        alphas_(scheduler.alphas_cumprod()),
        prediction_(scheduler.prediction()),
        clip_(config_of(scheduler)),
        stride_(scheduler.num_train_timesteps() / steps),
        last_(config_of(scheduler).get_or("set_alpha_to_one", true) ? 1 : alphas_[0]),
        eta_(static_cast<float>(eta)) {}

  bool adds_noise(size_t /*step*/) const override { return eta_ > 0; }

  Tensor step(size_t step, const Tensor& output, const Tensor& sample, const Tensor& noise) override {
    const int64_t time = timesteps_[step], next = time - stride_;
    const float alpha = alphas_[static_cast<size_t>(time)];
    const float before = next >= 0 ? alphas_[static_cast<size_t>(next)] : last_;
    const float beta = 1 - alpha;
    const Said said =
        said_of(prediction_, output.to(at::kFloat), sample.to(at::kFloat), std::sqrt(alpha), std::sqrt(beta));
    const float sigma = eta_ * std::sqrt((1 - before) / beta * (1 - alpha / before));
    const Tensor mean = std::sqrt(before) * clip_(said.picture) + std::sqrt(1 - before - sigma * sigma) * said.noise;
    return noise.defined() ? mean + sigma * noise : mean;
  }

 private:
  std::vector<float> alphas_;
  Prediction prediction_;
  Clip clip_;
  int64_t stride_;
  float last_;  // alphas_cumprod where there is no noise
  float eta_;
};

/// Second order, of the data, midpoint: Lu et al. 2022, arXiv:2211.01095.
class DpmSolver final : public NoiseSampler {
 public:
  DpmSolver(const NoiseScheduler& scheduler, int64_t steps) : NoiseSampler({}), prediction_(scheduler.prediction()) {
    const ConfigValues config = config_of(scheduler);
    config.accept_only("solver_order", 2);
    // Words of solvers alike, which diffusers reads as these.
    const Json& keys = scheduler.config();
    if (keys.value("algorithm_type", Json()) != "deis") config.accept_only("algorithm_type", "dpmsolver++");
    const Json type = keys.value("solver_type", Json());
    if (type != "bh1" && type != "bh2" && type != "logrho") config.accept_only("solver_type", "midpoint");
    for (const char* key : {"thresholding", "euler_at_final", "use_exponential_sigmas", "use_beta_sigmas",
                            "use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"}) {
      config.accept_only(key, false);
    }
    const auto last = config.get_or<std::string>("final_sigmas_type", "zero");
    if (last != "zero" && last != "sigma_min") config.refuse("final_sigmas_type", "supported: zero, sigma_min");
    lower_order_final_ = config.get_or("lower_order_final", true);
    ends_clean_ = last == "zero";

    std::vector<float> ratios;  // of noise to signal, by time
    for (float alpha : scheduler.alphas_cumprod()) {
      const bool silent =
          ratios.size() + 1 == scheduler.alphas_cumprod().size() && config.get_or("rescale_betas_zero_snr", false);
      if (silent) alpha = 0x1p-24F;
      ratios.push_back(std::sqrt((1 - alpha) / alpha));
    }
    if (config.get_or("use_karras_sigmas", false)) {
      take_karras(config, ratios, steps);
    } else {
      const auto all = static_cast<int64_t>(ratios.size());
      timesteps_ = spread_times(config, "linspace", all - cut_off(config, scheduler), all, steps, true);
      for (const int64_t time : timesteps_) sigmas_.push_back(ratios[static_cast<size_t>(time)]);
    }
    sigmas_.push_back(ends_clean_ ? 0 : ratios[0]);
  }

  bool adds_noise(size_t /*step*/) const override { return false; }

  Tensor step(size_t step, const Tensor& output, const Tensor& sample, const Tensor& /*noise*/) override {
    const Level here(sigmas_[step]), next(sigmas_[step + 1]);
    Tensor picture =
        said_of(prediction_, output.to(at::kFloat), sample.to(at::kFloat), here.signal, here.noise).picture;
    const bool few = timesteps_.size() < 15 && lower_order_final_;
    const bool first_order = !before_.defined() || (step + 1 == timesteps_.size() && (few || ends_clean_));
    const float change = next.lambda() - here.lambda();
    const float weight = next.signal * (std::exp(-change) - 1.0F);
    Tensor result = (next.noise / here.noise) * sample.to(at::kFloat) - weight * picture;
    if (!first_order) {
      const float ratio = (here.lambda() - Level(sigmas_[step - 1]).lambda()) / change;
      result = result - (0.5F * weight) * ((1.0F / ratio) * (picture - before_));
    }
    before_ = std::move(picture);
    return result;
  }

 private:
  /// A ratio of noise to signal, as the parts of a picture whose squares add up to one.
  struct Level {
    explicit Level(float sigma) : signal(1 / std::sqrt(sigma * sigma + 1)), noise(sigma * signal) {}
    float lambda() const { return std::log(signal) - std::log(noise); }
    float signal, noise;
  };

  /// How many of the noisiest times lambda_min_clipped leaves out.
  static int64_t cut_off(const ConfigValues& config, const NoiseScheduler& scheduler) {
    const double least = config.get_or("lambda_min_clipped", -std::numeric_limits<double>::infinity());
    int64_t cut = 0;
    for (const float alpha : scheduler.alphas_cumprod()) {
      cut += std::log(std::sqrt(alpha)) - std::log(std::sqrt(1 - alpha)) < static_cast<float>(least);
    }
    return std::min(cut, scheduler.num_train_timesteps() - 1);
  }

  /// Karras et al. 2022, arXiv:2206.00364, equation 5, and the times that have such noise.
  void take_karras(const ConfigValues& config, const std::vector<float>& ratios, int64_t steps) {
    constexpr double kRho = 7;
    const double low = std::pow(ratios.front(), 1 / kRho), high = std::pow(ratios.back(), 1 / kRho);
    const bool rounds = config.get_or<std::string>("beta_schedule", "linear") != "squaredcos_cap_v2";
    for (int64_t i = 0; i < steps; ++i) {
      const double part = steps > 1 ? static_cast<double>(i) / static_cast<double>(steps - 1) : 0;
      const double sigma = std::pow(high + part * (low - high), kRho);
      const double time = time_of(sigma, ratios);
      timesteps_.push_back(static_cast<int64_t>(rounds ? std::nearbyint(time) : time));
      sigmas_.push_back(static_cast<float>(sigma));
    }
  }

  static double time_of(double sigma, const std::vector<float>& ratios) {
    const double wanted = std::log(std::max(sigma, 1e-10));
    const auto log_of = [&](size_t time) { return static_cast<double>(std::log(ratios[time])); };
    size_t time = 0;
    while (time + 2 < ratios.size() && wanted >= log_of(time + 1)) ++time;
    const double between = std::clamp((log_of(time) - wanted) / (log_of(time) - log_of(time + 1)), 0.0, 1.0);
    return (1 - between) * static_cast<double>(time) + between * static_cast<double>(time + 1);
  }

  Prediction prediction_;
  bool lower_order_final_ = true, ends_clean_ = true;
  std::vector<float> sigmas_;  // of each step, and behind the last
  Tensor before_;              // the clean picture that the step before meant
};

std::string usual_sampler(const NoiseScheduler& scheduler) {
  const std::string name = scheduler.config()["_class_name"];
  if (name == "DDPMScheduler") return "ddpm";
  return name == "DDIMScheduler" || name == "PNDMScheduler" ? "ddim" : "dpmsolver++";
}

[[noreturn]] void refuse_option(const std::string& what, const char* key, const std::string& fix) {
  throw Error({.id = "config.out-of-range", .what = what, .where = fmt::format("key '{}'", key), .fix = fix});
}

}  // namespace

void SamplerOptions::fields(FieldVisitor& f) {
  f.field("scheduler", scheduler,
          "How noise is taken off: ddpm, ddim or dpmsolver++ (second order, midpoint); auto: as scheduler_config.json "
          "says, ddim for PNDMScheduler, dpmsolver++ for samplers that are none of these.",
          one_of({"auto", "ddpm", "ddim", "dpmsolver++"}));
  f.field("num_inference_steps", num_inference_steps,
          "Steps, in each of which the model is asked once; 0: every time of training for ddpm, else 50.", at_least(0));
  f.field("eta", eta, "Noise that each step of ddim adds: 0 none, 1 as much as ddpm.", between(0, 1));
}

std::unique_ptr<NoiseSampler> make_sampler(const NoiseScheduler& scheduler, const SamplerOptions& options) {
  const std::string name = options.scheduler == "auto" ? usual_sampler(scheduler) : options.scheduler;
  const int64_t all = scheduler.num_train_timesteps();
  int64_t steps = options.num_inference_steps;
  if (steps == 0) steps = name == "ddpm" ? all : std::min(all, int64_t{50});
  if (steps < 1 || steps > all) {
    refuse_option(fmt::format("{} steps, and the model was trained on {} times", steps, all), "num_inference_steps",
                  fmt::format("give a number from 1 to {}", all));
  }
  if (options.eta != 0 && name != "ddim") {
    refuse_option(fmt::format("eta means something to ddim alone, and the noise is taken off by {}", name), "eta",
                  "leave it out, or give --scheduler ddim");
  }
  if (name == "ddpm") return std::make_unique<Ddpm>(scheduler, steps);
  if (name == "ddim") return std::make_unique<Ddim>(scheduler, steps, options.eta);
  if (name == "dpmsolver++") return std::make_unique<DpmSolver>(scheduler, steps);
  refuse_option(fmt::format("scheduler '{}' is not implemented", name), "scheduler",
                "one of: auto, ddpm, ddim, dpmsolver++");
}

}  // namespace deltaw
