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
constexpr uint64_t kLatentStream = 0x6c617465, kCaptionStream = 0x63617074, kPriorStream = 0x7072696f;
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

/// What is drawn for a picture; none in evaluation.
struct PictureSeeds {
  uint64_t crop = 0, latent = 0, caption = 0;
};

/// The parts of a batch, filled picture by picture.
struct Parts {
  Parts(int64_t count, int64_t channels, int64_t side)
      : clean(at::empty({count, channels, side, side}, at::kFloat)), noise(at::empty_like(clean)) {}

  Batch batch(const char* name, const std::vector<int64_t>& positions, int64_t cost) {
    const auto count = static_cast<int64_t>(positions.size());
    Batch batch{
        .rows = count,
        .tensors = {{name, std::move(clean)}, {"noise", std::move(noise)}, {"timesteps", at::tensor(times, at::kLong)}},
        .positions = positions,
        .costs = std::vector<int64_t>(positions.size(), cost)};
    if (!classes.empty()) batch.tensors["class_labels"] = at::tensor(classes, at::kLong);
    if (!texts.empty()) batch.tensors[texts[0].dim() == 1 ? "input_ids" : "encoder_hidden_states"] = at::stack(texts);
    return batch;
  }

  Tensor clean, noise;
  std::vector<int64_t> times, classes;
  std::vector<Tensor> texts;  // of each caption its states, or its ids
};

/// What both sources of files do alike.
class PictureRows : public NoisyRows, public SlowRows {
 public:
  explicit PictureRows(RowParts parts) : parts_(std::move(parts)) {}

  int64_t channels() const override {
    return of_latents() ? parts_.features->autoencoder().latent_channels() : form().channels;
  }
  int64_t side() const override {
    return of_latents() ? form().resolution / parts_.features->autoencoder().factor() : form().resolution;
  }
  bool has_classes() const override { return !parts_.pictures.classes.empty(); }
  int64_t text_width() const override {
    return parts_.pictures.captions.empty() ? 0 : parts_.features->prompts().width();
  }
  LoaderOptions loader() const override { return parts_.loader; }

  std::string fingerprint() const override {
    return fmt::format("{}, {} times, offset {}{}", print_of(parts_.pictures), parts_.noise.num_train_timesteps,
                       parts_.noise.noise_offset, of_latents() ? ", latents" : "");
  }

 protected:
  const Pictures& pictures() const { return parts_.pictures; }
  const NoiseForm& noise() const { return parts_.noise; }
  const char* clean_name() const { return of_latents() ? "latents" : "pixel_values"; }

  static std::string print_of(const Pictures& pictures) {
    std::string names;
    for (const Example& row : pictures.rows.rows) names += row.text + '\n';
    for (const int64_t label : pictures.classes) names += std::to_string(label) + ' ';
    for (const auto& captions : pictures.captions) names += fmt::format("{}\n", captions);
    const PictureForm& form = pictures.form;
    return fmt::format("{} pictures {} x {} x {}, center_crop {} random_flip {} resample {}, {}",
                       pictures.rows.rows.size(), form.channels, form.resolution, form.resolution, form.center_crop,
                       form.random_flip, static_cast<int>(form.resample), xxh128(names));
  }

