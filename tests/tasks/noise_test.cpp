// Pictures and noise as batches, the loss and the scores of denoisers.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "deltaw/image.h"
#include "deltaw/task.h"
#include "support/golden.h"
#include "support/temporary.h"
#include "support/tiny_denoiser.h"
#include "tasks/noise/pictures.h"
#include "tasks/noise/scorer.h"
#include "tasks/noise/task.h"

namespace deltaw {
namespace {

using namespace noise;  // NOLINT
using test::differs;
using test::error_of;
using test::fixture;
using test::Golden;
using test::TemporaryFolder;
using test::TinyDenoiser;

/// A ramp of greys with some colour.
Image ramp(int64_t height, int64_t width) {
  Image image{.height = height, .width = width, .pixels = {}};
  for (int64_t i = 0; i < height * width; ++i) {
    for (const int64_t shift : {0, 40, 90}) image.pixels.push_back(static_cast<uint8_t>((i * 7 + shift) % 256));
  }
  return image;
}

Tensor picture(const Image& image, const PictureForm& form, std::optional<uint64_t> seed = std::nullopt) {
  Tensor values = at::empty({form.channels, form.resolution, form.resolution}, at::kFloat);
  write_picture(image, form, seed, values.mutable_data_ptr<float>());
  return values;
}

TEST(Pictures, AreBytesBetweenMinusOneAndOne) {
  const Image image = ramp(4, 4);
  const Tensor seen = picture(image, {.channels = 3, .resolution = 4});
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t c = 0; c < 3; ++c) {
      const float byte = image.pixels[static_cast<size_t>(i * 3 + c)];
      EXPECT_NEAR(seen[c].flatten()[i].item<float>(), byte / 127.5F - 1, 1e-6);
    }
  }
}

TEST(Pictures, AreGreyAsPillowMakesThemWhereTheModelIs) {
  const Tensor seen = picture({.height = 1, .width = 1, .pixels = {200, 30, 90}}, {.channels = 1, .resolution = 1});
  EXPECT_NEAR(seen.item<float>(), 88 / 127.5F - 1, 1e-6);  // (200 19595 + 30 38470 + 90 7471 + 32768) >> 16
}

TEST(Pictures, AreTheMiddleOfTheShorterSideUnlessTheyAreDrawn) {
  const Image image = ramp(4, 10);
  const PictureForm form{.channels = 3, .resolution = 4};
  const Tensor middle = picture(image, form), whole = picture(ramp(10, 10), {.channels = 3, .resolution = 10});
  EXPECT_TRUE(at::equal(middle, whole.slice(1, 0, 4).slice(2, 3, 7)));
  std::set<float> lefts;
  for (uint64_t seed = 0; seed < 40; ++seed) lefts.insert(picture(image, form, seed)[0][0][0].item<float>());
  EXPECT_EQ(lefts.size(), 7) << "every place that a square of 4 has in 10";
  const PictureForm fixed{.channels = 3, .resolution = 4, .center_crop = true};
  EXPECT_TRUE(at::equal(picture(image, fixed, 3), middle));
}

TEST(Pictures, AreTurnedLeftToRightEverySecondTime) {
  const PictureForm form{.channels = 3, .resolution = 6, .random_flip = true};
  const Tensor plain = picture(ramp(6, 6), form);
  int64_t turned = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Tensor seen = picture(ramp(6, 6), form, seed);
    ASSERT_TRUE(at::equal(seen, plain) || at::equal(seen, plain.flip({2})));
    turned += !at::equal(seen, plain);
  }
  EXPECT_GT(turned, 10);
  EXPECT_LT(turned, 30);
}

TEST(Pictures, AreResizedByTheirShorterSideWithTheFilterThatIsNamed) {
  const Image image = ramp(8, 13);
  const PictureForm form{.channels = 3, .resolution = 6, .resample = Resample::lanczos};
  const Image small = resize(image, 6, 9, Resample::lanczos);  // 6 * 13 / 8, cut
  const Tensor expected = picture(small, form);
  EXPECT_TRUE(at::equal(picture(image, form), expected));
  EXPECT_FALSE(at::equal(picture(image, {.channels = 3, .resolution = 6}), expected));
}

