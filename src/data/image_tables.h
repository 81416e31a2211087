// Sets of images as tables of two columns: where an image is, and its label.
#pragma once

#include <filesystem>
#include <string>

#include "data/table.h"
#include "deltaw/image.h"

namespace deltaw::data {

/// Whether `path` is such a set: a folder of class folders, or a binary file of CIFAR or MNIST.
bool is_image_set(const std::filesystem::path& path);

/// Its rows, with the columns "image" and "label".
///
/// - A folder holds a folder for each class, named as the class, with JPEG, PNG and WebP files at any depth; they come
///   sorted by name. Files of other kinds are passed over.
/// - CIFAR-10 and CIFAR-100 in their binary form (.bin): labels are the names of the classes, of CIFAR-100 the fine
/// ones.
/// - MNIST's images (idx3-ubyte), with the labels in the file beside it (idx1-ubyte). Packed files are to be unpacked.
///
/// Throws data.no-images, format.image-set.
Table read_image_set(const std::filesystem::path& path);

/// The image that such a row or a file of rows names: a path, or of a binary file the path, '#' and the record from 0.
Image load_image(const std::string& reference);

}  // namespace deltaw::data
