#include "tasks/noise/pictures.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <exception>
#include <mutex>
#include <random>

#include "core/hash.h"
#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "deltaw/family.h"

namespace deltaw::noise {
namespace {

// Streams of one run, apart from the order of its rows, which has the same seed.
constexpr uint64_t kPictureStream = 0x70696374, kNoiseStream = 0x6e6f6973;
constexpr uint64_t kEvaluationSeed = 0x6576616c;  // of every run: two runs are compared by the same noise

[[noreturn]] void refuse_model(const Model& model, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.unsupported", .what = what, .where = model.folder().string(), .fix = fix});
}

uint64_t of_row(const Draw& draw, uint64_t stream, int64_t row) {
  const uint64_t epoch = mix_seed(mix_seed(draw.seed, stream), static_cast<uint64_t>(draw.epoch));
  return mix_seed(epoch, static_cast<uint64_t>(row));
}

/// As Pillow's convert("L").
void make_grey(Image& image) {
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t* const p = image.pixels.data() + i;
    const auto grey = static_cast<uint8_t>((p[0] * 19595U + p[1] * 38470U + p[2] * 7471U + 0x8000U) >> 16);
    std::fill_n(p, 3, grey);
  }
}

/// As torchvision's Resize to one number: the shorter side has it, and the longer one is cut to a whole number.
Image with_shorter_side(const Image& image, int64_t side, Resample resample) {
  const int64_t shorter = std::min(image.height, image.width);
  if (shorter == side) return image;
  const auto scaled = [&](int64_t length) { return length == shorter ? side : side * length / shorter; };
  return resize(image, scaled(image.height), scaled(image.width), resample);
}

struct Corner {
  int64_t top = 0, left = 0;
};

/// Noise of one row, and the time it is added at; everything follows from `key`.
void draw_noise(const NoiseForm& form, uint64_t key, Tensor noise) {
  at::Generator generator = at::detail::createCPUGenerator(key);
  noise.normal_(0, 1, generator);
  if (form.noise_offset == 0) return;
  noise.add_(at::randn({noise.size(0), 1, 1}, generator), form.noise_offset);
}

int64_t draw_time(const NoiseForm& form, uint64_t key) {
  std::mt19937_64 engine(mix_seed(key, 1));
  return static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(form.num_train_timesteps)));
}

/// The parts of a batch, filled row by row.
struct Parts {
  Parts(int64_t count, int64_t channels, int64_t side)
      : pixels(at::empty({count, channels, side, side}, at::kFloat)), noise(at::empty_like(pixels)) {}

  Batch batch(const std::vector<int64_t>& positions, int64_t cost) {
    const auto count = static_cast<int64_t>(positions.size());
    Batch batch{.rows = count,
                .tensors = {{"pixel_values", std::move(pixels)},
                            {"noise", std::move(noise)},
                            {"timesteps", at::tensor(times, at::kLong)}},
                .positions = positions,
                .costs = std::vector<int64_t>(positions.size(), cost)};
    if (!classes.empty()) batch.tensors["class_labels"] = at::tensor(classes, at::kLong);
    return batch;
  }

  Tensor pixels, noise;
  std::vector<int64_t> times, classes;
};

/// What both sources of files do alike.
class PictureRows : public NoisyRows, public SlowRows {
 public:
  PictureRows(Pictures pictures, NoiseForm noise, LoaderOptions loader)
      : pictures_(std::move(pictures)), noise_(noise), loader_(loader) {}

  int64_t channels() const override { return pictures_.form.channels; }
  int64_t side() const override { return pictures_.form.resolution; }
  bool has_classes() const override { return !pictures_.classes.empty(); }
  LoaderOptions loader() const override { return loader_; }

  std::string fingerprint() const override {
    std::string names;
    for (const Example& row : pictures_.rows.rows) names += row.text + '\n';
    for (const int64_t label : pictures_.classes) names += std::to_string(label) + ' ';
    const PictureForm& form = pictures_.form;
    return fmt::format("{} pictures {} x {} x {}, center_crop {} random_flip {} resample {}, {} times, offset {}, {}",
                       pictures_.rows.rows.size(), form.channels, form.resolution, form.resolution, form.center_crop,
                       form.random_flip, static_cast<int>(form.resample), noise_.num_train_timesteps,
                       noise_.noise_offset, xxh128(names));
  }