class NoiseRows : public testing::Test {
 protected:
  static constexpr int64_t kCount = 9;

  Pictures pictures() const {
    Pictures all{.rows = {.file = "rows.csv"}, .form = {.channels = 1, .resolution = 4}};
    for (int64_t i = 0; i < kCount; ++i) {
      const auto file = folder_ / (std::to_string(i) + ".png");
      write_png(file, ramp(4, 8 + i % 3));
      all.rows.rows.push_back({.text = file.string(), .line = i + 1});
      all.classes.push_back(i % 4);
    }
    return all;
  }

  static Tensor all(const NoisyRows& rows, const char* name, int64_t batch, const Draw& draw) {
    std::vector<Tensor> parts;
    for (int64_t begin = 0; begin < rows.size(); begin += batch) {
      std::vector<int64_t> positions;
      for (int64_t i = begin; i < std::min(begin + batch, rows.size()); ++i) positions.push_back(i);
      parts.push_back(rows.collate(positions, draw)[name]);
    }
    return at::cat(parts);
  }

  TemporaryFolder folder_;
};

TEST_F(NoiseRows, DrawTheSameInBatchesOfAnySizeAndOtherwiseInAnotherEpochOrRun) {
  const auto rows = training_rows({pictures()});
  const Draw draw{.seed = 5, .epoch = 3, .step = 9, .micro_step = 1};
  for (const char* name : {"pixel_values", "noise", "timesteps"}) {
    const Tensor seen = all(*rows, name, kCount, draw);
    EXPECT_TRUE(at::equal(all(*rows, name, 1, {.seed = 5, .epoch = 3}), seen)) << name;
    EXPECT_TRUE(at::equal(all(*rows, name, 4, draw), seen)) << name;
    EXPECT_FALSE(at::equal(all(*rows, name, 4, {.seed = 5, .epoch = 4}), seen)) << name;
    EXPECT_FALSE(at::equal(all(*rows, name, 4, {.seed = 6, .epoch = 3}), seen)) << name;
  }
  EXPECT_TRUE(at::equal(all(*rows, "class_labels", 4, draw), at::tensor({0, 1, 2, 3, 0, 1, 2, 3, 0}, at::kLong)));
}

TEST_F(NoiseRows, DrawEveryTimeOfTheScheduleAlike) {
  const auto rows = training_rows({pictures(), {.num_train_timesteps = 3}});
  std::vector<int64_t> seen(3);
  for (int64_t epoch = 0; epoch < 100; ++epoch) {
    const Tensor times = all(*rows, "timesteps", kCount, {.epoch = epoch});
    for (int64_t i = 0; i < kCount; ++i) ++seen[static_cast<size_t>(times[i].item<int64_t>())];
  }
  for (const int64_t count : seen) EXPECT_NEAR(count, 300, 60);
}

TEST_F(NoiseRows, ShareTheOffsetAmongThePixelsOfAChannel) {
  const Draw draw{.seed = 1};
  const Tensor plain = all(*training_rows({pictures()}), "noise", 4, draw);
  const Tensor moved = all(*training_rows({pictures(), {.noise_offset = 0.5}}), "noise", 4, draw) - plain;
  EXPECT_LT((moved - moved.mean({2, 3}, true)).abs().max().item<double>(), 1e-6);
  EXPECT_GT(moved.abs().min().item<double>(), 0);
  EXPECT_NEAR(moved.square().mean().item<double>(), 0.25, 0.25);
}

TEST_F(NoiseRows, OfEvaluationAreTheSameInEveryRunAndEachAtEveryTime) {
  const auto rows = evaluation_rows({pictures()}, {50, 900});
  EXPECT_EQ(rows->size(), 2 * kCount);
  const Tensor noise = all(*rows, "noise", 5, {.seed = 1});
  EXPECT_TRUE(at::equal(all(*rows, "noise", 3, {.seed = 2, .epoch = 1}), noise));
  const Tensor times = all(*rows, "timesteps", 5, {});
  EXPECT_TRUE(at::equal(times.slice(0, 0, 4), at::tensor({50, 900, 50, 900}, at::kLong)));
  const Tensor pixels = all(*rows, "pixel_values", 5, {});
  EXPECT_TRUE(at::equal(pixels[0], pixels[1]));
  EXPECT_FALSE(at::equal(noise[0], noise[1]));
  EXPECT_FALSE(at::equal(noise[0], noise[2]));
}

