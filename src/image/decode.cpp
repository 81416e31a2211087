#include "image/decode.h"

#include <fmt/format.h>

#include "core/files.h"
#include "core/other_kind.h"
#include "deltaw/error.h"

namespace deltaw {
namespace image {

void check_size(uint64_t height, uint64_t width) {
  constexpr uint64_t kMost = 2 * (uint64_t{1024} * 1024 * 1024 / 4 / 3);
  if (height == 0 || width == 0) throw ImageError("it has no pixels");
  if (height > kMost / width) {
    throw ImageError(fmt::format("it has {} x {} pixels, and at most {} in all are read", width, height, kMost));
  }
}

Image blank(int64_t height, int64_t width) {
  return {.height = height, .width = width, .pixels = std::vector<uint8_t>(static_cast<size_t>(height * width * 3))};
}

uint8_t over_white(uint8_t value, uint8_t alpha) {
  if (alpha == 0) return 255;
  // Both weights have seven bits below the point, as in Pillow; white is opaque, so they add up to 255.
  const uint32_t own = uint32_t{alpha} << 7, white = (255u << 7) - own;
  const uint32_t sum = value * own + 255 * white + (0x80u << 7);
  return static_cast<uint8_t>((((sum >> 8) + sum) >> 8) >> 7);
}

Image over_white(const std::vector<uint8_t>& rgba, int64_t height, int64_t width) {
  Image image = blank(height, width);
  for (size_t i = 0, n = static_cast<size_t>(height * width); i < n; ++i) {
    for (size_t c = 0; c < 3; ++c) image.pixels[i * 3 + c] = over_white(rgba[i * 4 + c], rgba[i * 4 + 3]);
  }
  return image;
}

namespace {

Decoded decoded(std::string_view bytes) {
  const auto begins = [&](std::string_view magic) { return bytes.starts_with(magic); };
  if (begins("\xff\xd8\xff")) return decode_jpeg(bytes);
  if (begins("\x89PNG\r\n\x1a\n")) return decode_png(bytes);
  if (begins("RIFF") && bytes.substr(0, 12).ends_with("WEBP")) return decode_webp(bytes);
  const auto refuse = [](const std::string& format) {
    return ImageError(format + " is not read, but JPEG, PNG and WebP; convert it to PNG");
  };
  if (begins("GIF8")) throw refuse("GIF");
  if (begins("BM")) throw refuse("BMP");
  if (begins({"II*\0", 4}) || begins({"MM\0*", 4})) throw refuse("TIFF");
  if (bytes.size() > 12 && bytes.substr(4, 4) == "ftyp") throw refuse("HEIF or AVIF");
  if (begins({"\0\0\0\x0cJXL ", 8}) || begins("\xff\x0a")) throw refuse("JPEG XL");
  if (const std::string kind = other_kind(bytes); !kind.empty()) throw ImageError(kind);
  throw ImageError(bytes.empty() ? "it is empty" : "it is none of JPEG, PNG and WebP");
}

}  // namespace
}  // namespace image

Image decode_image(std::string_view bytes, const std::string& name) {
  try {
    image::Decoded decoded = image::decoded(bytes);
    return image::upright(std::move(decoded.image), decoded.orientation);
  } catch (const image::ImageError& error) {
    throw Error({.id = "format.image",
                 .what = std::string("this image cannot be used: ") + error.what(),
                 .where = name,
                 .fix = "replace the file, or leave its row out"});
  }
}

Image read_image(const std::filesystem::path& path) {
  return decode_image(read_file(path), path.string());
}

}  // namespace deltaw
