// Sets of images as tables of two columns: where an image is, and its label.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "data/image_records.h"
#include "data/table.h"
#include "deltaw/image.h"

namespace deltaw::data {

/// Whether a file has the name of a JPEG, PNG or WebP file.
bool is_image_name(const std::filesystem::path& path);

/// Whether a folder has folders with images in them, at any depth.
bool has_class_folders(const std::filesystem::path& folder);
/// Whether a folder has images itself.
bool has_images(const std::filesystem::path& folder);

/// The rows of such sets, one after the other, with the columns "image" and "label":
///
/// - A folder with a folder for each class, named as the class, and images at any depth of it. They come sorted by
///   name. Files of other kinds, and what begins with "." or "__", are passed over.
/// - A folder with images alone, and an image: they have no label.
/// - A binary file of CIFAR or MNIST (data/image_records.h).
///
/// Throws data.no-images for a class without images, format.image-set, io.*.
Table read_image_sets(const std::vector<std::filesystem::path>& sets);

/// Reads the image that a cell of "image" names: a file, or a binary file with '#' and the number of its record.
class ImageFiles {
 public:
  /// Throws format.image, format.image-set, io.*. May be called from any thread; binary files stay open.
  Image read(const std::string& name) const;

 private:
  std::shared_ptr<const ImageRecords> records(const std::string& path) const;

  mutable std::mutex guard_;
  mutable std::map<std::string, std::shared_ptr<const ImageRecords>> records_;
};

}  // namespace deltaw::data
