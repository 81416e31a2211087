// Schedules of noise and samplers, against diffusers.
#include "deltaw/noise_scheduler.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/json_fields.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::differs;
using test::error_of;
using test::fixture;
using test::Golden;
using test::put;
using test::TemporaryFolder;

const std::filesystem::path kFolder = fixture("golden/schedulers");

const Golden& golden() {
  static const Golden file(kFolder / "expected.safetensors");
  return file;
}

const Json& cases() {
  static const Json all = read_json_object(kFolder / "cases.json");
  return all;
}

NoiseScheduler scheduler_of(Json more) {
  Json config = {{"_class_name", "DDPMScheduler"}};
  config.update(more);
  return NoiseScheduler::from_json(config, "scheduler_config.json");
}

TEST(NoiseScheduler, HasTheAlphasOfDiffusers) {
  for (const auto& [name, item] : cases().items()) {
    const NoiseScheduler scheduler = NoiseScheduler::from_json(item["config"], name);
    Tensor alphas = at::tensor(scheduler.alphas_cumprod());
    const Tensor expected = golden()[name + ".alphas_cumprod"];
    EXPECT_EQ(differs(alphas.slice(0, 0, alphas.numel(), 37), expected, 1e-7), "") << name;
  }
}

TEST(NoiseScheduler, TakesEachStepOfItsSamplersAsDiffusersDoes) {
  const Tensor outputs = golden()["outputs"], noises = golden()["noises"];
  for (const auto& [name, item] : cases().items()) {
    const NoiseScheduler scheduler = NoiseScheduler::from_json(item["config"], name);
    const auto sampler = make_sampler(
        scheduler,
        {.scheduler = item["scheduler"], .num_inference_steps = item["num_inference_steps"], .eta = item["eta"]});
    const Tensor times = at::tensor(sampler->timesteps(), at::kLong), trail = golden()[name + ".trail"];
    ASSERT_TRUE(at::equal(times, golden()[name + ".timesteps"])) << name << "\n" << times;
    Tensor sample = golden()["start"];
    for (size_t step = 0; step < sampler->timesteps().size(); ++step) {
      const auto place = static_cast<int64_t>(step);
      const Tensor output = 0.5 * sample + outputs[place % outputs.size(0)];
      const Tensor noise = sampler->adds_noise(step) ? noises[place % noises.size(0)] : Tensor();
      sample = sampler->step(step, output, sample, noise);
      const double size = std::max(1.0, trail[place].abs().max().item<double>());
      ASSERT_EQ(differs(sample, trail[place], 2e-6 * size), "") << name << ", step " << step;
    }
  }
}

TEST(NoiseScheduler, AddsNoiseAndNamesTargetsAndWeightsAsTheTrainingScripts) {
  for (const char* prediction : {"epsilon", "v_prediction", "sample"}) {
    const NoiseScheduler scheduler = scheduler_of({{"prediction_type", prediction}});
    const auto at = [&](const char* name) { return golden()["training." + std::string(prediction) + "." + name]; };
    const Tensor samples = at("samples"), noise = at("noise"), times = at("timesteps");
    EXPECT_EQ(differs(scheduler.add_noise(samples, noise, times), at("noisy"), 1e-6), "");
    EXPECT_EQ(differs(scheduler.target(samples, noise, times), at("target"), 1e-6), "") << prediction;
    EXPECT_EQ(differs(scheduler.snr(times) / at("snr"), at::ones({4}), 1e-5), "");
    EXPECT_EQ(differs(scheduler.min_snr_weights(times, 5), at("weights"), 1e-5), "") << prediction;
  }
}

TEST(NoiseScheduler, ReadsAFileOfDiffusersWithItsInfinity) {
  const NoiseScheduler scheduler = NoiseScheduler::from_file(kFolder / "scheduler_config.json");
  EXPECT_EQ(scheduler.num_train_timesteps(), 1000);
  EXPECT_TRUE(scheduler.config()["use_karras_sigmas"].get<bool>());
  EXPECT_EQ(make_sampler(scheduler)->timesteps().size(), 50);
}

