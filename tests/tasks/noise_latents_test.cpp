// Latents and captions as batches, pictures of a class beside them, and diffusers' losses over adapters.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "deltaw/image.h"
#include "deltaw/task.h"
#include "support/pipelines.h"
#include "support/temporary.h"
#include "support/tiny_denoiser.h"
#include "tasks/noise/pictures.h"
#include "tasks/noise/subject.h"
#include "tasks/noise/task.h"
#include "train/adamw.h"

namespace deltaw {
namespace {

using namespace noise;  // NOLINT
using test::denoiser;
using test::differs;
using test::error_of;
using test::Golden;
using test::TemporaryFolder;

class LatentOracle : public testing::TestWithParam<std::string> {
 protected:
  LatentOracle()
      : model_(model_of(facts_["base"], /*with_text_encoder=*/io_.has("input_ids"))),
        adapter_(Adapter::load(*model_, test::pipeline_folder(GetParam()), {.trainable = true})),
        task_(noise::make_task({.snr_gamma = facts_["snr_gamma"], .prior_loss_weight = facts_["prior_loss_weight"]})) {}

  static std::unique_ptr<Model> model_of(const std::string& base, bool with_text_encoder) {
    auto model = test::load_pipeline_unet(base, "float64");
    if (with_text_encoder) add_text_encoder(dynamic_cast<Denoiser&>(*model));
    return model;
  }

  Tensor loss(const std::string& prefix, bool recompute = false) const {
    const int64_t pictures = io_[prefix + "latents"].size(0);
    Batch batch{.rows = facts_["prior_loss_weight"] > 0 ? pictures / 2 : pictures};
    for (const char* name :
         {"latents", "noise", "timesteps", io_.has("input_ids") ? "input_ids" : "encoder_hidden_states"}) {
      const Tensor given = io_[prefix + name];
      batch.tensors[name] = given.is_floating_point() ? given.to(at::kDouble) : given;
    }
    Call call{.adapter = &adapter_, .training = true, .recompute = recompute};
    const Outputs outputs = task_->outputs(*model_, batch, call);
    return task_->loss(*model_, outputs, batch, call, {.total_weight = task_->weight(batch)});
  }

