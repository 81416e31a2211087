// Pictures from a denoiser.
#include "deltaw/generate_images.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "support/temporary.h"
#include "support/tiny_denoiser.h"

namespace deltaw {
namespace {

using test::error_of;
using test::TinyDenoiser;

const NoiseScheduler& scheduler() {
  static const NoiseScheduler standard = NoiseScheduler::standard();
  return standard;
}

std::vector<Image> run(const TinyDenoiser& model, ImageOptions options) {
  options.sampler.num_inference_steps = 5;
  return ImageGenerator({.model = model, .scheduler = scheduler()}, std::move(options)).run();
}

TEST(ImageGenerator, MakesTheSamePicturesHoweverManyThereAreAndOnAnyThreads) {
  const TinyDenoiser model({.channels = 3, .side = 6});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  for (const char* sampler : {"ddpm", "ddim", "dpmsolver++"}) {
    const std::vector<Image> five = run(model, {.num_images = 5, .sampler = {.scheduler = sampler}});
    at::set_num_threads(3);
    const std::vector<Image> two = run(model, {.num_images = 2, .sampler = {.scheduler = sampler}});
    const std::vector<Image> again = run(model, {.num_images = 5, .sampler = {.scheduler = sampler}});
    at::set_num_threads(1);
    for (size_t i = 0; i < five.size(); ++i) {
      EXPECT_EQ(five[i].pixels, again[i].pixels) << sampler;
    }
    EXPECT_EQ(five[0].pixels, two[0].pixels) << sampler;
    EXPECT_EQ(five[1].pixels, two[1].pixels) << sampler;
    EXPECT_NE(five[1].pixels, five[0].pixels) << sampler;
    EXPECT_NE(run(model, {.sampler = {.scheduler = sampler}, .seed = 43})[0].pixels, five[0].pixels) << sampler;
  }
  at::set_num_threads(threads);
}

TEST(ImageGenerator, GoesThroughTheClassesAndCountsSteps) {
  const TinyDenoiser model({.channels = 1, .classes = 3});
  const ImageGenerator all({.model = model, .scheduler = scheduler()}, {.num_images = 4});
  EXPECT_EQ(all.class_of(1), 1);
  EXPECT_EQ(all.class_of(3), 0);
  const ImageGenerator one({.model = model, .scheduler = scheduler()},
                           {.num_images = 2, .sampler = {.num_inference_steps = 5}, .class_labels = {"2"}});
  EXPECT_EQ(one.class_of(1), 2);
  EXPECT_EQ(one.steps(), 5);
  int64_t calls = 0;
  const std::vector<Image> images = one.run([&](int64_t done, int64_t of) {
    EXPECT_EQ(done, ++calls);
    EXPECT_EQ(of, 10);
  });
  EXPECT_EQ(calls, 10);
  const ImageGenerator other({.model = model, .scheduler = scheduler()},
                             {.num_images = 2, .sampler = {.num_inference_steps = 5}, .class_labels = {"0"}});
  EXPECT_NE(other.run()[0].pixels, images[0].pixels) << "the class enters";
  EXPECT_EQ(images[0].pixels[0], images[0].pixels[1]) << "grey";
}

TEST(ImageGenerator, HasTheSizeThatIsAskedForAndElseTheModels) {
  const TinyDenoiser model({.channels = 1, .side = 6});
  EXPECT_EQ(run(model, {})[0].height, 6);
  const ImageGenerator larger({.model = model, .scheduler = scheduler(), .resolution = 9},
                              {.sampler = {.num_inference_steps = 2}});
  EXPECT_EQ(larger.run()[0].width, 9);
}

TEST(ImageGenerator, RefusesWhatCannotBe) {
  const TinyDenoiser model({.channels = 1, .classes = 3}), plain({.channels = 1, .side = 0});
  const auto id = [](const TinyDenoiser& of, ImageOptions options) {
    return error_of([&] { ImageGenerator({.model = of, .scheduler = scheduler()}, std::move(options)); }).id();
  };
  EXPECT_EQ(id(model, {.class_labels = {"3"}}), "config.out-of-range");
  EXPECT_EQ(id(model, {.class_labels = {"cat"}}), "config.out-of-range");
  EXPECT_EQ(id(model, {.sampler = {.num_inference_steps = 2000}}), "config.out-of-range");
  EXPECT_EQ(id(plain, {}), "config.missing-key");
}

}  // namespace
}  // namespace deltaw
