// The binary files of CIFAR and MNIST: images of one size, one behind the other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/table.h"
#include "deltaw/image.h"
#include "io/file_bytes.h"

namespace deltaw::data {

/// - CIFAR-10 and CIFAR-100 in their binary version (.bin). Labels are the names of the classes: CIFAR-10's own, and
///   those of fine_label_names.txt beside CIFAR-100's, whose fine classes are numbers where that is missing.
/// - MNIST and its like (images-idx3-ubyte, images.idx3-ubyte); labels are numbers, in the file beside it.
///
/// Both also packed by gzip or zstd; such a file is unpacked into memory, of any other a record is read when it is
/// asked for. One object serves several threads.
class ImageRecords {
 public:
  /// By the name alone.
  static bool is_one(const std::filesystem::path& path);

  /// Throws format.image-set for a file of another kind or length, format.compressed, io.*.
  explicit ImageRecords(const std::filesystem::path& path);

  int64_t count() const { return count_; }
  /// Of each record. Throws format.image-set where one has a label that is no class, or there is no file of labels.
  std::vector<Cell> labels() const;
  /// Throws format.image-set where there is no such record; they count from 0.
  Image image(int64_t record) const;

 private:
  std::string read(int64_t at, int64_t length) const;
  int64_t big_endian(int64_t at) const;
  void read_mnist_header();
  void find_cifar_kind();
  std::string label_bytes() const;
  std::vector<std::string> class_names() const;
  [[noreturn]] void refuse(const std::string& what) const;

  io::FileBytes file_;
  std::string unpacked_;       // all of it, where it was packed
  int64_t bytes_ = 0;          // unpacked
  int64_t header_ = 0;         // bytes before the first record
  int64_t labels_before_ = 0;  // bytes of labels before a record's pixels, the fine one last; 0: another file has them
  int64_t height_ = 32, width_ = 32;
  int64_t channels_ = 3;  // of planes
  int64_t count_ = 0;
};

}  // namespace deltaw::data
