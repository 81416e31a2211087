#include "data/image_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "deltaw/error.h"
#include "io/file_bytes.h"

namespace deltaw::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCifarPixels = 3 * 32 * 32;
constexpr std::array kCifar10 = {"airplane", "automobile", "bird",  "cat",  "deer",
                                 "dog",      "frog",       "horse", "ship", "truck"};

[[noreturn]] void refuse(const fs::path& file, const std::string& what, const std::string& fix) {
  throw Error({.id = "format.image-set", .what = what, .where = file.string(), .fix = fix});
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool is_image_name(const fs::path& path) {
  const std::string ending = lower(path.extension().string());
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png" || ending == ".webp";
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && !entry.path().filename().string().starts_with('.')) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<fs::path> images_in(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && is_image_name(entry.path())) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// A file of records of one size: CIFAR's pixels are planes, MNIST's are grey.
struct Records {
  int64_t header = 0;  // bytes before the first
  int64_t size = 0;    // of a record
  int64_t label = -1;  // the place of its label; -1: it has none
  int64_t pixels = 0;  // the place of its pixels
  int64_t height = 32, width = 32;
  bool grey = false;
  int64_t count = 0;
};

int64_t big_endian(const io::FileBytes& file, uint64_t at) {
  int64_t value = 0;
  for (const char byte : file.read(at, 4)) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

bool is_mnist(const fs::path& path) {
  return path.filename().string().ends_with("images-idx3-ubyte");
}

Records mnist_records(const io::FileBytes& file) {
  constexpr int64_t kMagic = 2051, kMost = 1 << 14;
  if (file.size() < 16 || big_endian(file, 0) != kMagic)
    refuse(file.path(), "it is no file of MNIST's images", "take it from its source again");
  Records records{.header = 16, .height = big_endian(file, 8), .width = big_endian(file, 12), .grey = true};
  if (records.height < 1 || records.width < 1 || records.height > kMost || records.width > kMost) {
    refuse(file.path(), "its images have no size", "take it from its source again");
  }
  records.size = records.height * records.width;
  records.count = big_endian(file, 4);
  if (static_cast<int64_t>(file.size()) != records.header + records.size * records.count) {
    refuse(file.path(), fmt::format("it says {} images, and its length is that of another number", records.count),
           "take it from its source again");
  }
  return records;
}

Records cifar_records(const io::FileBytes& file) {
  const auto size = static_cast<int64_t>(file.size());
  for (const int64_t labels : {1, 2}) {
    const int64_t record = labels + kCifarPixels;
    if (size > 0 && size % record == 0) {
      return {.size = record, .label = labels - 1, .pixels = labels, .count = size / record};
    }
  }
  refuse(file.path(), "its length is that of no number of CIFAR's records (3,073 or 3,074 bytes each)",
         "take it from its source again, in the binary version");
}

Records records_of(const io::FileBytes& file) {
  return is_mnist(file.path()) ? mnist_records(file) : cifar_records(file);
}

std::string labels_of(const io::FileBytes& file, const Records& records) {
  std::string labels;
  if (records.label < 0) {
    const std::string name = file.path().filename().string();
    const fs::path beside = file.path().parent_path() / (name.substr(0, name.size() - 16) + "labels-idx1-ubyte");
    const io::FileBytes own(beside);
    if (own.size() != static_cast<uint64_t>(8 + records.count) || big_endian(own, 0) != 2049) {
      refuse(beside, fmt::format("it has not a label for each of the {} images", records.count),
             "take both files from their source again");
    }
    return own.read(8, static_cast<uint64_t>(records.count));
  }
  for (int64_t i = 0; i < records.count; ++i) {
    labels += file.read(static_cast<uint64_t>(records.header + i * records.size + records.label), 1);
  }
  return labels;
}

Cell text(std::string value) {
  return {.kind = Cell::Kind::text, .text = std::move(value)};
}

Table read_records(const fs::path& path) {
  const io::FileBytes file(path);
  const Records records = records_of(file);
  const std::string labels = labels_of(file, records);
  const bool named = !records.grey && records.size == 1 + kCifarPixels;
  Table table{.file = path, .unit = "record", .columns = {"image", "label"}};
  for (int64_t i = 0; i < records.count; ++i) {
    const auto label = static_cast<uint8_t>(labels[static_cast<size_t>(i)]);
    if (named && label >= kCifar10.size()) {
      refuse(path, fmt::format("record {} has label {}, and there are ten classes", i, label),
             "take it from its source again");
    }
    Cell cell = named ? text(kCifar10[label]) : Cell{.kind = Cell::Kind::number, .text = std::to_string(label)};
    table.rows.push_back({.line = i + 1, .cells = {text(fmt::format("{}#{}", path.string(), i)), std::move(cell)}});
  }
  return table;
}

Image load_record(const fs::path& path, int64_t record) {
  const io::FileBytes file(path);
  const Records records = records_of(file);
  if (record < 0 || record >= records.count) {
    refuse(path, fmt::format("there is no record {} of {}", record, records.count),
           "use the file that the rows were made of");
  }
  const std::string bytes = file.read(static_cast<uint64_t>(records.header + record * records.size + records.pixels),
                                      static_cast<uint64_t>(records.size - records.pixels));
  const auto plane = static_cast<size_t>(records.height * records.width);
  Image image{.height = records.height, .width = records.width, .pixels = std::vector<uint8_t>(plane * 3)};
  for (size_t i = 0; i < plane; ++i) {
    for (size_t c = 0; c < 3; ++c)
      image.pixels[i * 3 + c] = static_cast<uint8_t>(bytes[records.grey ? i : c * plane + i]);
  }
  return image;
}

}  // namespace

bool is_image_set(const fs::path& path) {
  if (fs::is_directory(path)) {
    for (const fs::path& folder : folders_in(path)) {
      if (!images_in(folder).empty()) return true;
    }
    return false;
  }
  return path.extension() == ".bin" || is_mnist(path);
}

Table read_image_set(const fs::path& path) {
  if (!fs::is_directory(path)) return read_records(path);
  Table table{.file = path, .unit = "image", .columns = {"image", "label"}};
  for (const fs::path& folder : folders_in(path)) {
    for (const fs::path& image : images_in(folder)) {
      const auto line = static_cast<int64_t>(table.rows.size()) + 1;
      table.rows.push_back({.line = line, .cells = {text(image.string()), text(folder.filename().string())}});
    }
  }
  if (!table.rows.empty()) return table;
  throw Error({.id = "data.no-images",
               .what = "no folder in it holds an image",
               .where = path.string(),
               .fix = "make a folder for each class with its JPEG, PNG or WebP files in it"});
}

Image load_image(const std::string& reference) {
  const size_t mark = reference.rfind('#');
  int64_t record = 0;
  if (mark != std::string::npos) {
    const char* const end = reference.data() + reference.size();
    const auto [stop, problem] = std::from_chars(reference.data() + mark + 1, end, record);
    const fs::path file = reference.substr(0, mark);
    if (problem == std::errc() && stop == end && (file.extension() == ".bin" || is_mnist(file))) {
      return load_record(file, record);
    }
  }
  return read_image(reference);
}

}  // namespace deltaw::data
