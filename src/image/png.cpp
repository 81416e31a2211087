// PNG by libpng.
#include <csetjmp>

#include <png.h>

#include <algorithm>
#include <cstring>

#include "image/decode.h"

namespace deltaw::image {
namespace {

// The library gives up by a jump, so nothing between it and its caller may own memory.
struct Png {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string_view left;
  std::jmp_buf back;
  char problem[200] = {};

  Png() = default;
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;
  ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
};

void give_up(png_structp png, png_const_charp problem) {
  Png& file = *static_cast<Png*>(png_get_error_ptr(png));
  std::strncpy(file.problem, problem, sizeof file.problem - 1);
  std::longjmp(file.back, 1);
}

void say_nothing(png_structp, png_const_charp) {}

void next(png_structp png, png_bytep to, size_t count) {
  std::string_view& left = static_cast<Png*>(png_get_io_ptr(png))->left;
  if (count > left.size()) png_error(png, "the file ends too early");
  std::memcpy(to, left.data(), count);
  left.remove_prefix(count);
}

void set_up(Png& file) {
  if (setjmp(file.back)) return;
  file.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &file, give_up, say_nothing);
  file.info = file.png ? png_create_info_struct(file.png) : nullptr;
  if (!file.info) {
    std::strncpy(file.problem, "there is no memory for it", sizeof file.problem - 1);
    return;
  }
  png_set_read_fn(file.png, &file, next);
  png_set_user_limits(file.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_size says how many pixels there may be
  const png_byte animation[] = "acTL";
  png_set_keep_unknown_chunks(file.png, PNG_HANDLE_CHUNK_ALWAYS, animation, 1);
  png_read_info(file.png, file.info);
}

// Everything as eight bits of red, green, blue and, where there is one, alpha. Returns the channels.
int settle_channels(Png& file) {
  if (setjmp(file.back)) return 0;
  png_set_expand(file.png);
  png_set_gray_to_rgb(file.png);
  png_set_interlace_handling(file.png);
  png_read_update_info(file.png, file.info);
  return png_get_channels(file.png, file.info);
}

void read_rows(Png& file, png_bytepp rows) {
  if (setjmp(file.back)) return;
  png_read_image(file.png, rows);
}

// What is said of the image may stand behind it; where that is damaged it is not missed.
void read_end(Png& file) {
  if (setjmp(file.back)) return;
  png_read_end(file.png, file.info);
}

void check(const Png& file) {
  if (file.problem[0] != 0) throw ImageError(std::string("the PNG is damaged: ") + file.problem);
}

bool is_animated(const Png& file) {
  png_unknown_chunkp chunks = nullptr;
  const int count = png_get_unknown_chunks(file.png, file.info, &chunks);
  return std::any_of(chunks, chunks + count, [](const png_unknown_chunk& chunk) {
    return std::memcmp(chunk.name, "acTL", 4) == 0 && chunk.size >= 4 && png_get_uint_32(chunk.data) > 1;
  });
}

/// The last text of a name, as Pillow keeps it.
std::string_view text_of(const Png& file, std::string_view name) {
  png_textp texts = nullptr;
  int count = 0;
  png_get_text(file.png, file.info, &texts, &count);
  for (int i = count - 1; i >= 0; --i) {
    if (texts[i].key == name) return {texts[i].text, std::max(texts[i].text_length, texts[i].itxt_length)};
  }
  return {};
}

/// The bytes of a profile as ImageMagick writes them: three lines, of which the last is their number, and lines of
/// hexadecimal digits.
std::string raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
  std::string bytes;
  size_t high = std::string_view::npos;
  for (const char c : text) {
    size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) continue;
    if (digit > 15) digit -= 6;
    if (high != std::string_view::npos) bytes.push_back(static_cast<char>(high << 4 | digit));
    high = high == std::string_view::npos ? digit : std::string_view::npos;
  }
  return bytes;
}

int orientation_of(const Png& file) {
  png_uint_32 length = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(file.png, file.info, &length, &exif) != 0) {
    if (const auto orientation = exif_orientation({reinterpret_cast<const char*>(exif), length})) return *orientation;
  }
  if (const auto orientation = exif_orientation(raw_profile(text_of(file, "Raw profile type exif")))) {
    return *orientation;
  }
  return xmp_orientation(text_of(file, "XML:com.adobe.xmp")).value_or(1);
}

}  // namespace

Decoded decode_png(std::string_view bytes) {
  Png file;
  file.left = bytes;
  set_up(file);
  check(file);
  const auto height = static_cast<int64_t>(png_get_image_height(file.png, file.info));
  const auto width = static_cast<int64_t>(png_get_image_width(file.png, file.info));
  check_size(static_cast<uint64_t>(height), static_cast<uint64_t>(width));
  if (png_get_bit_depth(file.png, file.info) == 16) {
    throw ImageError("it has 16 bits a channel; convert it to 8");
  }
  if (is_animated(file)) throw ImageError("it is an animation; take one of its pictures");
  const int channels = settle_channels(file);
  check(file);
  std::vector<uint8_t> pixels(static_cast<size_t>(height * width * channels));
  std::vector<png_bytep> rows(static_cast<size_t>(height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = pixels.data() + y * static_cast<size_t>(width * channels);
  read_rows(file, rows.data());
  check(file);
  read_end(file);
  Decoded decoded{.image = {}, .orientation = orientation_of(file)};
  decoded.image = channels == 4 ? over_white(pixels, height, width)
                                : Image{.height = height, .width = width, .pixels = std::move(pixels)};
  return decoded;
}

}  // namespace deltaw::image
