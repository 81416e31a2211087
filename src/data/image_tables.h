// Which images the options of a run mean.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/load_rows.h"

namespace deltaw::data {

/// The column of a table that ImageTables makes, whatever it is called in the file.
inline constexpr const char* kImageColumn = "image";

/// Which of the rows are meant, and what they must have.
struct ImageChoice {
  std::string image_column = {};              // as the key of that name
  std::vector<std::string> only_labels = {};  // rows to train and evaluate on have one of these labels; empty: any
  bool unlabelled = false;                    // a folder of images alone will do for any split
};

/// Tables of images: sets of them (data/image_sets.h), or files of rows with a column of paths, which begin at the
/// file's folder. A folder of data may hold a folder for each split, with class folders in it (train, validation or
/// val, test, and what else `datasets` takes for these), the binary files of CIFAR and MNIST as they are shipped, class
/// folders alone, or files of rows: metadata.jsonl, metadata.csv or metadata.parquet beside the images, as Hugging
/// Face's imagefolder has it, before anything else.
class ImageTables final : public Tables {
 public:
  ImageTables(const DataOptions& options, ImageChoice choice);

  bool has(Split split) const override;
  /// Throws config.no-data, config.no-files, config.dataset-dir, config.missing-column, io.not-found for a row whose
  /// file is not there, data.no-such-label for one of only_labels that no row has, and what read_image_sets and
  /// read_table throw.
  Table read(Split split) const override;
  /// What names of files and folders lead to.
  Table read_named(const DataFiles& files, Split split) const;

 private:
  std::optional<DataFiles> row_files(Split split) const;
  Table read_all(Split split) const;
  Table read_all_named(const DataFiles& files, Split split) const;
  Table read_rows(const DataFiles& files) const;
  std::vector<std::filesystem::path> sets_in(const std::filesystem::path& root, Split split) const;
  std::vector<std::filesystem::path> sets_of_dataset(const std::filesystem::path& root, Split split) const;
  bool is_of_sets(const std::filesystem::path& root) const;
  Table chosen(Table table, Split split) const;

  const DataOptions& options_;
  ImageChoice choice_;
};

}  // namespace deltaw::data