 protected:
  /// A picture, several threads at work. `seeds`: of what is drawn for each; empty: nothing is.
  void write(const std::vector<int64_t>& rows, const std::vector<uint64_t>& seeds, Tensor& pixels) const {
    const int64_t numbers = channels() * side() * side();
    auto* const values = pixels.mutable_data_ptr<float>();
    std::exception_ptr problem;
    std::mutex guard;
    at::parallel_for(0, static_cast<int64_t>(rows.size()), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto place = static_cast<size_t>(i);
        try {
          write_picture(read(rows[place]), pictures_.form, seeds.empty() ? std::nullopt : std::optional(seeds[place]),
                        values + i * numbers);
        } catch (...) {
          const std::lock_guard lock(guard);
          if (!problem) problem = std::current_exception();
        }
      }
    });
    if (problem) std::rethrow_exception(problem);
  }

  Pictures pictures_;
  NoiseForm noise_;

 private:
  Image read(int64_t row) const {
    const Example& example = pictures_.rows.rows[static_cast<size_t>(row)];
    try {
      return files_.read(example.text);
    } catch (const Error& error) {
      ErrorParts parts = error.parts();
      parts.where += fmt::format(" (row {} of {})", example.line, pictures_.rows.file.string());
      throw Error(std::move(parts));
    }
  }

  data::ImageFiles files_;
  LoaderOptions loader_;
};

class TrainingRows final : public PictureRows {
 public:
  using PictureRows::PictureRows;

  int64_t size() const override { return static_cast<int64_t>(pictures_.rows.rows.size()); }

  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    Parts parts(static_cast<int64_t>(positions.size()), channels(), side());
    std::vector<uint64_t> seeds;
    for (size_t i = 0; i < positions.size(); ++i) {
      seeds.push_back(of_row(draw, kPictureStream, positions[i]));
      const uint64_t key = of_row(draw, kNoiseStream, positions[i]);
      draw_noise(noise_, key, parts.noise[static_cast<int64_t>(i)]);
      parts.times.push_back(draw_time(noise_, key));
      if (has_classes()) parts.classes.push_back(pictures_.classes[static_cast<size_t>(positions[i])]);
    }
    write(positions, seeds, parts.pixels);
    return parts.batch(positions, cost(0));
  }
};

class EvaluationRows final : public PictureRows {
 public:
  EvaluationRows(Pictures pictures, NoiseForm noise, std::vector<int64_t> timesteps, LoaderOptions loader)
      : PictureRows(std::move(pictures), noise, loader), timesteps_(std::move(timesteps)) {}

  int64_t size() const override { return static_cast<int64_t>(pictures_.rows.rows.size() * timesteps_.size()); }

  std::string fingerprint() const override {
    return fmt::format("{}, at {}", PictureRows::fingerprint(), fmt::join(timesteps_, " "));
  }

  Batch collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const override {
    const auto each = static_cast<int64_t>(timesteps_.size());
    Parts parts(static_cast<int64_t>(positions.size()), channels(), side());
    std::vector<int64_t> rows;
    for (size_t i = 0; i < positions.size(); ++i) {
      const int64_t row = positions[i] / each, time = timesteps_[static_cast<size_t>(positions[i] % each)];
      const uint64_t key = mix_seed(mix_seed(kEvaluationSeed, static_cast<uint64_t>(row)), static_cast<uint64_t>(time));
      draw_noise(noise_, key, parts.noise[static_cast<int64_t>(i)]);
      parts.times.push_back(time);
      if (has_classes()) parts.classes.push_back(pictures_.classes[static_cast<size_t>(row)]);
      rows.push_back(row);
    }
    write(rows, {}, parts.pixels);
    return parts.batch(positions, cost(0));
  }

 private:
  std::vector<int64_t> timesteps_;
};

class RandomRows final : public NoisyRows {
 public:
  RandomRows(const Denoiser& model, int64_t rows, NoiseForm noise, uint64_t seed)
      : channels_(model.in_channels()),
        side_(model.sample_height() > 0 ? model.sample_height() : 64),
        classes_(model.num_class_embeds()),
        rows_(rows),
        noise_(noise),
        seed_(seed) {}

  int64_t size() const override { return rows_; }
  int64_t channels() const override { return channels_; }
  int64_t side() const override { return side_; }
  bool has_classes() const override { return classes_ > 0; }
  std::string fingerprint() const override { return "noise"; }

