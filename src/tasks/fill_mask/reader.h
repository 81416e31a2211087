// How files become rows of a masked language model, and what is said of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/task_reader.h"

namespace deltaw::fill_mask {

/// Tokens of a row where max_length is not given: what most encoders read. A model that reads less shortens it.
inline constexpr int64_t kMaxLength = 512;

/// The first one chooses the best checkpoint.
std::vector<std::string> metric_names();
/// Throws config.unknown-metric for what is no score of a masked language model.
void check_metric(const std::string& name);

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::fill_mask
