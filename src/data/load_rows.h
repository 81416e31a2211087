// Labelled rows of tables, wherever these come from: files of text are one place, folders of images another.
#pragma once

#include <cstdint>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

/// Where the tables of a data set's splits come from.
class Tables {
 public:
  virtual ~Tables() = default;
  virtual bool has(Split split) const = 0;
  /// Throws config.no-data where there is none.
  virtual Table read(Split split) const = 0;
};

/// As load_training_data, load_split and load_file.
TrainingData training_rows(const DataOptions& options, uint64_t seed, const HeadLabels& head, const Tables& tables);
Dataset split_rows(const DataOptions& options, Split split, const LabelSet& labels, Labels use, uint64_t seed,
                   const Tables& tables);
Dataset rows_of(const Table& table, const DataOptions& options, const LabelSet& labels, Labels use);

}  // namespace deltaw::data
