// Pictures of prompts, step by step as diffusers' pipeline makes them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <utility>

#include "deltaw/generate_images.h"
#include "support/pipelines.h"
#include "support/temporary.h"
#include "support/tiny_denoiser.h"

namespace deltaw {
namespace {

using test::denoiser;
using test::differs;
using test::error_of;
using test::Golden;
using test::logit_tolerance;

/// A pipeline, and the options of its fixture.
struct Prompted {
  explicit Prompted(const std::string& name)
      : facts(test::pipeline_case(name)),
        io(test::pipeline_io(name)),
        model(test::load_pipeline_unet(name)),
        parts(load_parts(denoiser(*model))),
        scheduler(NoiseScheduler::from_file(*NoiseScheduler::file_for(model->folder()))) {}

  ImageSource source(int64_t resolution = 0) const {
    return {.model = denoiser(*model),
            .adapter = nullptr,
            .scheduler = scheduler,
            .resolution = resolution,
            .autoencoder = parts.autoencoder.get(),
            .prompts = parts.prompts.get()};
  }
  ImageOptions options(const std::string& sampler) const {
    ImageOptions own;
    own.sampler = {.scheduler = sampler, .num_inference_steps = facts["num_inference_steps"]};
    own.prompts = {facts["prompt"].get<std::string>()};
    own.negative_prompt = facts["negative_prompt"];
    own.guidance_scale = facts["guidance_scale"];
    return own;
  }

  Json facts;
  Golden io;
  std::unique_ptr<Model> model;
  PipelineParts parts;
  NoiseScheduler scheduler;
};

class PromptedOracle : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(PromptedOracle, TakesEveryStepOfDiffusers) {
  const auto& [name, sampler] = GetParam();
  const Prompted own(name);
  const Tensor trail = own.io[sampler + ".trail"];
  const ImageGenerator generator(own.source(), own.options(sampler));
  size_t steps = 0;
  const Image image = generator.from_noise(own.io["noise"], 0, [&](size_t step, const Tensor& sample) {
    const Tensor expected = trail[static_cast<int64_t>(step)];
    EXPECT_EQ(differs(sample, expected, 10 * logit_tolerance(expected)), "") << "step " << step;
    ++steps;
    return true;
  });
  EXPECT_EQ(steps, static_cast<size_t>(trail.size(0)));
  const Tensor picture = own.io[sampler + ".picture"][0].mul(255);  // [rows, columns, channels]
  ASSERT_EQ(image.height, picture.size(0));
  ASSERT_EQ(image.width, picture.size(1));
  const Tensor bytes = at::tensor(at::ArrayRef<uint8_t>(image.pixels), at::kByte).view({image.height, image.width, 3});
  EXPECT_EQ(differs(bytes, picture.expand({-1, -1, 3}), 0.55), "");
}

TEST_P(PromptedOracle, IsAskedOnceWithoutGuidance) {
  const auto& [name, sampler] = GetParam();
  const Prompted own(name);
  ImageOptions options = own.options(sampler);
  options.guidance_scale = 1;
  Tensor last;
  ImageGenerator(own.source(), options).from_noise(own.io["noise"], 0, [&](size_t /*step*/, const Tensor& sample) {
    last = sample;
    return true;
  });
  const Tensor expected = own.io[sampler + ".unguided"];
  EXPECT_EQ(differs(last, expected, 10 * logit_tolerance(expected)), "");
}

INSTANTIATE_TEST_SUITE_P(Pipelines, PromptedOracle,
                         testing::Combine(testing::Values("first", "second"), testing::Values("ddim", "dpmsolver++")),
                         [](const auto& i) {
                           return std::get<0>(i.param) + (std::get<1>(i.param) == "ddim" ? "_ddim" : "_dpm");
                         });

TEST(PromptedImages, FollowFromTheirPlaceAndTheirPrompt) {
  const Prompted own("first");
  ImageOptions options = own.options("ddim");
  options.sampler.num_inference_steps = 2;
  const auto run = [&](const std::vector<std::string>& prompts, int64_t count) {
    ImageOptions some = options;
    some.prompts = prompts;
    some.num_images = count;
    return ImageGenerator(own.source(), some).run();
  };
  const auto alone = run({"a dog"}, 4), several = run({"a dog", "a photo"}, 1), cycle = run({"a dog", "a photo"}, 3);
  EXPECT_EQ(alone.size(), 4u);
  EXPECT_EQ(several.size(), 2u) << "one of each prompt at least";
  EXPECT_EQ(several[0].pixels, alone[0].pixels);
  EXPECT_NE(several[1].pixels, alone[1].pixels) << "the prompt enters";
  EXPECT_EQ(cycle[2].pixels, alone[2].pixels);
  EXPECT_EQ(alone[0].height, 16) << "sample_size 8, two pixels a latent";
  ImageOptions one = options;
  one.prompts = {"a dog"};
  EXPECT_EQ(ImageGenerator(own.source(), one).picture(3).pixels, alone[3].pixels);
  ImageOptions away = one;
  away.negative_prompt = "a dog";
  EXPECT_NE(ImageGenerator(own.source(), away).picture(3).pixels, alone[3].pixels);
  EXPECT_EQ(*ImageGenerator(own.source(), one).prompt_of(7), "a dog");
  EXPECT_EQ(ImageGenerator(own.source(12), one).run()[0].width, 12);
}

TEST(PromptedImages, RefuseWhatCannotBe) {
  const Prompted own("first");
  ImageOptions options = own.options("ddim");
  const auto refused = [](ImageSource source, ImageOptions asked) {
    return error_of([&] { ImageGenerator(source, std::move(asked)); });
  };
  EXPECT_EQ(refused(own.source(13), options).id(), "data.image-size");
  options.prompts.clear();
  EXPECT_EQ(refused(own.source(), options).id(), "config.missing-key");
  const test::TinyDenoiser plain({.channels = 3});
  const NoiseScheduler standard = NoiseScheduler::standard();
  const Error error = refused({.model = plain, .scheduler = standard}, own.options("ddim"));
  EXPECT_EQ(error.id(), "config.conflict");
  EXPECT_EQ(error.parts().what, "the model reads no text, and 'prompt' means nothing to it");
  ImageOptions negative;
  negative.negative_prompt = "dog";
  EXPECT_NE(refused({.model = plain, .scheduler = standard}, negative).parts().what.find("negative_prompt"),
            std::string::npos);
}

}  // namespace
}  // namespace deltaw
