#include "data/image_records.h"

#include <fmt/format.h>

#include <array>

#include "core/ascii.h"
#include "core/files.h"
#include "core/text_file.h"
#include "core/unpack.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;

constexpr std::array kCifar10 = {"airplane", "automobile", "bird",  "cat",  "deer",
                                 "dog",      "frog",       "horse", "ship", "truck"};

/// Without the ending of its packing.
std::string plain_name(const fs::path& path) {
  const std::string ending = lower(path.extension().string());
  return (ending == ".gz" || ending == ".zst" ? path.stem() : path.filename()).string();
}

bool is_mnist(const std::string& name) {
  return name.ends_with("images-idx3-ubyte") || name.ends_with("images.idx3-ubyte");
}

/// The file of labels that belongs to one of images, packed or not.
fs::path labels_beside(const fs::path& images) {
  std::string name = plain_name(images);
  name.replace(name.size() - 17, 11, name[name.size() - 11] == '.' ? "labels.idx1" : "labels-idx1");
  for (const char* packing : {"", ".gz", ".zst"}) {
    fs::path path = images.parent_path() / (name + packing);
    if (fs::exists(path)) return path;
  }
  return images.parent_path() / name;
}

[[noreturn]] void refuse_file(const fs::path& file, const std::string& what) {
  throw Error({.id = "format.image-set",
               .what = what,
               .where = file.string(),
               .fix = "take it from its source again, CIFAR in the binary version"});
}

}  // namespace

bool ImageRecords::is_one(const fs::path& path) {
  const std::string name = plain_name(path);
  return name.ends_with(".bin") || is_mnist(name);
}

ImageRecords::ImageRecords(const fs::path& path) : file_(path), bytes_(static_cast<int64_t>(file_.size())) {
  const std::string magic = file_.read(0, std::min<uint64_t>(file_.size(), 4));
  if (packing_of(magic) != Packing::none) {
    unpacked_ = unpacked(file_.read(0, file_.size()), path.string());
    bytes_ = static_cast<int64_t>(unpacked_.size());
  }
  is_mnist(plain_name(path)) ? read_mnist_header() : find_cifar_kind();
  if (count_ == 0) refuse("it holds no image");
}

void ImageRecords::refuse(const std::string& what) const {
  refuse_file(file_.path(), what);
}

std::string ImageRecords::read(int64_t at, int64_t length) const {
  if (!unpacked_.empty()) return unpacked_.substr(static_cast<size_t>(at), static_cast<size_t>(length));
  return file_.read(static_cast<uint64_t>(at), static_cast<uint64_t>(length));
}

int64_t ImageRecords::big_endian(int64_t at) const {
  int64_t value = 0;
  for (const char byte : read(at, 4)) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

void ImageRecords::read_mnist_header() {
  constexpr int64_t kMagic = 2051, kMost = 1 << 14;
  header_ = 16;
  channels_ = 1;
  if (bytes_ < header_ || big_endian(0) != kMagic) refuse("it is no file of MNIST's images");
  count_ = big_endian(4);
  height_ = big_endian(8);
  width_ = big_endian(12);
  if (height_ < 1 || width_ < 1 || height_ > kMost || width_ > kMost) {
    refuse(fmt::format("it says that its images have {} x {} pixels", width_, height_));
  }
  if (bytes_ != header_ + height_ * width_ * count_) {
    refuse(fmt::format("it says {} images, and its length is that of another number", count_));
  }
}

void ImageRecords::find_cifar_kind() {
  for (const int64_t labels : {1, 2}) {
    const int64_t record = labels + channels_ * height_ * width_;
    if (bytes_ == 0 || bytes_ % record != 0) continue;
    labels_before_ = labels;
    count_ = bytes_ / record;
    return;
  }
  refuse("its length is that of no number of CIFAR's records (3,073 or 3,074 bytes each)");
}

std::string ImageRecords::label_bytes() const {
  std::string bytes;
  if (labels_before_ == 0) {
    constexpr int64_t kMagic = 2049, kHeader = 8;
    const fs::path beside = labels_beside(file_.path());
    bytes = unpacked(read_file(beside), beside.string());
    const auto number = [&](size_t at) {
      int64_t value = 0;
      for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
      return value;
    };
    if (static_cast<int64_t>(bytes.size()) != kHeader + count_ || number(0) != kMagic || number(4) != count_) {
      refuse_file(beside, fmt::format("it has not a label for each of the {} images", count_));
    }
    return bytes.substr(kHeader);
  }
  const int64_t record = labels_before_ + channels_ * height_ * width_;
  for (int64_t i = 0; i < count_; ++i) bytes += read(i * record + labels_before_ - 1, 1);
  return bytes;
}

std::vector<std::string> ImageRecords::class_names() const {
  if (labels_before_ == 1) return {kCifar10.begin(), kCifar10.end()};
  std::vector<std::string> names;
  const fs::path beside = file_.path().parent_path() / "fine_label_names.txt";
  if (labels_before_ != 2 || !fs::exists(beside)) return names;
  each_line(read_text(beside), [&](std::string_view line, int64_t) { names.emplace_back(trimmed(line)); });
  std::erase(names, "");
  return names;
}

std::vector<Cell> ImageRecords::labels() const {
  const std::vector<std::string> names = class_names();
  std::vector<Cell> cells;
  for (const char byte : label_bytes()) {
    const auto label = static_cast<uint8_t>(byte);
    if (names.empty()) {
      cells.push_back({.kind = Cell::Kind::number, .text = std::to_string(label)});
    } else if (label < names.size()) {
      cells.push_back({.kind = Cell::Kind::text, .text = names[label]});
    } else {
      refuse(fmt::format("record {} has label {}, and there are {} classes", cells.size(), label, names.size()));
    }
  }
  return cells;
}

Image ImageRecords::image(int64_t record) const {
  if (record < 0 || record >= count_) refuse(fmt::format("there is no record {}, but {} of them", record, count_));
  const int64_t plane = height_ * width_, size = channels_ * plane;
  const std::string bytes = read(header_ + record * (labels_before_ + size) + labels_before_, size);
  Image image{.height = height_, .width = width_, .pixels = {}};
  image.pixels.reserve(static_cast<size_t>(plane * 3));
  for (int64_t i = 0; i < plane; ++i) {
    for (int64_t c = 0; c < 3; ++c) {
      image.pixels.push_back(static_cast<uint8_t>(bytes[static_cast<size_t>(channels_ == 1 ? i : c * plane + i)]));
    }
  }
  return image;
}

}  // namespace deltaw::data
