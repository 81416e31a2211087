// JPEG by libjpeg-turbo, with its slow exact transform and smooth colour, which is what Pillow takes.
#include <csetjmp>
#include <cstdio>

#include <jerror.h>
#include <jpeglib.h>

#include "image/decode.h"

namespace deltaw::image {
namespace {

// The library gives up by a jump, so nothing between it and its caller may own memory.
struct Jpeg {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr errors = {};
  jpeg_source_mgr source = {};
  jpeg_progress_mgr progress = {};
  std::jmp_buf back;
  char problem[JMSG_LENGTH_MAX] = {};

  Jpeg() = default;
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;
  ~Jpeg() { jpeg_destroy_decompress(&info); }
};

Jpeg& of(j_common_ptr info) {
  return *static_cast<Jpeg*>(info->client_data);
}

void give_up(j_common_ptr info) {
  info->err->format_message(info, of(info).problem);
  std::longjmp(of(info).back, 1);
}

void say_nothing(j_common_ptr, int) {}

// A file of a few bytes can ask for thousands of passes over a large image.
void check_passes(j_common_ptr info) {
  constexpr int kMost = 500;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMost) return;
  std::snprintf(of(info).problem, sizeof of(info).problem, "it has more than %d scans", kMost);
  std::longjmp(of(info).back, 1);
}

void begin(j_decompress_ptr) {}

boolean no_more(j_decompress_ptr info) {
  ERREXIT(info, JERR_INPUT_EOF);
  return FALSE;
}

void skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  const auto bytes = static_cast<size_t>(count);
  if (bytes > info->src->bytes_in_buffer) no_more(info);
  info->src->next_input_byte += bytes;
  info->src->bytes_in_buffer -= bytes;
}

void set_up(Jpeg& jpeg, std::string_view bytes) {
  jpeg.info.err = jpeg_std_error(&jpeg.errors);
  jpeg.errors.error_exit = give_up;
  jpeg.errors.emit_message = say_nothing;
  jpeg.info.client_data = &jpeg;
  if (setjmp(jpeg.back)) return;
  jpeg_create_decompress(&jpeg.info);
  jpeg.info.client_data = &jpeg;
  jpeg.source = {.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data()),
                 .bytes_in_buffer = bytes.size(),
                 .init_source = begin,
                 .fill_input_buffer = no_more,
                 .skip_input_data = skip,
                 .resync_to_restart = jpeg_resync_to_restart,
                 .term_source = begin};
  jpeg.info.src = &jpeg.source;
  jpeg.progress.progress_monitor = check_passes;
  jpeg.info.progress = &jpeg.progress;
  jpeg_save_markers(&jpeg.info, JPEG_APP0 + 1, 0xffff);
}

void read_header(Jpeg& jpeg) {
  if (setjmp(jpeg.back)) return;
  jpeg_read_header(&jpeg.info, TRUE);
}

void read_pixels(Jpeg& jpeg, uint8_t* pixels) {
  if (setjmp(jpeg.back)) return;
  jpeg.info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg.info);
  const size_t row = size_t{jpeg.info.output_width} * 3;
  while (jpeg.info.output_scanline < jpeg.info.output_height) {
    JSAMPROW at = pixels + row * jpeg.info.output_scanline;
    jpeg_read_scanlines(&jpeg.info, &at, 1);
  }
}

void check(const Jpeg& jpeg) {
  if (jpeg.problem[0] != 0) throw ImageError(std::string("the JPEG is damaged: ") + jpeg.problem);
}

int orientation_of(const Jpeg& jpeg) {
  constexpr std::string_view kExif("Exif\0\0", 6), kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  std::string exif, xmp;
  for (jpeg_saved_marker_ptr marker = jpeg.info.marker_list; marker; marker = marker->next) {
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (data.starts_with(kExif)) exif += data.substr(kExif.size());
    if (data.starts_with(kXmp)) xmp = data.substr(kXmp.size());
  }
  if (const auto orientation = exif_orientation(exif)) return *orientation;
  return xmp_orientation(xmp).value_or(1);
}

}  // namespace

Decoded decode_jpeg(std::string_view bytes) {
  Jpeg jpeg;
  set_up(jpeg, bytes);
  check(jpeg);
  read_header(jpeg);
  check(jpeg);
  check_size(jpeg.info.image_height, jpeg.info.image_width);
  if (jpeg.info.num_components != 1 && jpeg.info.num_components != 3) {
    throw ImageError(jpeg.info.num_components == 4 ? "it is a CMYK image; convert it to RGB"
                                                   : "it is a JPEG that is neither grey nor in colours");
  }
  Decoded decoded{.image = blank(jpeg.info.image_height, jpeg.info.image_width), .orientation = orientation_of(jpeg)};
  read_pixels(jpeg, decoded.image.pixels.data());
  check(jpeg);
  return decoded;
}

}  // namespace deltaw::image
