// Labelled rows of tables, wherever these come from: files of text are one place, folders of images another.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

/// The table of a split; nothing where there is none.
using TableOf = std::function<std::optional<Table>(Split split)>;

/// As load_training_data, load_split and load_file.
TrainingData training_rows(const DataOptions& options, uint64_t seed, const HeadLabels& head, const TableOf& table_of);
Dataset split_rows(const DataOptions& options, Split split, const LabelSet& labels, Labels use, uint64_t seed,
                   const TableOf& table_of);
Dataset rows_of(const Table& table, const DataOptions& options, const LabelSet& labels, Labels use);

}  // namespace deltaw::data
