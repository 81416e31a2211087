// Which rows validation_split sets aside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::data {

/// Whether validation takes its rows from those of training: validation_split is set, and there is no file of its own.
bool holds_out(const DataOptions& options);
/// Whether there are rows of validation at all.
bool has_validation(const DataOptions& options);

/// Throws config.conflict for a number of rows where there are none to count.
void refuse_count(double share, const std::filesystem::path& file);

/// round(share * rows) rows are true, at least one on either side, or `share` rows where it is 1 or more, by a
/// permutation that depends on seed and number of rows alone. Throws data.too-few-rows, naming `file`, below two rows
/// and where no row would be left, config.out-of-range for 1 and 2.5.
std::vector<bool> held_out(size_t rows, double share, uint64_t seed, const std::filesystem::path& file);

/// Moves the rows that held_out() names from `dataset` to `held`, the others to `kept`.
template <class Dataset>
void hold_out_rows(Dataset& dataset, double fraction, uint64_t seed, Dataset& kept, Dataset& held) {
  const std::vector<bool> is_held = held_out(dataset.rows.size(), fraction, seed, dataset.file);
  for (size_t i = 0; i < is_held.size(); ++i) (is_held[i] ? held : kept).rows.push_back(std::move(dataset.rows[i]));
}

/// Leaves the first `most` rows; 0 is all.
template <class Dataset>
void keep_first_rows(Dataset& dataset, int64_t most) {
  const auto count = static_cast<size_t>(most);
  if (most > 0 && dataset.rows.size() > count) dataset.rows.resize(count);
}

/// Leaves what a split has of the rows of its file: those of its own side where validation takes rows from training
/// (`halves`), of these the first max_train_samples or max_eval_samples.
template <class Dataset>
void keep_split(Dataset& dataset, const DataOptions& options, Split split, uint64_t seed, bool halves) {
  if (split != Split::test && halves) {
    const std::vector<bool> is_held = held_out(dataset.rows.size(), options.validation_split, seed, dataset.file);
    size_t kept = 0;
    for (size_t i = 0; i < is_held.size(); ++i) {
      if (is_held[i] == (split == Split::validation)) std::swap(dataset.rows[kept++], dataset.rows[i]);
    }
    dataset.rows.resize(kept);
  }
  if (split == Split::train) keep_first_rows(dataset, options.max_train_samples);
  if (split == Split::validation) keep_first_rows(dataset, options.max_eval_samples);
}
template <class Dataset>
void keep_split(Dataset& dataset, const DataOptions& options, Split split, uint64_t seed) {
  keep_split(dataset, options, split, seed, split != Split::test && holds_out(options));
}

}  // namespace deltaw::data
