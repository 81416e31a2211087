// Which images the options of a run mean.
#pragma once

#include <optional>
#include <string>

#include "data/load_rows.h"

namespace deltaw::data {

/// The column of a table that ImageTables makes, whatever it is called in the file.
inline constexpr const char* kImageColumn = "image";

/// Tables of images: sets of them (data/image_sets.h), or files of rows with a column of paths, which begin at the
/// file's folder. A folder of data may hold a folder for each split, with class folders in it (train, validation or
/// val, test, and what else `datasets` takes for these), the binary files of CIFAR and MNIST as they are shipped, class
/// folders alone, or files of rows.
class ImageTables final : public Tables {
 public:
  /// `image_column` as the key of that name.
  ImageTables(const DataOptions& options, std::string image_column);

  bool has(Split split) const override;
  /// Throws config.no-data, config.no-files, config.dataset-dir, config.missing-column, io.not-found for a row whose
  /// file is not there, and what read_image_sets and read_table throw.
  Table read(Split split) const override;
  /// What names of files and folders lead to.
  Table read_named(const DataFiles& files, Split split) const;

 private:
  std::optional<DataFiles> row_files(Split split) const;
  Table read_rows(const DataFiles& files) const;

  const DataOptions& options_;
  std::string image_column_;
};

}  // namespace deltaw::data