TEST(NoiseScheduler, IsFoundInsideTheModelsFolderAndBesideIt) {
  const TemporaryFolder folder;
  EXPECT_FALSE(NoiseScheduler::file_for(folder / "unet"));
  const auto beside = put(folder / "scheduler/scheduler_config.json", "{}");
  EXPECT_EQ(NoiseScheduler::file_for(folder / "unet"), beside);
  EXPECT_EQ(NoiseScheduler::file_for(folder / "unet/"), beside);
  const auto own = put(folder / "unet/scheduler_config.json", "{}");
  std::filesystem::remove_all(folder / "scheduler");
  EXPECT_EQ(NoiseScheduler::file_for(folder / "unet"), own);
}

TEST(NoiseScheduler, TakesTheSamplerAndTheStepsOfItsClassWhereNobodySays) {
  EXPECT_EQ(make_sampler(NoiseScheduler::standard())->timesteps().size(), 1000);
  EXPECT_TRUE(make_sampler(NoiseScheduler::standard())->adds_noise(0));
  const auto ddim = make_sampler(scheduler_of({{"_class_name", "PNDMScheduler"}, {"num_train_timesteps", 30}}));
  EXPECT_EQ(ddim->timesteps().size(), 30);
  EXPECT_FALSE(ddim->adds_noise(0));
  const NoiseScheduler euler = scheduler_of({{"_class_name", "EulerDiscreteScheduler"}});
  const SamplerOptions steps = {.num_inference_steps = 9},
                       solver = {.scheduler = "dpmsolver++", .num_inference_steps = 9};
  EXPECT_EQ(make_sampler(euler, steps)->timesteps(), make_sampler(euler, solver)->timesteps());
  EXPECT_NE(make_sampler(euler, steps)->timesteps(),
            make_sampler(euler, {.scheduler = "ddim", .num_inference_steps = 9})->timesteps());
}

void expect_refused(const Json& config, const std::string& id, const std::string& word,
                    const SamplerOptions& options = {}) {
  const Error error = error_of([&] { make_sampler(scheduler_of(config), options); });
  EXPECT_EQ(error.id(), id) << config;
  EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
}

TEST(NoiseScheduler, RefusesByNameWhatItDoesNotKnow) {
  expect_refused({{"_class_name", "FlowMatchEulerDiscreteScheduler"}}, "config.unsupported", "EulerDiscreteScheduler,");
  expect_refused({{"_class_name", "EulerDiscreteScheduler"}, {"timestep_type", "continuous"}}, "config.unsupported",
                 "timestep_type");
  expect_refused({{"_class_name", "UniPCMultistepScheduler"}, {"solver_type", "heun"}}, "config.unsupported",
                 "midpoint");
  expect_refused({{"beta_schedule", "sigmoid"}}, "config.unsupported", "scaled_linear");
  expect_refused({{"prediction_type", "flow_prediction"}}, "config.unsupported", "v_prediction");
  expect_refused({{"variance_type", "learned_range"}}, "config.unsupported", "fixed_large");
  expect_refused({{"thresholding", true}}, "config.unsupported", "thresholding");
  expect_refused({{"timestep_spacing", "karras"}}, "config.unsupported", "trailing");
  expect_refused({{"solver_order", 3}}, "config.unsupported", "solver_order", {.scheduler = "dpmsolver++"});
  expect_refused({{"use_beta_sigmas", true}}, "config.unsupported", "use_beta_sigmas", {.scheduler = "dpmsolver++"});
}

TEST(NoiseScheduler, RefusesNumbersThatCannotBe) {
  expect_refused({{"num_train_timesteps", 0}}, "config.bad-model", "num_train_timesteps");
  expect_refused({{"trained_betas", {0.1, 0.2}}}, "config.bad-model", "trained_betas");
  expect_refused({{"beta_end", 1.5}}, "config.bad-model", "betas");
  expect_refused({{"num_train_timesteps", 10}}, "config.out-of-range", "11", {.num_inference_steps = 11});
  expect_refused(Json::object(), "config.out-of-range", "eta", {.scheduler = "ddpm", .eta = 0.5});
  expect_refused({{"steps_offset", 1}}, "config.out-of-range", "num_inference_steps");
}

}  // namespace
}  // namespace deltaw
