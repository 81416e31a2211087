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
#include "tasks/noise/features.h"

namespace deltaw::noise {

/// The model as a denoiser. Throws config.unsupported where it is another one: of text, or one that says a variance
/// too.
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

/// Whether nothing of a picture of this form is drawn: it is the same in every epoch, and in evaluation.
bool is_fixed(const Image& image, const PictureForm& form);

/// Values in [-1, 1], [channels, resolution, resolution], of the image. `seed`: of what is drawn; none: nothing is.
void write_picture(const Image& image, const PictureForm& form, std::optional<uint64_t> seed, float* values);

/// Pictures of one kind.
struct Pictures {
  Dataset rows = {};                                    // each example's text names its image (data/image_sets.h)
  std::vector<int64_t> classes = {};                    // of each row; empty: the model knows none
  std::vector<std::vector<std::string>> captions = {};  // of each row, one at least; empty: the model reads none
  PictureForm form = {};
};

/// How noise is drawn.
struct NoiseForm {
  int64_t num_train_timesteps = 1000;
  double noise_offset = 0;  // noise that a picture's channel shares, beside that of each of its pixels
};

/// Rows of the task: clean pictures or their latents, and the noise and the times that are drawn for them.
///
///   pixel_values            [n, channels, height, width] float32, in [-1, 1]; or
///   latents                 the same, drawn anew for each epoch; in evaluation the means of their distributions
///   noise                   alike
///   timesteps               [n] int64
///   class_labels            [n] int64, where the model has classes
///   encoder_hidden_states   [n, tokens, width] float32, where it reads captions; or
///   input_ids               [n, tokens] int64, where it makes states of them itself (Denoiser::text_encoder)
///
/// n is the number of rows, or twice that where each row has a picture of its class too (with_prior()): those follow
/// behind all others. A row costs what the model sees of its picture.
class NoisyRows : public RowSource {
 public:
  static constexpr const char* kName = "NoisyRows";
  virtual int64_t channels() const = 0;
  virtual int64_t side() const = 0;
  virtual bool has_classes() const = 0;
  virtual int64_t text_width() const = 0;  // 0: there are no captions
  virtual bool with_prior() const { return false; }
  int64_t cost(int64_t /*row*/) const override { return side() * side() * (with_prior() ? 2 : 1); }
};

/// The clean pictures or latents of a batch.
const Tensor& clean_of(const Batch& batch);

/// What rows are made of.
struct RowParts {
  Pictures pictures = {};
  NoiseForm noise = {};
  LoaderOptions loader = {};
  std::shared_ptr<const Features> features = {};  // of latents and captions; null: pixels alone
};

/// What is drawn follows from seed, epoch and the row: any batch size draws the same. With pictures of a class
/// (`prior`) there are as many rows as the larger set has, and each has one of either, counted from the first again.
std::shared_ptr<const NoisyRows> training_rows(RowParts parts, Pictures prior = {});

/// Each picture once for each of `timesteps`, with noise that follows from its place and the time alone, and its first
/// caption.
std::shared_ptr<const NoisyRows> evaluation_rows(RowParts parts, std::vector<int64_t> timesteps);

/// Noise in the place of pictures. All of it follows from the seed.
std::unique_ptr<NoisyRows> random_rows(const Denoiser& model, int64_t rows, int64_t num_train_timesteps, uint64_t seed);

}  // namespace deltaw::noise
