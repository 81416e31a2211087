// Pillow's resampling (src/libImaging/Resample.c): two passes over bytes, with weights of 22 bits below the point. And
// torch's for bytes (aten/src/ATen/native/cpu/UpSampleKernel.cpp): the same, with weights of 16 bits.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "deltaw/error.h"
#include "deltaw/image.h"
#include "image/decode.h"

namespace deltaw {
namespace {

using image::blank;

constexpr double kPi = 3.14159265358979323846;

struct Filter {
  double support;
  double (*weight)(double);
};

double sinc(double x) {
  return x == 0 ? 1 : std::sin(x * kPi) / (x * kPi);
}

Filter filter_of(Resample resample) {
  switch (resample) {
    case Resample::lanczos:
      return {3, [](double x) { return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0.0; }};
    case Resample::bicubic:
      return {2, [](double x) {
                constexpr double a = -0.5;
                x = std::abs(x);
                if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
                return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
              }};
    case Resample::box:
      return {0.5, [](double x) { return -0.5 < x && x <= 0.5 ? 1.0 : 0.0; }};
    case Resample::hamming:
      return {1, [](double x) {
                x = std::abs(x);
                if (x == 0) return 1.0;
                if (x >= 1) return 0.0;
                x *= kPi;
                return std::sin(x) / x * (0.54F + 0.46F * std::cos(x));
              }};
    default:  // bilinear; nearest has no filter
      return {1, [](double x) { return std::max(0.0, 1 - std::abs(x)); }};
  }
}

/// Which pixels make one pixel of the result, and with which weights.
struct Tap {
  int64_t first = 0;
  std::vector<double> shares;
  std::vector<int32_t> weights;  // the shares times 2^bits, rounded
};

struct Taps {
  int bits = 22;
  std::vector<Tap> of;  // each pixel

  int32_t half() const { return 1 << (bits - 1); }
  uint8_t to_byte(int32_t sum) const { return static_cast<uint8_t>(std::clamp(sum >> bits, 0, 255)); }
};

/// The most bits with which every weight has 16.
int bits_of_torch(const std::vector<Tap>& taps) {
  double most = 0;
  for (const Tap& tap : taps) {
    for (const double share : tap.shares) most = std::max(most, share);
  }
  int bits = 0;
  while (bits < 22 && most * (1 << (bits + 1)) + 0.5 < 1 << 15) ++bits;
  return bits;
}

Taps taps_of(int64_t in, int64_t out, const Filter& filter, Resizer resizer) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch;
  Taps taps;
  taps.of.resize(static_cast<size_t>(out));
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(std::floor(centre - support + 0.5)), 0);
    const int64_t last = std::min(static_cast<int64_t>(std::floor(centre + support + 0.5)), in);
    Tap& tap = taps.of[static_cast<size_t>(i)];
    tap.first = first;
    double sum = 0;
    for (int64_t x = first; x < last; ++x) {
      tap.shares.push_back(filter.weight((static_cast<double>(x) - centre + 0.5) * (1 / stretch)));
      sum += tap.shares.back();
    }
    for (double& share : tap.shares) share = sum == 0 ? share : share / sum;
  }
  if (resizer == Resizer::torch) taps.bits = bits_of_torch(taps.of);
  for (Tap& tap : taps.of) {
    for (const double share : tap.shares) {
      const double weight = share * (1 << taps.bits);
      tap.weights.push_back(static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5));
    }
  }
  return taps;
}

Image resize_rows(const Image& image, const Taps& taps) {  // [h, w] to [h, taps]
  Image result = blank(image.height, static_cast<int64_t>(taps.of.size()));
  uint8_t* to = result.pixels.data();
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* const row = image.pixels.data() + y * image.width * 3;
    for (const Tap& tap : taps.of) {
      int32_t red = taps.half(), green = red, blue = red;
      const uint8_t* from = row + tap.first * 3;
      for (const int32_t weight : tap.weights) {
        red += weight * from[0];
        green += weight * from[1];
        blue += weight * from[2];
        from += 3;
      }
      *to++ = taps.to_byte(red);
      *to++ = taps.to_byte(green);
      *to++ = taps.to_byte(blue);
    }
  }
  return result;
}