  /// Writes pictures of one kind to `clean`, [rows, channels, side, side], several threads at work, and returns the
  /// states or ids of their captions. `seeds`: of each; empty: nothing is drawn.
  std::vector<Tensor> write(const Pictures& set, const std::vector<int64_t>& rows,
                            const std::vector<PictureSeeds>& seeds, const Tensor& clean) const {
    std::vector<Tensor> texts(set.captions.empty() ? 0 : rows.size());
    std::exception_ptr problem;
    std::mutex guard;
    at::parallel_for(0, static_cast<int64_t>(rows.size()), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto place = static_cast<size_t>(i);
        const PictureSeeds* own = seeds.empty() ? nullptr : &seeds[place];
        try {
          Tensor target = clean.select(0, i);
          write_one(set, rows[place], own, target);
          if (!texts.empty()) texts[place] = parts_.features->text(caption_of(set, rows[place], own));
        } catch (...) {
          const std::lock_guard lock(guard);
          if (!problem) problem = std::current_exception();
        }
      }
    });
    if (problem) std::rethrow_exception(problem);
    return texts;
  }

 private:
  bool of_latents() const { return parts_.features && parts_.features->has_latents(); }
  const PictureForm& form() const { return parts_.pictures.form; }

  static const std::string& caption_of(const Pictures& set, int64_t row, const PictureSeeds* seeds) {
    const std::vector<std::string>& captions = set.captions[static_cast<size_t>(row)];
    if (!seeds || captions.size() == 1) return captions.front();
    std::mt19937_64 engine(seeds->caption);
    return captions[data::draw_below(engine, captions.size())];
  }

  void write_one(const Pictures& set, int64_t row, const PictureSeeds* seeds, Tensor& clean) const {
    const std::optional<uint64_t> crop = seeds ? std::optional(seeds->crop) : std::nullopt;
    if (!of_latents()) {
      write_picture(read(set, row), set.form, crop, clean.mutable_data_ptr<float>());
      return;
    }
    // In training it may be drawn, and then is another picture than in evaluation.
    const std::string name = (seeds ? "training " : "evaluation ") + set.rows.rows[static_cast<size_t>(row)].text;
    const LatentDistribution latents = parts_.features->latents(name, [&]() -> Features::Picture {
      const Image image = read(set, row);
      const PictureForm& form = set.form;
      Features::Picture picture{.pixels = at::empty({form.channels, form.resolution, form.resolution}, at::kFloat),
                                .fixed = !seeds || is_fixed(image, form)};
      write_picture(image, form, crop, picture.pixels.mutable_data_ptr<float>());
      return picture;
    });
    clean.copy_(latents.mean);
    if (!seeds) return;
    at::Generator generator = at::detail::createCPUGenerator(seeds->latent);
    clean.add_(latents.deviation * at::randn(clean.sizes(), generator));
  }

  Image read(const Pictures& set, int64_t row) const {
    const Example& example = set.rows.rows[static_cast<size_t>(row)];
    try {
      return files_.read(example.text);
    } catch (const Error& error) {
      ErrorParts parts = error.parts();
      parts.where += fmt::format(", row {} of {}", example.line, set.rows.file.string());
      throw Error(std::move(parts));
    }
  }

  RowParts parts_;
  data::ImageFiles files_;
};

class TrainingRows final : public PictureRows {
 public:
  TrainingRows(RowParts parts, Pictures prior) : PictureRows(std::move(parts)), prior_(std::move(prior)) {}

  int64_t size() const override { return std::max(count_of(pictures()), count_of(prior_)); }
  bool with_prior() const override { return count_of(prior_) > 0; }

  std::string fingerprint() const override {
    const std::string own = PictureRows::fingerprint();
    return with_prior() ? fmt::format("{}, prior {}", own, print_of(prior_)) : own;
  }

  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override {
    const auto count = static_cast<int64_t>(positions.size());
    Parts parts(with_prior() ? 2 * count : count, channels(), side());
    add(pictures(), positions, draw, parts, 0);
    if (with_prior()) {
      Draw own = draw;
      own.seed = mix_seed(draw.seed, kPriorStream);
      add(prior_, positions, own, parts, count);
    }
    return parts.batch(clean_name(), positions, cost(0));
  }

 private:
  static int64_t count_of(const Pictures& set) { return static_cast<int64_t>(set.rows.rows.size()); }

  void add(const Pictures& set, const std::vector<int64_t>& positions, const Draw& draw, Parts& parts,
           int64_t first) const {
    std::vector<PictureSeeds> seeds;
    std::vector<int64_t> rows;
    for (const int64_t position : positions) {
      seeds.push_back({.crop = of_row(draw, kPictureStream, position),
                       .latent = of_row(draw, kLatentStream, position),
                       .caption = of_row(draw, kCaptionStream, position)});
      const uint64_t key = of_row(draw, kNoiseStream, position);
      draw_noise(noise(), key, parts.noise[first + static_cast<int64_t>(rows.size())]);
      parts.times.push_back(draw_time(noise(), key));
      rows.push_back(position % count_of(set));
      if (has_classes()) parts.classes.push_back(set.classes[static_cast<size_t>(rows.back())]);
    }
    const Tensor clean = parts.clean.narrow(0, first, static_cast<int64_t>(rows.size()));
    for (Tensor& text : write(set, rows, seeds, clean)) parts.texts.push_back(std::move(text));
  }

