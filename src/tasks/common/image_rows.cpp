#include "tasks/common/image_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cmath>
#include <exception>
#include <mutex>
#include <random>

#include "core/hash.h"
#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"

namespace deltaw::tasks {
namespace {

constexpr uint64_t kStream = 0x70697865;  // apart from the order of the rows, which has the same seed

double draw_between(std::mt19937_64& engine, double low, double high) {
  return low + (high - low) * static_cast<double>(engine() >> 11) * 0x1p-53;
}

Image part_of(const Image& image, const Part& part) {
  Image result{.height = part.height, .width = part.width, .pixels = {}};
  result.pixels.reserve(static_cast<size_t>(part.height * part.width * 3));
  for (int64_t y = 0; y < part.height; ++y) {
    const uint8_t* const row = image.pixels.data() + ((part.top + y) * image.width + part.left) * 3;
    result.pixels.insert(result.pixels.end(), row, row + part.width * 3);
  }
  return result;
}

void flip(Image& image) {
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t left = 0, right = image.width - 1; left < right; ++left, --right) {
      for (int64_t c = 0; c < 3; ++c) {
        std::swap(image.pixels[static_cast<size_t>((y * image.width + left) * 3 + c)],
                  image.pixels[static_cast<size_t>((y * image.width + right) * 3 + c)]);
      }
    }
  }
}

/// [rows] float64, or [rows, classes] where rows have several.
Tensor labels_of(const std::vector<Example>& rows, const std::vector<int64_t>& positions) {
  std::vector<double> labels;
  for (const int64_t position : positions) {
    const Example& row = rows[static_cast<size_t>(position)];
    if (row.labels.empty()) labels.push_back(row.label);
    labels.insert(labels.end(), row.labels.begin(), row.labels.end());
  }
  const auto count = static_cast<int64_t>(positions.size());
  const Tensor tensor = at::tensor(labels, at::kDouble);
  return static_cast<int64_t>(labels.size()) == count ? tensor : tensor.view({count, -1});
}

}  // namespace

Part draw_part(int64_t height, int64_t width, const std::array<double, 2>& scale, uint64_t seed) {
  constexpr double kNarrowest = 3.0 / 4, kWidest = 4.0 / 3;
  std::mt19937_64 engine(seed);
  const double h = static_cast<double>(height), w = static_cast<double>(width);
  for (int i = 0; i < 10; ++i) {
    const double area = h * w * draw_between(engine, scale[0], scale[1]);
    const double shape = std::exp(draw_between(engine, std::log(kNarrowest), std::log(kWidest)));
    const auto part_width = static_cast<int64_t>(std::lround(std::sqrt(area * shape)));
    const auto part_height = static_cast<int64_t>(std::lround(std::sqrt(area / shape)));
    if (part_width < 1 || part_height < 1 || part_width > width || part_height > height) continue;
    const auto place = [&](int64_t room) {
      return static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(room + 1)));
    };
    const int64_t top = place(height - part_height), left = place(width - part_width);
    return {.top = top, .left = left, .height = part_height, .width = part_width};
  }
  // No part of such a shape was found: the middle of the image, as far as the shapes allow.
  int64_t part_height = height, part_width = width;
  if (w / h < kNarrowest) part_height = static_cast<int64_t>(std::lround(w / kNarrowest));
  if (w / h > kWidest) part_width = static_cast<int64_t>(std::lround(h * kWidest));
  return {
      .top = (height - part_height) / 2, .left = (width - part_width) / 2, .height = part_height, .width = part_width};
}

ImageRows::ImageRows(Dataset rows, ImageProcessor processor, const ReadsImages& model, Augmentation augmentation,
                     LoaderOptions loader)
    : rows_(std::move(rows)),
      processor_(std::move(processor)),
      augmentation_(augmentation),
      loader_(loader),
      tokens_(model.image_tokens(processor_.height(), processor_.width())) {}

