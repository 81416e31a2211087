// preprocessor_config.json and processor_config.json, as transformers' image processors read it.
#include <fmt/format.h>

#include <array>

#include "core/json_fields.h"
#include "deltaw/error.h"
#include "deltaw/image.h"

namespace deltaw {
namespace {

constexpr const char* kSeveral = "processor_config.json";  // of models that read several things
constexpr const char* kInside = "image_processor";

using Channels = std::vector<double>;

/// What a class of transformers takes for a key that the file lacks.
struct Kind {
  const char* name;  // without ImageProcessor, FeatureExtractor, Fast
  Resample resample;
  int64_t size;
  bool square;  // one number is both sides; else the shorter one
  bool crops;   // to 224 x 224
  Channels mean, std;
};

const Kind* kind_of(std::string type) {
  static const Channels half = {0.5, 0.5, 0.5};
  static const Channels clip_mean = {0.48145466, 0.4578275, 0.40821073},
                        clip_std = {0.26862954, 0.26130258, 0.27577711};
  static const Kind kinds[] = {
      {"ViT", Resample::bilinear, 224, true, false, half, half},
      {"DeiT", Resample::bicubic, 256, true, true, half, half},
      {"Bit", Resample::bicubic, 224, false, true, clip_mean, clip_std},
      {"CLIP", Resample::bicubic, 224, false, true, clip_mean, clip_std},
      {"Siglip", Resample::bicubic, 224, true, false, half, half},
  };
  for (const char* ending : {"Pil", "Fast", "ImageProcessor", "FeatureExtractor"}) {
    if (type.ends_with(ending)) type.resize(type.size() - std::string(ending).size());
  }
  for (const Kind& kind : kinds) {
    if (type == kind.name) return &kind;
  }
  return nullptr;
}

[[noreturn]] void refuse(const std::string& what, const std::string& where) {
  throw Error({.id = "config.image-processor",
               .what = what,
               .where = where,
               .fix = "read are the image processors of ViT, DeiT, DINOv2 (Bit), CLIP and SigLIP"});
}

/// A size as the files have it: {"height", "width"}, {"shortest_edge"}, or one number.
struct Size {
  int64_t height = 0, width = 0, shortest_edge = 0;
};

Size size_of(const JsonFields& fields, const std::string& key, Size otherwise, bool square) {
  const auto positive = [&](int64_t number) {
    constexpr int64_t kMost = 1 << 14;
    if (number < 1 || number > kMost) fields.complain(key, fmt::format("sizes from 1 to {}", kMost));
    return number;
  };
  const auto found = fields.json().find(key);
  if (found == fields.json().end() || found->is_null()) return otherwise;
  if (const auto number = json_as<int64_t>(*found)) {
    const int64_t edge = positive(*number);
    return square ? Size{.height = edge, .width = edge} : Size{.shortest_edge = edge};
  }
  const JsonFields parts = fields.object(key);
  for (const auto& [name, value] : parts.json().items()) {
    if (value.is_null() || name == "height" || name == "width" || name == "shortest_edge") continue;
    refuse("'" + key + "' has '" + name + "', which is not supported", fields.where());
  }
  if (parts.has("shortest_edge")) return {.shortest_edge = positive(parts.get<int64_t>("shortest_edge"))};
  return {.height = positive(parts.get<int64_t>("height")), .width = positive(parts.get<int64_t>("width"))};
}

Channels channels_of(const JsonFields& fields, const std::string& key, const Channels& otherwise) {
  if (!fields.has(key)) return otherwise;
  if (const auto number = json_as<double>(fields.json()[key])) return Channels(3, *number);
  Channels channels = fields.get<std::vector<double>>(key);
  if (channels.size() != 3) fields.complain(key, "three numbers");
  return channels;
}

/// What stands for a byte: scaled in float64, rounded to float32 and normalised there.
float value_of_pil(int byte, bool rescales, double factor, bool normalizes, float mean, float std) {
  const auto value = static_cast<float>(rescales ? byte * factor : byte);
  return normalizes ? (value - mean) / std : value;
}

/// The same in float32, with the scale taken into mean and deviation.
float value_of_torchvision(int byte, bool rescales, double factor, bool normalizes, float mean, float std) {
  const auto value = static_cast<float>(byte);
  if (!normalizes) return rescales ? value * static_cast<float>(factor) : value;
  const auto scale = rescales ? static_cast<float>(1 / factor) : 1.0F;
  return (value - mean * scale) / (std * scale);
}

/// The shorter side of a line of pixels may become 224, and the longer one millions.
void check_length(const Image& image, int64_t height, int64_t width) {
  constexpr int64_t kMost = 1 << 26;
  if (height <= kMost / width) return;
  throw Error({.id = "data.image-size",
               .what = fmt::format("it would be stretched to {} x {} pixels before it is cropped", height, width),
               .where = fmt::format("an image of {} x {} pixels", image.height, image.width),
               .fix = "cut it to a part that is less long, or leave its row out"});
}

/// What only other processors do.
void refuse_other_steps(const JsonFields& fields) {
  for (const auto& [key, value] : fields.json().items()) {
    const bool known = key == "do_resize" || key == "do_center_crop" || key == "do_rescale" || key == "do_normalize" ||
                       key == "do_convert_rgb";
    if (key.starts_with("do_") && !known && value.is_boolean() && value.get<bool>()) {
      refuse("'" + key + "' is not supported", fields.where());
    }
  }
}

}  // namespace

std::optional<std::filesystem::path> ImageProcessor::file_in(const std::filesystem::path& folder) {
  const std::filesystem::path several = folder / kSeveral, own = folder / "preprocessor_config.json";
  if (std::filesystem::exists(several) && read_json_object(several).contains(kInside)) return several;
  return std::filesystem::exists(own) ? std::optional(own) : std::nullopt;
}

ImageProcessor ImageProcessor::from_folder(const std::filesystem::path& folder, ImageBackend backend) {
  const std::filesystem::path file = file_in(folder).value_or(folder / "preprocessor_config.json");
  const JsonFields all(read_json_object(file), file.string());
  const JsonFields fields = file.filename() == kSeveral ? all.object(kInside) : all;
  const std::string type =
      fields.get_or<std::string>("image_processor_type", fields.get_or<std::string>("feature_extractor_type", "ViT"));
  const Kind* const kind = kind_of(type);
  if (!kind) refuse("the image processor '" + type + "' is not supported", file.string());
  refuse_other_steps(fields);

  ImageProcessor processor;
  processor.backend_ = backend;
  processor.do_resize_ = fields.get_or("do_resize", true);
  const Size other = kind->square ? Size{.height = kind->size, .width = kind->size} : Size{.shortest_edge = kind->size};
  const Size size = size_of(fields, "size", other, kind->square);
  processor.shortest_edge_ = size.shortest_edge;
  processor.resize_height_ = size.height;
  processor.resize_width_ = size.width;
  const auto resample = fields.get_or<int64_t>("resample", static_cast<int64_t>(kind->resample));
  if (resample < 0 || resample > 5) fields.complain("resample", "a number from 0 to 5");
  processor.resample_ = static_cast<Resample>(resample);

  processor.do_center_crop_ = fields.get_or("do_center_crop", kind->crops);
  const Size crop = size_of(fields, "crop_size", {.height = 224, .width = 224}, /*square=*/true);
  if (processor.do_center_crop_ && crop.shortest_edge != 0) {
    fields.complain("crop_size", "a height and a width");
  }
  if (!processor.do_center_crop_ && (!processor.do_resize_ || size.shortest_edge != 0)) {
    refuse("images come out in different sizes, since nothing crops them", file.string());
  }
  processor.height_ = processor.do_center_crop_ ? crop.height : size.height;
  processor.width_ = processor.do_center_crop_ ? crop.width : size.width;

  const bool rescales = fields.get_or("do_rescale", true), normalizes = fields.get_or("do_normalize", true);
  const double factor = fields.get_or("rescale_factor", 1.0 / 255);
  const Channels mean = channels_of(fields, "image_mean", kind->mean),
                 std = channels_of(fields, "image_std", kind->std);
  processor.values_.reserve(size_t{3} * 256);
  for (size_t channel = 0; channel < 3; ++channel) {
    const auto centre = static_cast<float>(mean[channel]), spread = static_cast<float>(std[channel]);
    if (normalizes && spread == 0) fields.complain("image_std", "numbers other than 0");
    for (int byte = 0; byte < 256; ++byte) {
      processor.values_.push_back(backend == ImageBackend::pil
                                      ? value_of_pil(byte, rescales, factor, normalizes, centre, spread)
                                      : value_of_torchvision(byte, rescales, factor, normalizes, centre, spread));
    }
  }
  return processor;
}

Image ImageProcessor::resized(const Image& image) const {
  Image result;
  const Image* last = &image;
  if (do_resize_) {
    int64_t height = resize_height_, width = resize_width_;
    if (shortest_edge_ != 0) {
      const auto longer = [&](int64_t longest, int64_t shortest) {  // cut off, not rounded, as in Python's int()
        return static_cast<int64_t>(static_cast<double>(shortest_edge_ * longest) / static_cast<double>(shortest));
      };
      const bool upright = image.width <= image.height;
      height = upright ? longer(image.height, image.width) : shortest_edge_;
      width = upright ? shortest_edge_ : longer(image.width, image.height);
    }
    check_length(image, height, width);
    result =
        resize(image, height, width, resample_, backend_ == ImageBackend::pil ? Resizer::pillow_13 : Resizer::torch);
    last = &result;
  }
  return do_center_crop_ ? center_crop(*last, height_, width_, backend_) : *last;
}

void ImageProcessor::normalize(const Image& image, float* values) const {
  const size_t pixels = image.pixels.size() / 3;
  for (size_t channel = 0; channel < 3; ++channel) {
    const float* const of_byte = values_.data() + channel * 256;
    for (size_t i = 0; i < pixels; ++i) *values++ = of_byte[image.pixels[i * 3 + channel]];
  }
}

std::vector<float> ImageProcessor::operator()(const Image& image) const {
  const Image seen = resized(image);
  std::vector<float> values(seen.pixels.size());
  normalize(seen, values.data());
  return values;
}

}  // namespace deltaw
