#include "deltaw/generate_images.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <mutex>
#include <optional>

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
  f.field("num_images", num_images, "Pictures to make.", at_least(1));
  sampler.fields(f);
  f.field("class_labels", class_labels,
          "Classes of the pictures, by number, from the first again where they are fewer; empty: each class of the "
          "model in turn.");
}

ImageGenerator::ImageGenerator(ImageSource source, ImageOptions options)
    : source_(source), options_(std::move(options)) {
  const Denoiser& model = source_.model;
  height_ = source_.resolution > 0 ? source_.resolution : model.sample_height();
  width_ = source_.resolution > 0 ? source_.resolution : model.sample_width();
  if (height_ < 1 || width_ < 1) {
    throw Error({.id = "config.missing-key",
                 .what = "the model's config.json names no sample_size",
                 .where = model.folder().string(),
                 .fix = "give the pixels of a side: --resolution 64"});
  }
  for (const std::string& text : options_.class_labels) {
    classes_.push_back(class_number(text, model.num_class_embeds()));
  }
  make_sampler(source_.scheduler, options_.sampler);  // refuses what cannot be, before anything takes long
}

int64_t ImageGenerator::class_of(int64_t picture) const {
  const int64_t known = source_.model.num_class_embeds();
  if (known == 0) return -1;
  return classes_.empty() ? picture % known : classes_[static_cast<size_t>(picture) % classes_.size()];
}

int64_t ImageGenerator::steps() const {
  return static_cast<int64_t>(make_sampler(source_.scheduler, options_.sampler)->timesteps().size());
}

std::vector<Image> ImageGenerator::run(const Progress& progress) const {
  const int64_t count = options_.num_images, steps_of_all = count * steps();
  std::vector<Image> images(static_cast<size_t>(count));
  std::mutex guard;
  std::exception_ptr problem;
  int64_t done = 0;
  const auto step_done = [&] {
    const std::lock_guard lock(guard);
    ++done;
    if (progress && !problem) progress(done, steps_of_all);
    return !problem;
  };

  const auto make = [&](int64_t picture, FixedUpdates* fixed) {
    at::Generator generator =
        at::detail::createCPUGenerator(mix_seed(mix_seed(static_cast<uint64_t>(options_.seed), kStream), picture));
    const auto sampler = make_sampler(source_.scheduler, options_.sampler);
    const std::vector<int64_t> shape = {1, source_.model.in_channels(), height_, width_};
    Condition condition;
    if (class_of(picture) >= 0) condition.class_labels = at::full({1}, class_of(picture), at::kLong);
    Tensor sample = at::randn(shape, generator);
    for (size_t step = 0; step < sampler->timesteps().size(); ++step) {
      Call call{.adapter = source_.adapter, .fixed = fixed};
      const Tensor time = at::full({1}, sampler->timesteps()[step], at::kLong);
      const Tensor said = source_.model.denoise(sample.to(source_.model.dtype()), time, condition, call);
      sample = sampler->step(step, said, sample, sampler->adds_noise(step) ? at::randn(shape, generator) : Tensor());
      if (!step_done()) return;
    }
    if (!ops::host_flag(sample.isfinite().all())) {
      throw Error({.id = "numeric.non-finite",
                   .what = fmt::format("picture {} has values that are no numbers", picture),
                   .where = source_.model.folder().string(),
                   .fix = "load the model in float32, or take another --scheduler"});
    }
    images[static_cast<size_t>(picture)] = image_of(sample);
  };
  const auto make_some = [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    try {
      std::optional<FixedUpdates> fixed;
      if (source_.adapter) fixed.emplace(*source_.adapter);
      for (int64_t picture = begin; picture < end; ++picture) make(picture, fixed ? &*fixed : nullptr);
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

}  // namespace deltaw