  Json facts_ = test::pipeline_case(GetParam());
  Golden io_ = test::pipeline_io(GetParam());
  std::unique_ptr<Model> model_;
  Adapter adapter_;
  std::unique_ptr<Task> task_;
};

// The loss is taken in float32, as diffusers' scripts do.
TEST_P(LatentOracle, GivesTheLossAndEveryGradient) {
  const Tensor loss = this->loss("");
  EXPECT_EQ(differs(loss.reshape({1}), io_["loss64"], 1e-5), "");
  loss.backward();
  std::set<std::string> expected;
  for (const std::string& name : io_.names("grad.")) expected.insert(name);
  for (const NamedTensor& tensor : adapter_.trained()) {
    const std::string key = "base_model.model." + tensor.name;
    ASSERT_TRUE(expected.erase(key)) << "PEFT does not train " << key;
    const Tensor gradient = io_["grad." + key];
    const double scale = std::max(1.0, gradient.abs().max().item<double>());
    EXPECT_EQ(differs(tensor.value.grad(), gradient, 1e-5 * scale), "") << tensor.name;
  }
  EXPECT_TRUE(expected.empty()) << "not trained here: " << *expected.begin();
}

TEST_P(LatentOracle, GivesTheSameGradientsWithCheckpointing) {
  std::vector<Tensor> plain;
  loss("").backward();
  for (const NamedTensor& tensor : adapter_.trained()) {
    plain.push_back(tensor.value.grad().clone());
    tensor.value.mutable_grad() = Tensor();
  }
  loss("", /*recompute=*/true).backward();
  size_t i = 0;
  for (const NamedTensor& tensor : adapter_.trained()) {
    EXPECT_EQ(differs(tensor.value.grad(), plain[i++], 1e-12), "") << tensor.name;
  }
}

TEST_P(LatentOracle, TakesTenStepsOfAdamW) {
  std::vector<NamedTensor> moved;  // the oracle decays every tensor, so the names that would be spared are hidden
  for (const NamedTensor& tensor : adapter_.trained())
    moved.push_back({fmt::format("w{}", moved.size()), tensor.value});
  train::AdamW adamw(moved, {.weight_decay = 0.01});
  for (int64_t step = 1; step <= 10; ++step) {
    const Tensor loss = this->loss(step % 2 == 1 ? "" : "batch1.");
    const auto expected = io_["losses"][step - 1].item<double>();
    EXPECT_NEAR(loss.item<double>(), expected, 1e-4 * std::max(1.0, expected)) << "step " << step;
    loss.backward();
    adamw.step(0.01);
    for (const NamedTensor& tensor : moved) tensor.value.mutable_grad() = Tensor();
  }
  for (const NamedTensor& tensor : adapter_.trained()) {
    EXPECT_EQ(differs(tensor.value, io_["step10.base_model.model." + tensor.name], 1e-3), "") << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Pipelines, LatentOracle, testing::Values("first_prior", "first_texts", "second_snr"),
                         [](const auto& i) { return i.param; });

class LatentRows : public testing::Test {
 protected:
  static constexpr int64_t kCount = 5;

  LatentRows() : model_(test::load_pipeline_unet("first")) {
    parts_ = std::make_shared<const PipelineParts>(load_parts(denoiser(*model_)));
    features_ = std::make_shared<const Features>(parts_, int64_t{1} << 30);
  }

  /// Images of `width` x 16 with captions, of which the second has two.
  Pictures pictures(int64_t width = 16, const std::string& name = "p", int64_t count = kCount) const {
    Pictures all{.rows = {.file = "rows.csv"}, .form = {.channels = 3, .resolution = 16}};
    for (int64_t i = 0; i < count; ++i) {
      Image image{.height = 16, .width = width, .pixels = {}};
      for (int64_t j = 0; j < 16 * width * 3; ++j) {
        image.pixels.push_back(static_cast<uint8_t>((j * (7 + 3 * i) + static_cast<int64_t>(name[0])) % 256));
      }
      const auto file = folder_ / (name + std::to_string(width) + std::to_string(i) + ".png");
      write_png(file, image);
      all.rows.rows.push_back({.text = file.string(), .line = i + 1});
      all.captions.push_back({fmt::format("{} dog", std::string(static_cast<size_t>(i + 1), 'a'))});
    }
    all.captions[1].emplace_back("photo");
    return all;
  }
  std::shared_ptr<const NoisyRows> rows(Pictures own) const {
    return training_rows({std::move(own), {}, {}, features_});
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
  std::unique_ptr<Model> model_;
  std::shared_ptr<const PipelineParts> parts_;
  std::shared_ptr<const Features> features_;
};

TEST_F(LatentRows, AreDrawnFromTheDistributionThatTheAutoencoderGives) {
  const Pictures own = pictures();
  const auto source = rows(own);
  EXPECT_EQ(source->channels(), 4);
  EXPECT_EQ(source->side(), 8);
  EXPECT_EQ(source->text_width(), 8);
  const Tensor means = all(*evaluation_rows({own, {}, {}, features_}, {500}), "latents", 2, {});
  Tensor pixels = at::empty({1, 3, 16, 16}, at::kFloat);
  write_picture(read_image(own.rows.rows[2].text), own.form, std::nullopt, pixels.mutable_data_ptr<float>());
  const at::NoGradGuard no_grad;
  Call call;
  const LatentDistribution expected = parts_->autoencoder->encode(pixels, call);
  EXPECT_EQ(differs(means[2], expected.mean[0], 1e-6), "");
  std::vector<Tensor> draws;
  for (int64_t epoch = 0; epoch < 300; ++epoch) {
    draws.push_back((source->collate({2}, {.seed = 1, .epoch = epoch})["latents"] - expected.mean) /
                    expected.deviation);
  }
  const Tensor normals = at::cat(draws);
  EXPECT_NEAR(normals.mean().item<double>(), 0, 0.02);
  EXPECT_NEAR(normals.std().item<double>(), 1, 0.02);
  const Tensor noise = source->collate({2}, {.seed = 1})["noise"];
  const Tensor first = normals.narrow(0, 0, 1);
  EXPECT_LT(((first - first.mean()) * (noise - noise.mean())).mean().abs().item<double>(), 0.3)
      << "it is another draw than that of the noise";
}

TEST_F(LatentRows, AreTheSameInBatchesOfAnySizeKeptOrNot) {
  for (const int64_t width : {16, 24}) {
    const Draw draw{.seed = 5, .epoch = 3};
    const auto kept = rows(pictures(width));
    const auto fresh = training_rows({pictures(width), {}, {}, std::make_shared<const Features>(parts_, 0)});
    for (const char* name : {"latents", "noise", "timesteps", "encoder_hidden_states"}) {
      const Tensor seen = all(*kept, name, kCount, draw);
      EXPECT_TRUE(at::equal(all(*kept, name, 2, draw), seen)) << name;
      EXPECT_TRUE(at::equal(all(*fresh, name, 1, draw), seen)) << name;
    }
    for (const char* name : {"latents", "noise"}) {
      EXPECT_FALSE(at::equal(all(*kept, name, 2, {.seed = 5, .epoch = 4}), all(*kept, name, 2, draw))) << name;
    }
  }
}

TEST_F(LatentRows, AreKeptWhereNothingOfTheirPictureIsDrawn) {
  const auto kept_after = [&](Pictures own) {
    const auto features = std::make_shared<const Features>(parts_, int64_t{1} << 30);
    own.captions.assign(own.captions.size(), {"dog"});
    const auto source = training_rows({std::move(own), {}, {}, features});
    for (int64_t epoch = 0; epoch < 3; ++epoch) source->collate({0, 1, 2}, {.epoch = epoch});
    return features->kept();
  };
  EXPECT_EQ(kept_after(pictures()), 4u) << "three squares and one caption";
  EXPECT_EQ(kept_after(pictures(24)), 1u) << "random parts are not kept";
  Pictures middle = pictures(24);
  middle.form.center_crop = true;
  EXPECT_EQ(kept_after(middle), 4u);
  middle.form.random_flip = true;
  EXPECT_EQ(kept_after(middle), 1u) << "nor are turned ones";
}

TEST_F(LatentRows, OfTrainingAreTheSameWhereTheirPicturesWereEvaluatedOn) {
  const Pictures own = pictures(24);
  const Draw draw{.seed = 5, .epoch = 3};
  const Tensor before = all(*rows(own), "latents", 2, draw);
  all(*evaluation_rows({own, {}, {}, features_}, {500}), "latents", 2, {});
  EXPECT_TRUE(at::equal(all(*rows(own), "latents", 2, draw), before)) << "a random part, and not the middle";
}

TEST_F(LatentRows, OfRandomPartsDifferFromEpochToEpochByMoreThanTheirDraw) {
  const auto source = rows(pictures(40));
  std::set<float> seen;
  for (int64_t epoch = 0; epoch < 12; ++epoch) {
    seen.insert(source->collate({0}, {.seed = 1, .epoch = epoch})["latents"].mean().item<float>());
  }
  EXPECT_EQ(seen.size(), 12u);
}

TEST_F(LatentRows, ReadOneOfTheirCaptions) {
  const auto source = rows(pictures());
  const Tensor dog = parts_->prompts->encode({"aa dog"})[0], photo = parts_->prompts->encode({"photo"})[0];
  int64_t dogs = 0;
  for (int64_t epoch = 0; epoch < 30; ++epoch) {
    const Tensor states = source->collate({1}, {.seed = 2, .epoch = epoch})["encoder_hidden_states"][0];
    const bool is_dog = differs(states, dog, 1e-5).empty();
    ASSERT_TRUE(is_dog || differs(states, photo, 1e-5).empty());
    dogs += is_dog ? 1 : 0;
  }
  EXPECT_GT(dogs, 5);
  EXPECT_LT(dogs, 25);
  const auto judged = evaluation_rows({pictures(), {}, {}, features_}, {50, 900});
  EXPECT_EQ(differs(judged->collate({2}, {.seed = 3})["encoder_hidden_states"][0], dog, 1e-5), "") << "the first";
}

TEST_F(LatentRows, HaveIdsWhereTheModelItselfReadsThem) {
  const auto whole = test::load_pipeline_unet("first");
  add_text_encoder(dynamic_cast<Denoiser&>(*whole));
  const auto parts = std::make_shared<const PipelineParts>(load_parts(denoiser(*whole)));
  const auto features = std::make_shared<const Features>(parts, int64_t{1} << 30);
  const auto source = training_rows({pictures(), {}, {}, features});
  const auto task = noise::make_task({});
  task->check(*whole, nullptr, *source, "training");
  const Draw draw{.seed = 4, .epoch = 1};
  const Batch batch = source->collate({0, 2}, draw), states = rows(pictures())->collate({0, 2}, draw);
  EXPECT_FALSE(batch.tensors.contains("encoder_hidden_states"));
  EXPECT_TRUE(at::equal(batch["input_ids"], parts->prompts->ids({"a dog", "aaa dog"})));
  EXPECT_TRUE(at::equal(batch["latents"], states["latents"]));
  Call call;
  const at::NoGradGuard no_grad;
  const Tensor said = task->outputs(*whole, batch, call).at(0);
  EXPECT_EQ(differs(said, task->outputs(*model_, states, call).at(0), 1e-5), "");
  const Batch random = task->random_rows(*whole, 3, 0, 1)->collate({0, 1, 2}, {});
  EXPECT_EQ(random["input_ids"].size(1), 77);
  EXPECT_LT(random["input_ids"].max().item<int64_t>(), denoiser(*whole).text_encoder()->vocab_size());
  EXPECT_EQ(task->outputs(*whole, random, call).at(0).size(0), 3);
}

TEST_F(LatentRows, HaveAPictureOfTheirClassBesideThem) {
  Pictures prior = pictures(16, "q", 3);
  prior.captions.assign(3, {"photo"});
  const Pictures own = pictures();
  const auto source = training_rows({own, {}, {}, features_}, prior);
  EXPECT_TRUE(source->with_prior());
  EXPECT_EQ(source->size(), kCount);
  EXPECT_EQ(source->cost(0), 2 * 64);
  const Draw draw{.seed = 4, .epoch = 1};
  const Batch batch = source->collate({4, 0}, draw);
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch["latents"].size(0), 4);
  EXPECT_TRUE(at::equal(batch["latents"].narrow(0, 0, 2), rows(own)->collate({4, 0}, draw)["latents"]))
      << "rows are drawn as without a class";
  EXPECT_EQ(differs(batch["encoder_hidden_states"][3], parts_->prompts->encode({"photo"})[0], 1e-5), "");
  const Tensor mean = evaluation_rows({prior, {}, {}, features_}, {1})->collate({4 % 3}, {})["latents"][0];
  const Tensor other = evaluation_rows({own, {}, {}, features_}, {1})->collate({4}, {})["latents"][0];
  EXPECT_LT((batch["latents"][2] - mean).abs().mean().item<double>(),
            (batch["latents"][2] - other).abs().mean().item<double>())
      << "the fourth row has the second picture of the class";
  EXPECT_FALSE(at::equal(batch["noise"][0], batch["noise"][2]));
  EXPECT_NE(batch["timesteps"][0].item<int64_t>(), batch["timesteps"][2].item<int64_t>());

  const auto task = noise::make_task({.prior_loss_weight = 0.5});
  EXPECT_EQ(task->chance_loss(*model_, *source), 1.5);
  EXPECT_EQ(task->weight(batch), 2);
  EXPECT_NE(source->fingerprint(), rows(own)->fingerprint());
  EXPECT_EQ(training_rows({pictures(16, "q", 3), {}, {}, features_}, own)->size(), kCount) << "the larger set counts";
}

TEST_F(LatentRows, AreOtherRowsWhereTheirCaptionsAre) {
  Pictures other = pictures();
  other.captions[0] = {"cat"};
  EXPECT_NE(rows(other)->fingerprint(), rows(pictures())->fingerprint());
}

TEST_F(LatentRows, OfAnotherModelAreRefused) {
  const auto task = noise::make_task({});
  const auto wrong = task->random_rows(test::TinyDenoiser({.channels = 4, .text = 5}), 2, 0, 1);
  EXPECT_EQ(error_of([&] { task->check(*model_, nullptr, *wrong, "training"); }).id(), "shape.mismatch");
  const auto right = task->random_rows(*model_, 2, 0, 1);
  task->check(*model_, nullptr, *right, "random");
  Call call;
  EXPECT_EQ(task->outputs(*model_, right->collate({0, 1}, {}), call).at(0).size(1), 4);
}

// ---- the class of a subject ----

class ClassPicturesOf : public testing::Test {
 protected:
  SubjectKeys keys(int64_t count) const {
    SubjectKeys own;
    own.with_prior_preservation = true;
    own.class_data_dir = (folder_ / "class").string();
    own.class_prompt = "a photo of dog";
    own.num_class_images = count;
    return own;
  }
  static Image dot() { return {.height = 1, .width = 1, .pixels = {1, 2, 3}}; }

  TemporaryFolder folder_;
};

TEST_F(ClassPicturesOf, ThatAreThereComeFirst) {
  EXPECT_EQ(class_pictures(keys(2)).missing, (std::vector<int64_t>{0, 1})) << "no folder yet";
  std::filesystem::create_directories(folder_ / "class");
  for (const char* name : {"class/b.png", "class/class-00001.png", "class/a.png"}) write_png(folder_ / name, dot());
  const ClassPictures five = class_pictures(keys(5));
  EXPECT_EQ(five.missing, (std::vector<int64_t>{0, 2}));
  std::vector<std::string> names;
  for (const Example& row : five.rows.rows) names.push_back(std::filesystem::path(row.text).filename().string());
  EXPECT_EQ(names,
            (std::vector<std::string>{"a.png", "b.png", "class-00000.png", "class-00001.png", "class-00002.png"}));
  const ClassPictures two = class_pictures(keys(2));
  EXPECT_EQ(two.rows.rows.size(), 2u);
  EXPECT_TRUE(two.missing.empty());
}

TEST_F(ClassPicturesOf, TheBaseMakesAreTheSameAfterARunThatWasEnded) {
  const auto model = test::load_pipeline_unet("first");
  const PipelineParts parts = load_parts(denoiser(*model));
  const NoiseScheduler scheduler = NoiseScheduler::from_json(
      {{"_class_name", "DDIMScheduler"}, {"num_train_timesteps", 3}}, "scheduler_config.json");
  const ImageSource base{.model = denoiser(*model),
                         .scheduler = scheduler,
                         .autoencoder = parts.autoencoder.get(),
                         .prompts = parts.prompts.get()};
  const SubjectKeys own = keys(3);
  make_class_pictures(own, class_pictures(own), base, 7);
  EXPECT_TRUE(class_pictures(own).missing.empty());
  const auto file = folder_ / "class" / "class-00001.png";
  const std::string before = read_file(file);
  EXPECT_NE(before, read_file(folder_ / "class" / "class-00002.png"));
  std::filesystem::remove(file);
  make_class_pictures(own, class_pictures(own), base, 7);
  EXPECT_EQ(read_file(file), before);
}

TEST_F(ClassPicturesOf, NeedAFolderAndAPrompt) {
  const auto refused = [](SubjectKeys own, const std::string& key, bool reads_text = true) {
    const Error error = error_of([&] { own.check(reads_text, {.train_file = own.class_prompt}); });
    EXPECT_NE((error.parts().what + error.parts().where).find(key), std::string::npos) << error.what();
  };
  SubjectKeys own = keys(1);
  own.class_prompt.clear();
  refused(own, "class_prompt");
  own = keys(1);
  own.class_data_dir.clear();
  refused(own, "class_data_dir");
  refused(keys(1), "with_prior_preservation", /*reads_text=*/false);
  own = {};
  own.instance_data_dir = "dog";
  refused(own, "instance_prompt");
  own.instance_prompt = "a photo of sks dog";
  own.class_prompt = "rows.csv";  // stands for the train_file here
  refused(own, "train_file");
}

}  // namespace
}  // namespace deltaw
