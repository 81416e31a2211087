// How files become rows of a causal language model, and what is said of them.
#pragma once

#include <memory>
#include <string>

#include "deltaw/task_reader.h"

namespace deltaw::causal_lm {

/// Tokens of a row where max_length is not given, as in TRL.
inline constexpr int64_t kMaxLength = 1024;

/// Throws config.unknown-metric for what is no score of a causal language model.
void check_metric(const std::string& name);

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::causal_lm
