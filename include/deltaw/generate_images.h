// Pictures from a denoiser.
//
//   ImageGenerator generator({.model = model, .scheduler = scheduler}, {.num_images = 16});
//   write_png("0.png", generator.run()[0]);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/denoiser.h"
#include "deltaw/image.h"
#include "deltaw/noise_scheduler.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"
#include "deltaw/task_reader.h"

namespace deltaw {

struct ImageOptions {
  int64_t num_images = 1;
  SamplerOptions sampler;
  std::vector<std::string> class_labels;  // numbers; of each picture, from the first again where they are fewer
  int64_t seed = 42;

  /// All but the seed, which other ways to generate have too.
  void fields(FieldVisitor& f);
};

/// What pictures are made of. All of it must outlive its generator.
struct ImageSource {
  const Denoiser& model;  // of pixels
  const Adapter* adapter = nullptr;
  const NoiseScheduler& scheduler;
  int64_t resolution = 0;  // pixels of a side; 0: the model's sample_size
};

/// What a task's reader is, too, whose models make pictures: `class Reader : public TaskReader, public MakesImages`.
class MakesImages {
 public:
  virtual ~MakesImages() = default;
  /// Of a model that is asked (TaskReader::begin_asking).
  virtual ImageSource image_source(const AskedModel& asked) const = 0;
};

/// A picture follows from the seed, its place and its class alone: neither the number of pictures nor that of threads
/// changes a byte.
class ImageGenerator {
 public:
  /// Throws config.out-of-range for classes that the model does not know, config.missing-key where nobody says how
  /// large pictures are, and what make_sampler throws.
  ImageGenerator(ImageSource source, ImageOptions options);

  /// `progress` counts the steps of all pictures. Throws numeric.non-finite for what the model makes of one.
  std::vector<Image> run(const Progress& progress = {}) const;

  /// The class of a picture; -1 where the model knows none.
  int64_t class_of(int64_t picture) const;
  /// Of one picture.
  int64_t steps() const;

 private:
  ImageSource source_;
  ImageOptions options_;
  std::vector<int64_t> classes_;
  int64_t height_ = 0, width_ = 0;
};

}  // namespace deltaw