std::string ImageRows::fingerprint() const {
  std::string bytes;
  for (const Example& row : rows()) {
    bytes += row.text;
    bytes.append(reinterpret_cast<const char*>(&row.label), sizeof row.label);
    bytes.append(reinterpret_cast<const char*>(row.labels.data()), row.labels.size() * sizeof(double));
  }
  const Augmentation& a = augmentation_;
  return fmt::format("{} images {} x {}, flip {} crop {} {} {}, {}", rows().size(), processor_.height(),
                     processor_.width(), a.flip, a.crop, a.scale[0], a.scale[1], xxh128(bytes));
}

Image ImageRows::read(const Example& row) const {
  try {
    return files_.read(row.text);
  } catch (const Error& error) {
    ErrorParts parts = error.parts();
    parts.where += fmt::format(" (row {} of {})", row.line, rows_.file.string());
    throw Error(std::move(parts));
  }
}

Image ImageRows::seen(int64_t row, const Draw& draw) const {
  Image image = read(rows()[static_cast<size_t>(row)]);
  if (!augmentation_.crop && !augmentation_.flip) return processor_.resized(image);
  const uint64_t epoch = mix_seed(mix_seed(draw.seed, kStream), static_cast<uint64_t>(draw.epoch));
  const uint64_t seed = mix_seed(epoch, static_cast<uint64_t>(row));
  if (augmentation_.crop) {
    image = part_of(image, draw_part(image.height, image.width, augmentation_.scale, seed));
    image = resize(image, processor_.height(), processor_.width(), processor_.resample());
  } else {
    image = processor_.resized(image);
  }
  if (augmentation_.flip && (mix_seed(seed, 1) & 1) != 0) flip(image);
  return image;
}

Batch ImageRows::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  const auto count = static_cast<int64_t>(positions.size());
  const int64_t height = processor_.height(), width = processor_.width();
  Tensor pixels = at::empty({count, 3, height, width}, at::kFloat);
  std::exception_ptr problem;
  std::mutex guard;
  at::parallel_for(0, count, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      try {
        processor_.normalize(seen(positions[static_cast<size_t>(i)], draw),
                             pixels.mutable_data_ptr<float>() + i * 3 * height * width);
      } catch (...) {
        const std::lock_guard lock(guard);
        if (!problem) problem = std::current_exception();
      }
    }
  });
  if (problem) std::rethrow_exception(problem);
  return {.rows = count,
          .tensors = {{"pixel_values", std::move(pixels)}, {"labels", labels_of(rows(), positions)}},
          .positions = positions,
          .costs = std::vector<int64_t>(positions.size(), tokens_)};
}

NoiseRows::NoiseRows(int64_t count, const LabelSet& labels, const ReadsImages& model, uint64_t seed)
    : height_(model.image_height()),
      width_(model.image_width()),
      tokens_(model.image_tokens(height_, width_)),
      seed_(seed) {
  std::mt19937_64 engine(mix_seed(seed, 1));
  const auto draw = [&](int64_t values) {
    return static_cast<double>(data::draw_below(engine, static_cast<uint64_t>(values)));
  };
  for (int64_t i = 0; i < count; ++i) {
    Example& row = rows_.emplace_back();
    row.label = labels.regression ? draw(1000) / 1000 : draw(labels.outputs());
    for (int64_t c = 0; labels.multi_label && c < labels.outputs(); ++c) row.labels.push_back(draw(2));
  }
}

Batch NoiseRows::collate(const std::vector<int64_t>& positions, const Draw& /*draw*/) const {
  const auto count = static_cast<int64_t>(positions.size());
  std::vector<Tensor> images;
  for (const int64_t position : positions) {
    at::Generator generator = at::detail::createCPUGenerator(mix_seed(seed_, static_cast<uint64_t>(position)));
    images.push_back(at::randn({3, height_, width_}, generator));
  }
  return {.rows = count,
          .tensors = {{"pixel_values", at::stack(images)}, {"labels", labels_of(rows_, positions)}},
          .positions = positions,
          .costs = std::vector<int64_t>(positions.size(), tokens_)};
}

}  // namespace deltaw::tasks
