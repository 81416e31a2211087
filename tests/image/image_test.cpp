// Images as Pillow reads and resizes them, and what transformers' processors make of them (oracle/make_images.py).
#include "deltaw/image.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

#include "core/files.h"
#include "core/json_fields.h"
#include "image/decode.h"
#include "support/data.h"
#include "support/mutations.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

#ifdef DELTAW_WEBP
constexpr const char* kWebP = "animation";
#else
constexpr const char* kWebP = "without libwebp";
#endif

std::filesystem::path image_file(const std::string& name) {
  return fixture("golden/images") / name;
}

const Json& expected() {
  static const Json json = read_json_object(image_file("expected.json"));
  return json;
}

template <class T>
int64_t crc(const std::vector<T>& values) {
  return static_cast<int64_t>(crc32_z(0, reinterpret_cast<const Bytef*>(values.data()), values.size() * sizeof(T)));
}

TEST(Images, AreReadAsPillowReadsThem) {
  ASSERT_GE(expected()["pixels"].size(), 50);
  for (const auto& [name, facts] : expected()["pixels"].items()) {
#ifndef DELTAW_WEBP
    if (name.ends_with(".webp")) continue;
#endif
    const Image image = read_image(image_file(name));
    EXPECT_EQ(Json({image.height, image.width, crc(image.pixels)}), facts) << name;
  }
}

TEST(Images, AreResizedBitForBitInTheOrderOfEitherPillow) {
  ASSERT_EQ(expected()["resized"].size(), 2 * 2 * 7 * 6);
  int64_t orders_differ = 0;
  for (const Json& row : expected()["resized"]) {
    const Image image = read_image(image_file(row[0]));
    const Resizer order = row[4] == "pillow_12" ? Resizer::pillow_12 : Resizer::pillow_13;
    const Image result = resize(image, row[1], row[2], static_cast<Resample>(row[3].get<int>()), order);
    EXPECT_EQ(crc(result.pixels), row[5]) << row;
    const Resizer other = order == Resizer::pillow_12 ? Resizer::pillow_13 : Resizer::pillow_12;
    const Image turned = resize(image, row[1], row[2], static_cast<Resample>(row[3].get<int>()), other);
    orders_differ += turned.pixels != result.pixels;
  }
  EXPECT_GT(orders_differ, 0);
}

TEST(Images, AreProcessedAsTransformersDoesWithPillow) {
  const TemporaryFolder folder;
  ASSERT_EQ(expected()["processed"].size(), 9 * 3);
  for (const Json& row : expected()["processed"]) {
    put(folder / "preprocessor_config.json", row[0].dump());
    const ImageProcessor processor = ImageProcessor::from_folder(folder.path());
    EXPECT_EQ(Json({processor.height(), processor.width()}), row[2]) << row;
    EXPECT_EQ(crc(processor(read_image(image_file(row[1])))), row[3]) << row;
  }
}

// oracle/make_torchvision_images.py
TEST(Images, AreResizedAndProcessedAsTransformersDoesWithTorchvision) {
  const Json torchvision = read_json_object(image_file("torchvision.json"));
  ASSERT_EQ(torchvision["resized"].size(), 2 * 7 * 4);
  int64_t unlike_pillow = 0;
  for (const Json& row : torchvision["resized"]) {
    const Image image = read_image(image_file(row[0]));
    const auto resample = static_cast<Resample>(row[3].get<int>());
    const Image result = resize(image, row[1], row[2], resample, Resizer::torch);
    EXPECT_EQ(crc(result.pixels), row[4]) << row;
    unlike_pillow += resize(image, row[1], row[2], resample, Resizer::pillow_12).pixels != result.pixels;
  }
  EXPECT_GT(unlike_pillow, 10);

  const TemporaryFolder folder;
  ASSERT_EQ(torchvision["processed"].size(), 9 * 3);
  for (const Json& row : torchvision["processed"]) {
    put(folder / "preprocessor_config.json", row[0].dump());
    const ImageProcessor processor = ImageProcessor::from_folder(folder.path(), ImageBackend::torchvision);
    EXPECT_EQ(Json({processor.height(), processor.width()}), row[2]) << row;
    EXPECT_EQ(crc(processor(read_image(image_file(row[1])))), row[3]) << row;
  }
  const Image image = read_image(image_file("noise.png"));
  for (const Resample filter : {Resample::box, Resample::hamming}) {
    EXPECT_EQ(error_of([&] { resize(image, 9, 9, filter, Resizer::torch); }).id(), "config.image-processor");
  }
}

