// PNG by libpng, and pictures side by side.
#include <csetjmp>

#include <png.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/image.h"

namespace deltaw {
namespace {

// As in reading, the library gives up by a jump: what owns memory stands outside.
struct Writer {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string* bytes = nullptr;
  std::jmp_buf back;
  char problem[200] = {};

  Writer() = default;
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { png_destroy_write_struct(&png, &info); }
};

void give_up(png_structp png, png_const_charp problem) {
  Writer& file = *static_cast<Writer*>(png_get_error_ptr(png));
  std::strncpy(file.problem, problem, sizeof file.problem - 1);
  std::longjmp(file.back, 1);
}

void say_nothing(png_structp, png_const_charp) {}

void take(png_structp png, png_bytep from, size_t count) {
  static_cast<Writer*>(png_get_io_ptr(png))->bytes->append(reinterpret_cast<const char*>(from), count);
}

void flush(png_structp) {}

void write_all(Writer& file, png_uint_32 height, png_uint_32 width, bool grey, png_bytepp rows) {
  if (setjmp(file.back)) return;
  file.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &file, give_up, say_nothing);
  file.info = file.png ? png_create_info_struct(file.png) : nullptr;
  if (!file.info) {
    std::strncpy(file.problem, "there is no memory for it", sizeof file.problem - 1);
    return;
  }
  png_set_write_fn(file.png, &file, take, flush);
  png_set_IHDR(file.png, file.info, width, height, 8, grey ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(file.png, file.info);
  png_write_image(file.png, rows);
  png_write_end(file.png, file.info);
}

bool is_grey(const Image& image) {
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    if (image.pixels[i] != image.pixels[i + 1] || image.pixels[i] != image.pixels[i + 2]) return false;
  }
  return true;
}

}  // namespace

std::string encode_png(const Image& image) {
  const bool grey = is_grey(image);
  const size_t channels = grey ? 1 : 3;
  std::vector<uint8_t> pixels;
  if (grey) {
    for (size_t i = 0; i < image.pixels.size(); i += 3) pixels.push_back(image.pixels[i]);
  } else {
    pixels = image.pixels;
  }
  std::vector<png_bytep> rows(static_cast<size_t>(image.height));
  for (size_t y = 0; y < rows.size(); ++y) {
    rows[y] = pixels.data() + y * static_cast<size_t>(image.width) * channels;
  }
  std::string bytes;
  Writer file;
  file.bytes = &bytes;
  write_all(file, static_cast<png_uint_32>(image.height), static_cast<png_uint_32>(image.width), grey, rows.data());
  if (file.problem[0] == 0) return bytes;
  throw Error({.id = "internal.png",
               .what = std::string("the picture cannot be written as PNG: ") + file.problem,
               .where = std::to_string(image.width) + " x " + std::to_string(image.height) + " pixels",
               .fix = "report this"});
}

void write_png(const std::filesystem::path& path, const Image& image) {
  write_file(path, encode_png(image));
}

Image contact_sheet(const std::vector<Image>& images, int64_t columns, int64_t gap) {
  int64_t height = 0, width = 0;
  for (const Image& image : images) {
    height = std::max(height, image.height);
    width = std::max(width, image.width);
  }
  const auto count = static_cast<int64_t>(images.size());
  columns = std::clamp<int64_t>(columns, 1, std::max<int64_t>(1, count));
  const int64_t lines = (count + columns - 1) / columns;
  Image sheet{.height = gap + lines * (height + gap), .width = gap + columns * (width + gap), .pixels = {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height * sheet.width * 3), 255);
  for (int64_t i = 0; i < count; ++i) {
    const Image& image = images[static_cast<size_t>(i)];
    const int64_t top = gap + i / columns * (height + gap), left = gap + i % columns * (width + gap);
    for (int64_t y = 0; y < image.height; ++y) {
      std::copy_n(image.pixels.begin() + y * image.width * 3, image.width * 3,
                  sheet.pixels.begin() + ((top + y) * sheet.width + left) * 3);
    }
  }
  return sheet;
}

}  // namespace deltaw
