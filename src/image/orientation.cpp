// Which way up an image is, as EXIF and XMP say it.
#include <cstring>

#include "image/decode.h"

namespace deltaw::image {
namespace {

// Numbers of a TIFF header in its own byte order; zero beyond the end.
class Tiff {
 public:
  explicit Tiff(std::string_view bytes) : bytes_(bytes), big_(bytes.starts_with("MM")) {}

  bool is_one() const { return bytes_.size() >= 8 && (big_ || bytes_.starts_with("II")) && number(2, 2) == 42; }

  uint32_t number(size_t at, size_t length) const {
    if (at > bytes_.size() || bytes_.size() - at < length) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < length; ++i) {
      value = value << 8 | static_cast<uint8_t>(bytes_[at + (big_ ? i : length - 1 - i)]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_;
};

}  // namespace

std::optional<int> exif_orientation(std::string_view exif) {
  constexpr std::string_view kMark("Exif\0\0", 6);
  if (exif.starts_with(kMark)) exif.remove_prefix(kMark.size());
  const Tiff tiff(exif);
  if (!tiff.is_one()) return std::nullopt;
  const size_t directory = tiff.number(4, 4);
  const size_t entries = tiff.number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > exif.size()) return std::nullopt;
    if (tiff.number(entry, 2) != 0x0112) continue;
    const uint32_t type = tiff.number(entry + 2, 2);  // 3 is a short, 4 a long
    if (type != 3 && type != 4) return std::nullopt;
    return static_cast<int>(tiff.number(entry + 8, type == 3 ? 2 : 4));
  }
  return std::nullopt;
}

std::optional<int> xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = 0; (at = xmp.find(kName, at)) != std::string_view::npos;) {
    std::string_view rest = xmp.substr(at += kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return std::nullopt;
}

Image upright(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool turned = orientation >= 5;  // rows become columns
  const int64_t h = image.height, w = image.width;
  Image result = blank(turned ? w : h, turned ? h : w);
  for (int64_t y = 0; y < result.height; ++y) {
    for (int64_t x = 0; x < result.width; ++x) {
      int64_t row = turned ? x : y, column = turned ? y : x;
      if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 6) row = h - 1 - row;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) column = w - 1 - column;
      std::memcpy(&result.pixels[static_cast<size_t>((y * result.width + x) * 3)],
                  &image.pixels[static_cast<size_t>((row * w + column) * 3)], 3);
    }
  }
  return result;
}

}  // namespace deltaw::image
