// Folders of data sets: as `datasets` saves them, and as they lie on the Hugging Face hub.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::data {

/// What `datasets` takes for a name of a split, its own first.
const std::vector<std::string>& split_words(Split split);

/// The files of a split, in order; without a split, those of the only one that there is. A folder that says nothing of
/// splits (one data set of save_to_disk, or files whose names name none) stands for whichever is asked for or, as the
/// folder of the whole data set (`as_dataset`), for the training split. Throws config.no-files, which lists the splits
/// that there are; config.dataset-folder for a folder of other things.
///
/// save_to_disk: dataset_dict.json names folders, and state.json in each of these their files. Else files are told by
/// their names as `datasets` does: data/SPLIT-00000-of-00002.*; folders named as a split; files named so; all.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder, std::optional<Split> split,
                                               bool as_dataset = false);

/// Whether the folder of a data set has files of that split. Throws config.no-files where it is no folder or has none.
bool has_split(const std::filesystem::path& folder, Split split);

}  // namespace deltaw::data
