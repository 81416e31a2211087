// Pictures, and what a model's preprocessor_config.json makes of them: byte for byte as transformers does it with
// Pillow or with torchvision.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw {

/// Eight-bit RGB.
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3]
};

/// What is in a JPEG, PNG or WebP file: the right way up (EXIF, XMP), grey and palettes as RGB, what is transparent
/// over white. Throws format.image, with `name` as the place, for a damaged file, one of another format, 16 bits a
/// channel, CMYK, animations, and more than 178,956,970 pixels (where Pillow stops).
Image decode_image(std::string_view bytes, const std::string& name);

/// The same of a file. Throws io.not-found and io.unreadable too.
Image read_image(const std::filesystem::path& path);

/// The image as a PNG file, grey where all of its pixels are.
std::string encode_png(const Image& image);
/// The same into a file, whole or not at all. Throws io.*.
void write_png(const std::filesystem::path& path, const Image& image);

/// Images side by side, left to right and in lines of `columns`, with white of `gap` pixels around each.
Image contact_sheet(const std::vector<Image>& images, int64_t columns, int64_t gap = 2);

/// The numbers are those of preprocessor_config.json.
enum class Resample { nearest = 0, lanczos = 1, bilinear = 2, bicubic = 3, box = 4, hamming = 5 };

/// Who changes the size of an image, with other last bits: Pillow 12 and older take the rows first, 13 the columns
/// where the height shrinks by more than twice as much as the width; torch, with which torchvision works, has the rows
/// first and weights of 16 bits (where the processor has AVX2; without it torch counts in floating point).
enum class Resizer { pillow_12, pillow_13, torch };

/// `image` with another size, bit for bit. Throws config.image-processor for a filter that torch does not have.
Image resize(const Image& image, int64_t height, int64_t width, Resample resample,
             Resizer resizer = Resizer::pillow_13);

/// The backends of transformers' image processors, by its names.
enum class ImageBackend { pil, torchvision };

/// The part of an image of this size in its middle; black where it is smaller. As the backend's center_crop.
Image center_crop(const Image& image, int64_t height, int64_t width, ImageBackend backend = ImageBackend::pil);

/// What a checkpoint wants of an image.
class ImageProcessor {
 public:
  /// Where a checkpoint's folder says so: in processor_config.json where that has an image processor inside, as
  /// transformers 5 writes it for models that read several things, else in preprocessor_config.json.
  static std::optional<std::filesystem::path> file_in(const std::filesystem::path& folder);

  /// Reads that file; what it leaves open is what transformers takes for its
  /// image_processor_type. The backends differ by a level of brightness here and there. Throws io.not-found,
  /// format.json, config.image-processor (a kind or a key that is none of ViT's, DeiT's, DINOv2's, CLIP's or SigLIP's,
  /// or images that come out in different sizes).
  static ImageProcessor from_folder(const std::filesystem::path& folder, ImageBackend backend = ImageBackend::pil);

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }
  Resample resample() const { return resample_; }

  /// The image in the model's size. Throws data.image-size for one that is too long for its breadth.
  Image resized(const Image& image) const;

  /// Writes what the model sees, [3, height, width], from an image of its size.
  void normalize(const Image& image, float* values) const;

  /// Both.
  std::vector<float> operator()(const Image& image) const;

 private:
  ImageBackend backend_ = ImageBackend::pil;
  bool do_resize_ = true;
  int64_t shortest_edge_ = 0;  // or:
  int64_t resize_height_ = 0, resize_width_ = 0;
  Resample resample_ = Resample::bilinear;
  bool do_center_crop_ = false;
  int64_t height_ = 0, width_ = 0;
  std::vector<float> values_;  // [3, 256]: what stands for each byte of each channel
};

}  // namespace deltaw
