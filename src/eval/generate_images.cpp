#include "deltaw/generate_images.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include "core/mix_seed.h"
#include "deltaw/error.h"
#include "ops/fixed_updates.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

constexpr uint64_t kStream = 0x67656e72;  // apart from the draws of training, whose seed may be the same

/// Of values in [-1, 1], [1, 1 or 3, height, width].
Image image_of(const Tensor& sample) {
  const Tensor bytes = sample.div(2).add(0.5).clamp(0, 1).mul(255).round().to(at::kByte);
  const Tensor colours = bytes[0].permute({1, 2, 0}).expand({-1, -1, 3});
  return {.height = sample.size(2), .width = sample.size(3), .pixels = ops::host_values<uint8_t>(colours)};
}

at::Generator generator_of(int64_t seed, int64_t picture) {
  return at::detail::createCPUGenerator(
      mix_seed(mix_seed(static_cast<uint64_t>(seed), kStream), static_cast<uint64_t>(picture)));
}

int64_t class_number(const std::string& text, int64_t classes) {
  int64_t number = -1;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem == std::errc() && end == text.data() + text.size() && number >= 0 && number < classes) return number;
  throw Error({.id = "config.out-of-range",
               .what = fmt::format("'{}' is no class of the model", text),
               .where = "key 'class_labels'",
               .fix = classes > 0 ? fmt::format("give numbers from 0 to {}: --class_labels 0,1,2", classes - 1)
                                  : "leave it out: the model knows no classes"});
}

}  // namespace

void ImageOptions::fields(FieldVisitor& f) {
  f.field("num_images", num_images, "Pictures to make, at least one of each prompt.", at_least(1));
  f.field("class_labels", class_labels,
          "Classes of the pictures, by number, from the first again where they are fewer; empty: each class of the "
          "model in turn.");
  sampling_fields(f);
}

void ImageOptions::sampling_fields(FieldVisitor& f) {
  sampler.fields(f);
  f.field("negative_prompt", negative_prompt, "What pictures of prompts are led away from.");
  f.field("guidance_scale", guidance_scale,
          "How far a picture is led from the negative_prompt to its prompt; 1 or less: the prompt alone is read, in "
          "half of the time.",
          at_least(0));
}

ImageGenerator::ImageGenerator(ImageSource source, ImageOptions options)
    : source_(source), options_(std::move(options)), pictures_(options_.num_images) {
  settle_size();
  for (const std::string& text : options_.class_labels) {
    classes_.push_back(class_number(text, source_.model.num_class_embeds()));
  }
  make_sampler(source_.scheduler, options_.sampler);  // refuses what cannot be, before anything takes long
  settle_texts();
}

void ImageGenerator::settle_size() {
  const Denoiser& model = source_.model;
  const int64_t factor = source_.autoencoder ? source_.autoencoder->factor() : 1;
  if (source_.resolution % factor != 0) {
    throw Error({.id = "data.image-size",
                 .what = fmt::format("{} pixels are no whole number of latents", source_.resolution),
                 .where = "key 'resolution'",
                 .fix = fmt::format("give a multiple of {}", factor)});
  }
  height_ = source_.resolution > 0 ? source_.resolution / factor : model.sample_height();
  width_ = source_.resolution > 0 ? source_.resolution / factor : model.sample_width();
  if (height_ > 0 && width_ > 0) return;
  throw Error({.id = "config.missing-key",
               .what = "the model's config.json names no sample_size",
               .where = model.folder().string(),
               .fix = "give the pixels of a side: --resolution 64"});
}

void ImageGenerator::settle_texts() {
  const std::vector<std::string>& prompts = options_.prompts;
  if (!source_.prompts) {
    const char* given = !prompts.empty() ? "prompt" : !options_.negative_prompt.empty() ? "negative_prompt" : nullptr;
    if (!given) return;
    throw Error({.id = "config.conflict",
                 .what = fmt::format("the model reads no text, and '{}' means nothing to it", given),
                 .where = source_.model.folder().string(),
                 .fix = fmt::format("leave {} out", given)});
  }
  if (prompts.empty()) {
    throw Error({.id = "config.missing-key",
                 .what = "nobody says what the pictures are to show",
                 .where = "key 'prompt'",
                 .fix = "say it: --prompt \"a photo of a dog\""});
  }
  pictures_ = std::max(pictures_, static_cast<int64_t>(prompts.size()));
  texts_ = source_.prompts->encode(prompts, source_.adapter);
  if (options_.guidance_scale > 1) negative_ = source_.prompts->encode({options_.negative_prompt}, source_.adapter);
}

int64_t ImageGenerator::class_of(int64_t picture) const {
  const int64_t known = source_.model.num_class_embeds();
  if (known == 0) return -1;
  return classes_.empty() ? picture % known : classes_[static_cast<size_t>(picture) % classes_.size()];
}

const std::string* ImageGenerator::prompt_of(int64_t picture) const {
  if (options_.prompts.empty()) return nullptr;
  return &options_.prompts[static_cast<size_t>(picture) % options_.prompts.size()];
}