TEST_F(NoiseRows, AreOtherRowsWhereAnythingOfThemIs) {
  const std::string plain = training_rows({pictures()})->fingerprint();
  Pictures other = pictures();
  other.classes[2] = 0;
  EXPECT_NE(training_rows({other})->fingerprint(), plain);
  other = pictures();
  other.form.random_flip = true;
  EXPECT_NE(training_rows({other})->fingerprint(), plain);
  EXPECT_NE(training_rows({pictures(), {.noise_offset = 0.1}})->fingerprint(), plain);
  EXPECT_NE(evaluation_rows({pictures()}, {50})->fingerprint(), evaluation_rows({pictures()}, {51})->fingerprint());
}

TEST_F(NoiseRows, ThatAreDamagedEndTheBatchWithTheirFileAndRow) {
  Pictures all = pictures();
  test::put(all.rows.rows[3].text, "no picture");
  const Error error = error_of([&] { training_rows({all})->collate({0, 3}, {}); });
  EXPECT_EQ(error.id(), "format.image");
  EXPECT_NE(std::string(error.what()).find("3.png"), std::string::npos);
  EXPECT_NE(std::string(error.what()).find("row 4 of rows.csv"), std::string::npos);
}

// ---- the task ----

std::shared_ptr<const NoiseScheduler> schedule(const char* prediction) {
  return std::make_shared<NoiseScheduler>(NoiseScheduler::from_json(
      {{"_class_name", "DDPMScheduler"}, {"prediction_type", prediction}}, "scheduler_config.json"));
}

TEST(NoiseTask, HasTheLossOfDiffusersTrainingScripts) {
  const Golden golden(fixture("golden/schedulers/expected.safetensors"));
  const TinyDenoiser model({.channels = 3});
  for (const char* prediction : {"epsilon", "v_prediction", "sample"}) {
    const auto at = [&](const char* name) { return golden["training." + std::string(prediction) + "." + name]; };
    const Batch batch{
        .rows = 4,
        .tensors = {{"pixel_values", at("samples")}, {"noise", at("noise")}, {"timesteps", at("timesteps")}}};
    const auto loss = [&](double gamma, double weight) {
      Call call;
      const auto task = noise::make_task({.snr_gamma = gamma, .scheduler = schedule(prediction)});
      return task->loss(model, {at("outputs")}, batch, call, {.total_weight = weight}).item<double>();
    };
    EXPECT_NEAR(loss(0, 4), at("loss").item<double>(), 1e-5) << prediction;
    const double weighted = at("weighted_loss").item<double>();
    EXPECT_NEAR(loss(5, 4), weighted, 1e-5 * std::max(1.0, weighted)) << prediction;
    EXPECT_NEAR(loss(0, 8), at("loss").item<double>() / 2, 1e-5) << "half of a step of eight rows";
  }
}

TEST(NoiseTask, ShowsTheModelNoisyPicturesTimesAndClasses) {
  const TinyDenoiser model({.channels = 1, .classes = 5});
  const auto task = noise::make_task({.scheduler = schedule("epsilon")});
  const auto rows = task->random_rows(model, 6, 0, 3);
  task->check(model, nullptr, *rows, "random");
  const Batch batch = rows->collate({0, 1, 2, 3, 4, 5}, {});
  Call call;
  const Tensor output = task->outputs(model, batch, call).at(0);
  const Tensor noisy = schedule("epsilon")->add_noise(batch["pixel_values"], batch["noise"], batch["timesteps"]);
  const Condition condition{.class_labels = batch["class_labels"], .encoder_hidden_states = {}};
  EXPECT_TRUE(at::equal(output, model.denoise(noisy, batch["timesteps"], condition, call)));
  EXPECT_GT(batch["class_labels"].max().item<int64_t>(), 0);
  EXPECT_LE(batch["pixel_values"].abs().max().item<double>(), 1);
}