  Pictures prior_;
};

class EvaluationRows final : public PictureRows {
 public:
  EvaluationRows(RowParts parts, std::vector<int64_t> timesteps)
      : PictureRows(std::move(parts)), timesteps_(std::move(timesteps)) {}

  int64_t size() const override { return static_cast<int64_t>(pictures().rows.rows.size() * timesteps_.size()); }

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
      draw_noise(noise(), key, parts.noise[static_cast<int64_t>(i)]);
      parts.times.push_back(time);
      if (has_classes()) parts.classes.push_back(pictures().classes[static_cast<size_t>(row)]);
      rows.push_back(row);
    }
    parts.texts = write(pictures(), rows, {}, parts.clean);
    return parts.batch(clean_name(), positions, cost(0));
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
        text_width_(model.cross_attention_dim()),
        vocab_size_(model.text_encoder() ? model.text_encoder()->vocab_size() : 0),
        tokens_(model.text_encoder() ? model.text_encoder()->max_positions() : kTokens),
        rows_(rows),
        noise_(noise),
        seed_(seed) {}

  int64_t size() const override { return rows_; }
  int64_t channels() const override { return channels_; }
  int64_t side() const override { return side_; }
  bool has_classes() const override { return classes_ > 0; }
  int64_t text_width() const override { return text_width_; }
  std::string fingerprint() const override { return "noise"; }

  Batch collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const override {
    Parts parts(static_cast<int64_t>(positions.size()), channels_, side_);
    for (size_t i = 0; i < positions.size(); ++i) {
      const uint64_t key = mix_seed(seed_, static_cast<uint64_t>(positions[i]));
      const auto place = static_cast<int64_t>(i);
      draw_noise(noise_, key, parts.noise[place]);
      draw_noise(noise_, mix_seed(key, 2), parts.clean[place]);
      parts.clean[place].clamp_(-1, 1);
      parts.times.push_back(draw_time(noise_, key));
      if (classes_ > 0)
        parts.classes.push_back(static_cast<int64_t>(mix_seed(key, 3) % static_cast<uint64_t>(classes_)));
      if (text_width_ == 0) continue;
      at::Generator generator = at::detail::createCPUGenerator(mix_seed(key, 4));
      parts.texts.push_back(vocab_size_ > 0 ? at::randint(vocab_size_, {tokens_}, generator, at::kLong)
                                            : at::randn({tokens_, text_width_}, generator));
    }
    return parts.batch("pixel_values", positions, cost(0));
  }

 private:
  static constexpr int64_t kTokens = 77;  // of a caption as CLIP's encoders read it

  int64_t channels_, side_, classes_, text_width_, vocab_size_, tokens_, rows_;
  NoiseForm noise_;
  uint64_t seed_;
};

}  // namespace

const Denoiser& as_denoiser(const Model& model) {
  const auto* denoiser = dynamic_cast<const Denoiser*>(&model);
  if (!denoiser) {
    refuse_model(model, "the model tells no noise from a picture", "use the checkpoint of a UNet2DModel of diffusers");
  }
  const int64_t channels = denoiser->in_channels();
  if (denoiser->out_channels() != channels) {
    refuse_model(
        model,
        fmt::format("the model reads {} channels and says {}: a variance that it has learned, or a picture that it is "
                    "told more of, is not implemented",
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

bool is_fixed(const Image& image, const PictureForm& form) {
  return !form.random_flip && (form.center_crop || image.height == image.width);
}

const Tensor& clean_of(const Batch& batch) {
  return batch.tensors.contains("latents") ? batch["latents"] : batch["pixel_values"];
}

std::shared_ptr<const NoisyRows> training_rows(RowParts parts, Pictures prior) {
  return std::make_shared<TrainingRows>(std::move(parts), std::move(prior));
}

std::shared_ptr<const NoisyRows> evaluation_rows(RowParts parts, std::vector<int64_t> timesteps) {
  return std::make_shared<EvaluationRows>(std::move(parts), std::move(timesteps));
}

std::unique_ptr<NoisyRows> random_rows(const Denoiser& model, int64_t rows, int64_t num_train_timesteps,
                                       uint64_t seed) {
  return std::make_unique<RandomRows>(model, rows, NoiseForm{.num_train_timesteps = num_train_timesteps}, seed);
}

}  // namespace deltaw::noise
