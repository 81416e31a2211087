// Files of images as a denoiser sees them, and the noise that is added.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/image_sets.h"
#include "deltaw/batch.h"
#include "deltaw/data.h"
#include "deltaw/denoiser.h"
#include "deltaw/image.h"
#include "deltaw/slow_rows.h"

namespace deltaw::noise {

/// The model as a denoiser of pixels. Throws config.unsupported where it is another one: of text, of latents, one that
/// reads captions or says a variance too.
const Denoiser& as_denoiser(const Model& model);

/// What is made of an image, as diffusers' training scripts do with torchvision: the shorter side is brought to
/// `resolution`, a square of it cut out, perhaps turned left to right.
struct PictureForm {
  int64_t channels = 3;  // or 1: grey, as Pillow's mode L
  int64_t resolution = 0;
  bool center_crop = false;  // else a random part in training; elsewhere always the middle
  bool random_flip = false;
  Resample resample = Resample::bilinear;
};

/// Values in [-1, 1], [channels, resolution, resolution], of the image. `seed`: of what is drawn; none: nothing is.
void write_picture(const Image& image, const PictureForm& form, std::optional<uint64_t> seed, float* values);

/// The pictures of a run.
struct Pictures {
  Dataset rows;                  // each example's text names its image (data/image_sets.h)
  std::vector<int64_t> classes;  // of each row; empty: the model knows none
  PictureForm form;
};

/// How noise is drawn.
struct NoiseForm {
  int64_t num_train_timesteps = 1000;
  double noise_offset = 0;  // noise that a picture's channel shares, beside that of each of its pixels
};

/// Rows of the task: clean pictures, and the noise and the times that are drawn for them.
///
///   pixel_values   [rows, channels, height, width] float32, in [-1, 1]
///   noise          as pixel_values
///   timesteps      [rows] int64
///   class_labels   [rows] int64, where the model has classes
///
/// A row costs its pixels.
class NoisyRows : public RowSource {
 public:
  static constexpr const char* kName = "NoisyRows";
  virtual int64_t channels() const = 0;
  virtual int64_t side() const = 0;
  virtual bool has_classes() const = 0;
  int64_t cost(int64_t /*row*/) const override { return side() * side(); }
};

/// What is drawn follows from seed, epoch and the row: any batch size draws the same.
std::shared_ptr<const NoisyRows> training_rows(Pictures pictures, NoiseForm noise, LoaderOptions loader);

/// Each picture once for each of `timesteps`, with noise that follows from its place and the time alone.
std::shared_ptr<const NoisyRows> evaluation_rows(Pictures pictures, NoiseForm noise, std::vector<int64_t> timesteps,
                                                 LoaderOptions loader);

/// Noise in the place of pictures. All of it follows from the seed.
std::unique_ptr<NoisyRows> random_rows(const Denoiser& model, int64_t rows, int64_t num_train_timesteps, uint64_t seed);

}  // namespace deltaw::noise