TEST(NoiseTask, ScoresEachTimeApartAndTheLossOverAllOfThem) {
  const auto scheduler = schedule("epsilon");
  const auto scorer = make_scorer(scheduler, 5);
  const auto add = [&](std::vector<int64_t> positions, std::vector<int64_t> times, std::vector<double> errors) {
    const auto count = static_cast<int64_t>(positions.size());
    const Tensor zeros = at::zeros({count, 1, 2, 2});
    const Tensor output = at::tensor(errors, at::kFloat).sqrt().view({-1, 1, 1, 1}).expand_as(zeros);
    scorer->add({output}, {.rows = count,
                           .tensors = {{"pixel_values", zeros}, {"noise", zeros}, {"timesteps", at::tensor(times)}},
                           .positions = positions});
  };
  add({2, 3}, {10, 900}, {0.5, 2});
  add({0, 1}, {10, 900}, {0.25, 4});
  const Json metrics = scorer->metrics();
  EXPECT_NEAR(metrics["noise_mse_10"].get<double>(), 0.375, 1e-6);
  EXPECT_NEAR(metrics["noise_mse_900"].get<double>(), 3, 1e-6);
  const double early = scheduler->min_snr_weights(at::tensor({int64_t{10}}), 5).item<double>();
  EXPECT_LT(early, 0.1) << "there is little noise at the time 10";
  EXPECT_NEAR(metrics["loss"].get<double>(), (0.75 * early + 6) / 4, 1e-5);
}

TEST(NoiseTask, SaysThatALossIsNoNumber) {
  const auto scorer = make_scorer(schedule("epsilon"), 0);
  const Tensor zeros = at::zeros({1, 1, 2, 2});
  scorer->add({zeros / 0},
              {.rows = 1,
               .tensors = {{"pixel_values", zeros}, {"noise", zeros}, {"timesteps", at::tensor({int64_t{1}})}},
               .positions = {0}});
  EXPECT_EQ(error_of([&] { scorer->metrics(); }).id(), "numeric.non-finite");
}

TEST(NoiseTask, ExpectsOfGuessingTheWeightOfTheNoise) {
  const TinyDenoiser model({});
  const auto rows = noise::random_rows(model, 2, 1000, 1);
  const auto chance = [&](double gamma) {
    return noise::make_task({.snr_gamma = gamma, .scheduler = schedule("epsilon")})->chance_loss(model, *rows);
  };
  EXPECT_EQ(chance(0), 1);
  EXPECT_GT(chance(5), 0.3);
  EXPECT_LT(chance(5), 1);
}

TEST(NoiseTask, RefusesModelsThatItCannotTrain) {
  const auto refused = [](TinyDenoiser::Form form, const std::string& word) {
    const Error error = error_of([&] { as_denoiser(TinyDenoiser(form)); });
    EXPECT_EQ(error.id(), "config.unsupported");
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  };
  refused({.channels = 3, .out_channels = 6}, "variance");
}

TEST(NoiseTask, RefusesRowsOfAnotherModel) {
  const auto task = noise::make_task({.scheduler = schedule("epsilon")});
  const auto rows = task->random_rows(TinyDenoiser({.channels = 3, .classes = 2}), 2, 0, 1);
  const TinyDenoiser grey({.channels = 1, .classes = 2}), plain({.channels = 3});
  EXPECT_EQ(error_of([&] { task->check(grey, nullptr, *rows, "training"); }).id(), "shape.mismatch");
  EXPECT_EQ(error_of([&] { task->check(plain, nullptr, *rows, "training"); }).id(), "data.label");
}

TEST(NoiseTask, KnowsItsScoresByTheirTimes) {
  noise::check_metric("loss");
  noise::check_metric("noise_mse_17");
  for (const char* name : {"noise_mse_", "noise_mse_x", "accuracy"}) {
    EXPECT_EQ(error_of([&] { noise::check_metric(name); }).id(), "config.unknown-metric") << name;
  }
}

}  // namespace
}  // namespace deltaw
