// WebP by libwebp, where the build found it.
#include "image/decode.h"

#ifdef DELTAW_WEBP
#include <webp/decode.h>
#endif

namespace deltaw::image {

#ifdef DELTAW_WEBP
namespace {

/// What stands in the first chunk of a name in the RIFF file.
std::string_view chunk_of(std::string_view bytes, std::string_view name) {
  bytes.remove_prefix(12);
  while (bytes.size() >= 8) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length |= static_cast<size_t>(static_cast<uint8_t>(bytes[4 + i])) << (8 * i);
    const bool found = bytes.starts_with(name);
    bytes.remove_prefix(8);
    if (length > bytes.size()) return {};
    if (found) return bytes.substr(0, length);
    bytes.remove_prefix(std::min(bytes.size(), length + length % 2));
  }
  return {};
}

}  // namespace

Decoded decode_webp(std::string_view bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data, bytes.size(), &features) != VP8_STATUS_OK) throw ImageError("the WebP is damaged");
  if (features.has_animation) throw ImageError("it is an animation; take one of its pictures");
  const int64_t height = features.height, width = features.width;
  check_size(static_cast<uint64_t>(height), static_cast<uint64_t>(width));
  const int channels = features.has_alpha ? 4 : 3;
  std::vector<uint8_t> pixels(static_cast<size_t>(height * width * channels));
  const auto decode = features.has_alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto;
  if (!decode(data, bytes.size(), pixels.data(), pixels.size(), static_cast<int>(width) * channels)) {
    throw ImageError("the WebP is damaged");
  }
  auto orientation = exif_orientation(chunk_of(bytes, "EXIF"));
  if (!orientation) orientation = xmp_orientation(chunk_of(bytes, "XMP "));
  Decoded decoded{.image = {}, .orientation = orientation.value_or(1)};
  decoded.image = features.has_alpha ? over_white(pixels, height, width)
                                     : Image{.height = height, .width = width, .pixels = std::move(pixels)};
  return decoded;
}
#else
Decoded decode_webp(std::string_view) {
  throw ImageError("it is a WebP file, and this program was built without libwebp; convert it to PNG");
}
#endif

}  // namespace deltaw::image