Image resize_columns(const Image& image, const Taps& taps) {  // [h, w] to [taps, w]
  Image result = blank(static_cast<int64_t>(taps.of.size()), image.width);
  const auto row = static_cast<size_t>(image.width * 3);
  std::vector<int32_t> sums(row);
  uint8_t* to = result.pixels.data();
  for (const Tap& tap : taps.of) {
    std::fill(sums.begin(), sums.end(), taps.half());
    const uint8_t* from = image.pixels.data() + static_cast<size_t>(tap.first) * row;
    for (const int32_t weight : tap.weights) {
      for (size_t i = 0; i < row; ++i) sums[i] += weight * from[i];
      from += row;
    }
    for (const int32_t sum : sums) *to++ = taps.to_byte(sum);
  }
  return result;
}

std::vector<int64_t> nearest(int64_t in, int64_t out, Resizer resizer) {
  std::vector<int64_t> from;
  if (resizer == Resizer::torch) {
    const float scale = static_cast<float>(in) / static_cast<float>(out);
    for (int64_t i = 0; i < out; ++i) {
      from.push_back(std::min(static_cast<int64_t>(std::floor((static_cast<float>(i) + 0.5F) * scale)), in - 1));
    }
    return from;
  }
  // Added up as Pillow does, which decides where a pixel lies on an edge.
  const double step = static_cast<double>(in) / static_cast<double>(out);
  double at = step * 0.5;
  for (int64_t i = 0; i < out; ++i, at += step) from.push_back(std::min(static_cast<int64_t>(at), in - 1));
  return from;
}

Image resize_nearest(const Image& image, int64_t height, int64_t width, Resizer resizer) {
  Image result = blank(height, width);
  const std::vector<int64_t> rows = nearest(image.height, height, resizer),
                             columns = nearest(image.width, width, resizer);
  uint8_t* to = result.pixels.data();
  for (const int64_t row : rows) {
    for (const int64_t column : columns) {
      std::memcpy(to, image.pixels.data() + (row * image.width + column) * 3, 3);
      to += 3;
    }
  }
  return result;
}

}  // namespace

Image resize(const Image& image, int64_t height, int64_t width, Resample resample, Resizer resizer) {
  if (image.height == height && image.width == width) return image;
  if (resample == Resample::nearest) return resize_nearest(image, height, width, resizer);
  if (resizer == Resizer::torch && (resample == Resample::box || resample == Resample::hamming)) {
    throw Error({.id = "config.image-processor",
                 .what = fmt::format("resample {} is a filter that torch does not have", static_cast<int>(resample)),
                 .where = "the image processor",
                 .fix = "set image_processor_backend to pil"});
  }
  const Filter filter = filter_of(resample);
  const bool columns_first =
      resizer == Resizer::pillow_13 && image.height - height > 2 * (image.width - width) && image.height > height;
  const auto rows = [&](const Image& from) {
    return from.width == width ? from : resize_rows(from, taps_of(from.width, width, filter, resizer));
  };
  const auto columns = [&](const Image& from) {
    return from.height == height ? from : resize_columns(from, taps_of(from.height, height, filter, resizer));
  };
  return columns_first ? rows(columns(image)) : columns(rows(image));
}

Image center_crop(const Image& image, int64_t height, int64_t width, ImageBackend backend) {
  Image result = blank(height, width);
  // Where the image is smaller, the odd line goes before it, and with torchvision behind it.
  const auto start = [odd = backend == ImageBackend::pil](int64_t has, int64_t wants) {
    return has >= wants ? (has - wants) / 2 : -((wants - has + odd) / 2);
  };
  const int64_t top = start(image.height, height), left = start(image.width, width);
  const int64_t first = std::max<int64_t>(left, 0), last = std::min(left + width, image.width);
  for (int64_t y = 0; y < height; ++y) {
    if (top + y < 0 || top + y >= image.height || first >= last) continue;
    std::memcpy(result.pixels.data() + (y * width + first - left) * 3,
                image.pixels.data() + ((top + y) * image.width + first) * 3, static_cast<size_t>((last - first) * 3));
  }
  return result;
}

}  // namespace deltaw