int64_t ImageGenerator::steps() const {
  return static_cast<int64_t>(make_sampler(source_.scheduler, options_.sampler)->timesteps().size());
}

/// What the model says of a sample, in the type of the model; with guidance in float32.
Tensor ImageGenerator::said(const Tensor& sample, int64_t timestep, int64_t picture, FixedUpdates* fixed) const {
  const Denoiser& model = source_.model;
  Call call{.adapter = source_.adapter, .fixed = fixed};
  const int64_t rows = negative_.defined() ? 2 : 1;
  Condition condition;
  if (class_of(picture) >= 0) condition.class_labels = at::full({rows}, class_of(picture), at::kLong);
  if (texts_.defined()) condition.encoder_hidden_states = texts_.narrow(0, picture % texts_.size(0), 1);
  if (rows == 2) condition.encoder_hidden_states = at::cat({negative_, condition.encoder_hidden_states});
  const Tensor seen = sample.to(model.dtype()).expand({rows, -1, -1, -1});
  const Tensor both = model.denoise(seen, at::full({rows}, timestep, at::kLong), condition, call);
  if (rows == 1) return both;
  const Tensor wide = both.scalar_type() == at::kDouble ? both : both.to(at::kFloat);
  const Tensor negative = wide.narrow(0, 0, 1);
  return negative + options_.guidance_scale * (wide.narrow(0, 1, 1) - negative);
}

Image ImageGenerator::make(const Tensor& noise, int64_t picture, at::Generator* generator, FixedUpdates* fixed,
                           const Watch& watch) const {
  const auto sampler = make_sampler(source_.scheduler, options_.sampler);
  Tensor sample = noise;
  for (size_t step = 0; step < sampler->timesteps().size(); ++step) {
    const Tensor output = said(sample, sampler->timesteps()[step], picture, fixed);
    const bool adds = sampler->adds_noise(step);
    sample = sampler->step(step, output, sample, adds ? at::randn(noise.sizes(), *generator) : Tensor());
    if (watch && !watch(step, sample)) return {};
  }
  if (source_.autoencoder) {
    Call call;
    sample = source_.autoencoder->decode(sample, call);
  }
  if (!ops::host_flag(sample.isfinite().all())) {
    throw Error({.id = "numeric.non-finite",
                 .what = fmt::format("picture {} has values that are no numbers", picture),
                 .where = source_.model.folder().string(),
                 .fix = "load the model in float32, or take another --scheduler"});
  }
  return image_of(sample);
}

Image ImageGenerator::drawn(int64_t picture, FixedUpdates* fixed, const Watch& watch) const {
  at::Generator generator = generator_of(options_.seed, picture);
  const Tensor noise = at::randn({1, source_.model.in_channels(), height_, width_}, generator);
  return make(noise, picture, &generator, fixed, watch);
}

Image ImageGenerator::picture(int64_t place) const {
  const at::NoGradGuard no_grad;
  return drawn(place, nullptr, {});
}

Image ImageGenerator::from_noise(const Tensor& noise, int64_t picture, const Watch& watch) const {
  const at::NoGradGuard no_grad;
  at::Generator generator = generator_of(options_.seed, picture);
  return make(noise, picture, &generator, nullptr, watch);
}

std::vector<Image> ImageGenerator::run(const Progress& progress) const {
  const int64_t count = pictures_, steps_of_all = count * steps();
  std::vector<Image> images(static_cast<size_t>(count));
  std::mutex guard;
  std::exception_ptr problem;
  int64_t done = 0;
  const Watch step_done = [&](size_t /*step*/, const Tensor& /*sample*/) {
    const std::lock_guard lock(guard);
    ++done;
    if (progress && !problem) progress(done, steps_of_all);
    return !problem;
  };
  const auto make_some = [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    try {
      std::optional<FixedUpdates> fixed;
      if (source_.adapter) fixed.emplace(*source_.adapter);
      for (int64_t picture = begin; picture < end; ++picture) {
        images[static_cast<size_t>(picture)] = drawn(picture, fixed ? &*fixed : nullptr, step_done);
      }
    } catch (...) {
      const std::lock_guard lock(guard);
      if (!problem) problem = std::current_exception();
    }
  };
  // One picture a pass, so that none depends on its neighbours. Where there are too few for all threads, a picture has
  // them all.
  if (count >= at::get_num_threads()) {
    at::parallel_for(0, count, /*grain_size=*/1, make_some);
  } else {
    make_some(0, count);
  }
  if (problem) std::rethrow_exception(problem);
  return images;
}

std::string image_name(int64_t place) {
  return fmt::format("{:05}.png", place);
}

void write_images(const std::vector<Image>& images, const std::filesystem::path& folder) {
  for (size_t i = 0; i < images.size(); ++i) write_png(folder / image_name(static_cast<int64_t>(i)), images[i]);
  // As square as it gets.
  const auto columns = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(images.size()))));
  write_png(folder / kContactSheet, contact_sheet(images, columns));
}

}  // namespace deltaw
