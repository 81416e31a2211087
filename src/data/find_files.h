// From what the options name to files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::data {

/// The files that the names lead to, in their order; those of a pattern sorted. Of a folder, those of `split` or, where
/// none is asked for, all that it holds, which must be of one split. Throws config.not-found, config.no-files (a
/// pattern or folder without files, or without the split: with what there is), config.dataset-folder.
std::vector<std::filesystem::path> find_files(const DataFiles& files, std::optional<Split> split = std::nullopt);

/// The same as a value of the options.
DataFiles found_files(const DataFiles& files, Split split);

/// Every file and folder that the names may lead to, for who checks what is read; nothing is refused.
std::vector<std::filesystem::path> paths_of(const DataFiles& files);

/// What messages call several files.
std::filesystem::path name_of(const std::vector<std::filesystem::path>& files);

const DataFiles& files_option(const DataOptions& options, Split split);
const char* option_name(Split split);  // "train_file"
const char* split_name(Split split);   // "train"

/// The files of a split in dataset_dir, a data set's folder; nothing where it has no such split. It must have a
/// training split. Throws config.dataset-dir.
std::optional<DataFiles> files_of_folder(const std::filesystem::path& folder, Split split);

}  // namespace deltaw::data
