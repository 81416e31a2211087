// PNG files as they are written, and pictures side by side.
#include <gtest/gtest.h>

#include "deltaw/image.h"

namespace deltaw {
namespace {

Image picture(int64_t height, int64_t width, bool grey) {
  Image image{.height = height, .width = width, .pixels = {}};
  for (int64_t i = 0; i < height * width; ++i) {
    for (int64_t c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(i * 31 + (grey ? 0 : c * 50)));
  }
  return image;
}

TEST(Png, IsReadAsItWasWritten) {
  for (const bool grey : {false, true}) {
    const Image image = picture(5, 7, grey);
    const std::string bytes = encode_png(image);
    const Image read = decode_image(bytes, "picture");
    EXPECT_EQ(read.height, 5);
    EXPECT_EQ(read.width, 7);
    EXPECT_EQ(read.pixels, image.pixels);
    EXPECT_EQ(static_cast<int>(bytes[25]), grey ? 0 : 2) << "the kind of colour in the header";
  }
}

TEST(ContactSheet, HasPicturesInLinesWithWhiteAround) {
  const std::vector<Image> images = {picture(3, 2, false), picture(3, 2, true), picture(2, 2, false)};
  const Image sheet = contact_sheet(images, 2, 1);
  EXPECT_EQ(sheet.height, 9);
  EXPECT_EQ(sheet.width, 7);
  const auto at = [&](int64_t y, int64_t x) {
    return sheet.pixels[static_cast<size_t>((y * sheet.width + x) * 3 + 1)];
  };
  EXPECT_EQ(at(0, 1), 255);
  EXPECT_EQ(at(1, 1), images[0].pixels[1]);
  EXPECT_EQ(at(1, 3), 255);
  EXPECT_EQ(at(3, 5), images[1].pixels[16]);
  EXPECT_EQ(at(5, 2), images[2].pixels[4]);
  EXPECT_EQ(at(7, 1), 255) << "below a lower picture";
  EXPECT_EQ(at(5, 4), 255) << "where there is none";
}

TEST(ContactSheet, IsNoWiderThanItsPictures) {
  EXPECT_EQ(contact_sheet({picture(3, 2, true)}, 8, 2).width, 6);
}

}  // namespace
}  // namespace deltaw
