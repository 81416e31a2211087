// Pictures from a denoiser.
//
//   ImageGenerator generator({.model = model, .scheduler = scheduler}, {.num_images = 16});
//   write_png("0.png", generator.run()[0]);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/denoiser.h"
#include "deltaw/image.h"
#include "deltaw/noise_scheduler.h"
#include "deltaw/options.h"
#include "deltaw/pipeline.h"
#include "deltaw/progress.h"
#include "deltaw/task_reader.h"

namespace deltaw {

struct ImageOptions {
  int64_t num_images = 1;  // more where there are more prompts
  SamplerOptions sampler;
  std::vector<std::string> prompts;  // of each picture, from the first again where they are fewer
  std::string negative_prompt;       // what guidance leads away from
  double guidance_scale = 7.5;
  std::vector<std::string> class_labels;  // numbers; of each picture, from the first again where they are fewer
  int64_t seed = 42;

  /// All but the seed and the prompts, which other ways to generate have too.
  void fields(FieldVisitor& f);
  /// Those of them that say how a picture is drawn, and not what: the sampler's and those of guidance.
  void sampling_fields(FieldVisitor& f);
};

/// What pictures are made of. All of it must outlive its generator.
struct ImageSource {
  const Denoiser& model;
  const Adapter* adapter = nullptr;
  const NoiseScheduler& scheduler;
  int64_t resolution = 0;                    // pixels of a side; 0: the model's sample_size
  const Autoencoder* autoencoder = nullptr;  // of its latents; null: it sees pixels
  const PromptEncoder* prompts = nullptr;    // null: it reads no text
};

/// What a task's reader is, too, whose models make pictures: `class Reader : public TaskReader, public MakesImages`.
class MakesImages {
 public:
  virtual ~MakesImages() = default;
  /// Of a model that is asked (TaskReader::begin_asking).
  virtual ImageSource image_source(const AskedModel& asked) = 0;
};

/// A picture follows from the seed, its place, its class and its prompt alone: neither the number of pictures nor that
/// of threads changes a byte.
///
/// With a guidance_scale g above 1 a model that reads texts is asked twice in each step, with the prompt and with the
/// negative one, and says negative + g (prompt - negative): Ho and Salimans 2022, arXiv:2207.12598.
class ImageGenerator {
 public:
  /// Throws config.out-of-range for classes that the model does not know, config.missing-key where nobody says how
  /// large pictures are or what they show, config.conflict for prompts that nothing reads, and what make_sampler
  /// throws.
  ImageGenerator(ImageSource source, ImageOptions options);

  /// `progress` counts the steps of all pictures. Throws numeric.non-finite for what the model makes of one.
  std::vector<Image> run(const Progress& progress = {}) const;

  /// The picture at a place, which is what run() makes of it.
  Image picture(int64_t place) const;

  /// What a picture has become after a step, [1, channels, rows, columns]. False ends it.
  using Watch = std::function<bool(size_t step, const Tensor& sample)>;
  /// The picture at a place, of noise that is given: [1, in_channels(), rows, columns] from N(0, 1), such as a pipeline
  /// of diffusers begins with. Throws as run().
  Image from_noise(const Tensor& noise, int64_t picture, const Watch& watch = {}) const;

  int64_t pictures() const { return pictures_; }
  /// The class of a picture; -1 where the model knows none.
  int64_t class_of(int64_t picture) const;
  /// Its prompt; null where the model reads none.
  const std::string* prompt_of(int64_t picture) const;
  /// Of one picture.
  int64_t steps() const;

 private:
  void settle_size();
  void settle_texts();
  Tensor said(const Tensor& sample, int64_t timestep, int64_t picture, FixedUpdates* fixed) const;
  Image make(const Tensor& noise, int64_t picture, at::Generator* generator, FixedUpdates* fixed,
             const Watch& watch) const;
  Image drawn(int64_t picture, FixedUpdates* fixed, const Watch& watch) const;

  ImageSource source_;
  ImageOptions options_;
  int64_t pictures_ = 0;
  std::vector<int64_t> classes_;
  Tensor texts_, negative_;         // [prompts, tokens, width] and [1, tokens, width]; undefined where there are none
  int64_t height_ = 0, width_ = 0;  // of what the model sees
};

inline constexpr const char* kContactSheet = "samples.png";

/// The name of the file of a picture: 00000.png.
std::string image_name(int64_t place);
/// The pictures in such files, and all of them side by side in kContactSheet. Throws io.*.
void write_images(const std::vector<Image>& images, const std::filesystem::path& folder);

}  // namespace deltaw