  Batch collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const override {
    Parts parts(static_cast<int64_t>(positions.size()), channels_, side_);
    for (size_t i = 0; i < positions.size(); ++i) {
      const uint64_t key = mix_seed(seed_, static_cast<uint64_t>(positions[i]));
      const auto place = static_cast<int64_t>(i);
      draw_noise(noise_, key, parts.noise[place]);
      draw_noise(noise_, mix_seed(key, 2), parts.pixels[place]);
      parts.pixels[place].clamp_(-1, 1);
      parts.times.push_back(draw_time(noise_, key));
      if (classes_ > 0)
        parts.classes.push_back(static_cast<int64_t>(mix_seed(key, 3) % static_cast<uint64_t>(classes_)));
    }
    return parts.batch(positions, cost(0));
  }

 private:
  int64_t channels_, side_, classes_, rows_;
  NoiseForm noise_;
  uint64_t seed_;
};

}  // namespace

const Denoiser& as_denoiser(const Model& model) {
  const auto* denoiser = dynamic_cast<const Denoiser*>(&model);
  if (!denoiser) {
    refuse_model(model, "the model tells no noise from a picture", "use the checkpoint of a UNet2DModel of diffusers");
  }
  if (denoiser->cross_attention_dim() > 0) {
    refuse_model(model, "the model reads captions beside pictures, which is not implemented",
                 "use a UNet2DModel: one of pictures alone, or of classes");
  }
  const int64_t channels = denoiser->in_channels();
  if (channels != 1 && channels != 3) {
    refuse_model(model,
                 fmt::format("the model reads pictures of {} channels: latents, which are not implemented", channels),
                 "use a model of grey (1) or coloured (3) pictures");
  }
  if (denoiser->out_channels() != channels) {
    refuse_model(
        model,
        fmt::format("the model reads {} channels and says {}: a variance that it has learned is not implemented",
                    channels, denoiser->out_channels()),
        "use a model with as many out_channels as in_channels");
  }
  return *denoiser;
}

void write_picture(const Image& original, const PictureForm& form, std::optional<uint64_t> seed, float* values) {
  static const std::array<float, 256> levels = [] {
    std::array<float, 256> table{};
    for (size_t i = 0; i < table.size(); ++i) table[i] = (static_cast<float>(i) / 255.0F - 0.5F) / 0.5F;
    return table;
  }();
  Image grey;
  if (form.channels == 1) {
    grey = original;
    make_grey(grey);
  }
  const int64_t side = form.resolution;
  const Image image = with_shorter_side(form.channels == 1 ? grey : original, side, form.resample);
  Corner corner{(image.height - side) / 2, (image.width - side) / 2};
  bool flips = false;
  if (seed) {
    std::mt19937_64 engine(*seed);
    const auto place = [&](int64_t length) {
      return static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(length - side + 1)));
    };
    if (!form.center_crop) corner = {place(image.height), place(image.width)};
    flips = form.random_flip && (mix_seed(*seed, 1) & 1) != 0;
  }
  for (int64_t c = 0; c < form.channels; ++c) {
    for (int64_t y = 0; y < side; ++y) {
      const uint8_t* const row = image.pixels.data() + ((corner.top + y) * image.width + corner.left) * 3;
      for (int64_t x = 0; x < side; ++x) *values++ = levels[row[(flips ? side - 1 - x : x) * 3 + c]];
    }
  }
}

std::shared_ptr<const NoisyRows> training_rows(Pictures pictures, NoiseForm noise, LoaderOptions loader) {
  return std::make_shared<TrainingRows>(std::move(pictures), noise, loader);
}

std::shared_ptr<const NoisyRows> evaluation_rows(Pictures pictures, NoiseForm noise, std::vector<int64_t> timesteps,
                                                 LoaderOptions loader) {
  return std::make_shared<EvaluationRows>(std::move(pictures), noise, std::move(timesteps), loader);
}

std::unique_ptr<NoisyRows> random_rows(const Denoiser& model, int64_t rows, int64_t num_train_timesteps,
                                       uint64_t seed) {
  return std::make_unique<RandomRows>(model, rows, NoiseForm{.num_train_timesteps = num_train_timesteps}, seed);
}

}  // namespace deltaw::noise
