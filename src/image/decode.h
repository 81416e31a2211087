// The decoders of image files, and what they have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "deltaw/image.h"

namespace deltaw::image {

/// What is wrong inside a file of an image; who knows its name makes it an Error.
class ImageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Decoded {
  Image image;  // as it is stored
  int orientation = 1;
};

Decoded decode_jpeg(std::string_view bytes);
Decoded decode_png(std::string_view bytes);
Decoded decode_webp(std::string_view bytes);

/// Throws ImageError where Pillow would take the image for an attack.
void check_size(uint64_t height, uint64_t width);

/// Memory for an image of a size that was checked.
Image blank(int64_t height, int64_t width);

/// The channel value of a pixel over white, as Pillow's alpha_composite.
uint8_t over_white(uint8_t value, uint8_t alpha);

/// `rgba` [height, width, 4] over white.
Image over_white(const std::vector<uint8_t>& rgba, int64_t height, int64_t width);

/// The orientation (1 to 8) of EXIF data, with or without the six bytes "Exif\0\0" in front; nothing where it says
/// none.
std::optional<int> exif_orientation(std::string_view exif);

/// That of an XMP packet.
std::optional<int> xmp_orientation(std::string_view xmp);

/// The image the right way up. Orientations are those of EXIF; what is none of them changes nothing.
Image upright(Image image, int orientation);

}  // namespace deltaw::image