TEST(Images, OfOtherKindsAreRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> files = {
      {"refused_16_bits.png", "16 bits"}, {"refused_cmyk.jpg", "CMYK"}, {"refused_animation.png", "animation"},
      {"refused.gif", "GIF is not read"}, {"refused.bmp", "BMP"},       {"refused.tiff", "TIFF"},
      {"refused_animation.webp", kWebP},  {"expected.json", "none of"}};
  for (const auto& [name, word] : files) {
    const Error error = error_of([&, &file = name] { read_image(image_file(file)); });
    EXPECT_EQ(error.id(), "format.image") << name;
    EXPECT_EQ(error.parts().where, image_file(name).string());
    EXPECT_NE(error.parts().what.find(word), std::string::npos) << error.what();
  }
  EXPECT_EQ(error_of([] { read_image(image_file("none.png")); }).id(), "io.not-found");
  EXPECT_EQ(error_of([] { decode_image("", "nothing"); }).id(), "format.image");
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n";
  for (const auto& [bytes, word] : {std::pair{pointer, "Git LFS"}, {std::string("<!DOCTYPE html>"), "a web page"}}) {
    const Error error = error_of([&, &bytes = bytes] { decode_image(bytes, "a.png"); });
    EXPECT_NE(error.parts().what.find(word), std::string::npos) << error.what();
  }
}

TEST(Images, ThatClaimMorePixelsThanPillowTakesAreRefusedBeforeThereIsMemoryForThem) {
  std::string png = read_file(image_file("noise.png"));
  const auto set_size = [&](uint32_t height, uint32_t width) {
    for (int i = 0; i < 4; ++i) {
      png[static_cast<size_t>(16 + i)] = static_cast<char>(width >> (24 - 8 * i));
      png[static_cast<size_t>(20 + i)] = static_cast<char>(height >> (24 - 8 * i));
    }
    const uint32_t sum = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(png.data() + 12), 17));
    for (int i = 0; i < 4; ++i) png[static_cast<size_t>(29 + i)] = static_cast<char>(sum >> (24 - 8 * i));
  };
  set_size(100'000, 100'000);
  const Error error = error_of([&] { decode_image(png, "bomb.png"); });
  EXPECT_NE(error.parts().what.find("100000 x 100000 pixels"), std::string::npos) << error.what();
  set_size(19, 26);
  EXPECT_EQ(decode_image(png, "whole.png").width, 26);
}

TEST(Images, ThatWouldBeStretchedToMillionsOfPixelsAreRefused) {
  const TemporaryFolder folder;
  put(folder / "preprocessor_config.json", R"({"image_processor_type": "CLIPImageProcessor"})");
  const ImageProcessor processor = ImageProcessor::from_folder(folder.path());
  const auto line = [](int64_t height, int64_t width) {
    return Image{
        .height = height, .width = width, .pixels = std::vector<uint8_t>(static_cast<size_t>(height * width * 3))};
  };
  EXPECT_EQ(processor.resized(line(2, 2000)).width, 224);
  for (const Image& image : {line(1, 2000), line(2000, 1)}) {
    const Error error = error_of([&] { processor.resized(image); });
    EXPECT_EQ(error.id(), "data.image-size");
    EXPECT_NE(error.parts().what.find("448000"), std::string::npos) << error.what();
  }
}

TEST(Images, ThatAreCutOrDamagedAreRefusedOrReadWithinBounds) {
  std::mt19937 draw(26);
  for (const char* name : {"noise_1.jpg", "smooth_progressive.jpg", "exif6.jpg", "noise.png",
                           "smooth_palette_alpha.png", "xmp8.png", "noise_alpha.webp", "exif6.webp"}) {
    const std::string whole = read_file(image_file(name));
    const auto outcome = [&](const std::string& bytes) {
      try {
        const Image image = decode_image(bytes, name);
        EXPECT_EQ(static_cast<int64_t>(image.pixels.size()), image.height * image.width * 3);
        return std::string("read");
      } catch (const Error& error) {
        return error.id();
      }
    };
    for (size_t size = 0; size < whole.size() / 2; size += whole.size() / 60 + 1) {
      EXPECT_EQ(outcome(whole.substr(0, size)), "format.image") << name << " cut to " << size;
    }
    for (int i = 0; i < 300; ++i) {
      std::string bytes = whole;
      for (int flips = 0; flips < 3; ++flips) bytes[draw() % bytes.size()] = static_cast<char>(draw());
      const std::string id = outcome(bytes);
      EXPECT_TRUE(id == "read" || id == "format.image") << name << " " << id;
    }
  }
}

TEST(Images, OrientationsOutsideTheFileChangeNothing) {
  const std::string header("Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 28);
  EXPECT_EQ(image::exif_orientation(header), 6);
  EXPECT_EQ(image::exif_orientation(header.substr(6)), 6);
  for (size_t size = 0; size < header.size() - 2; ++size) EXPECT_FALSE(image::exif_orientation(header.substr(0, size)));
  std::string far = header;
  far[13] = '\x7f';  // the directory lies beyond the end
  EXPECT_FALSE(image::exif_orientation(far));
  EXPECT_EQ(image::xmp_orientation("<tiff:Orientation>3</tiff:Orientation>"), 3);
  EXPECT_FALSE(image::xmp_orientation("tiff:Orientation tiff:Orientation=\""));
}

TEST(ImageProcessors, OfOtherModelsAndOtherStepsAreRefusedByName) {
  const TemporaryFolder folder;
  const auto refused = [&](const Json& config) {
    put(folder / "preprocessor_config.json", config.dump());
    return error_of([&] { ImageProcessor::from_folder(folder.path()); });
  };
  const Error other = refused({{"image_processor_type", "LlavaImageProcessor"}});
  EXPECT_EQ(other.id(), "config.image-processor");
  EXPECT_NE(other.parts().what.find("LlavaImageProcessor"), std::string::npos);
  EXPECT_EQ(refused({{"image_processor_type", "ViTImageProcessor"}, {"do_pad", true}}).id(), "config.image-processor");
  EXPECT_EQ(refused({{"image_processor_type", "CLIPImageProcessor"}, {"do_center_crop", false}}).id(),
            "config.image-processor");
  EXPECT_EQ(refused({{"size", {{"longest_edge", 30}}}}).id(), "config.image-processor");
  EXPECT_EQ(refused({{"size", 0}}).id(), "format.wrong-type");
  EXPECT_EQ(refused({{"resample", 7}}).id(), "format.wrong-type");
  EXPECT_EQ(refused({{"image_std", {1, 0, 1}}}).id(), "format.wrong-type");
  EXPECT_EQ(refused({{"do_pad", false}, {"feature_extractor_type", "ViTFeatureExtractor"}}).id(), "none");
}

TEST(ImageProcessors, SurviveStrangeValues) {
  const Json whole = {{"image_processor_type", "BitImageProcessor"},
                      {"do_resize", true},
                      {"size", {{"shortest_edge", 9}}},
                      {"crop_size", {{"height", 8}, {"width", 8}}},
                      {"resample", 3},
                      {"rescale_factor", 0.01},
                      {"image_mean", {0.5, 0.5, 0.5}},
                      {"image_std", {0.5, 0.5, 0.5}}};
  const TemporaryFolder folder;
  const Image image = read_image(image_file("noise.png"));
  test::each_mutation(whole, [&](const Json& config, const std::string& what) {
    put(folder / "preprocessor_config.json", config.dump());
    test::ends_clearly(what, [&] {
      const ImageProcessor processor = ImageProcessor::from_folder(folder.path());
      EXPECT_EQ(static_cast<int64_t>(processor(image).size()), 3 * processor.height() * processor.width()) << what;
    });
  });
}

}  // namespace
}  // namespace deltaw
