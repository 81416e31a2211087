// How files become rows of multiple choice.
#pragma once

#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::multiple_choice {

std::unique_ptr<TaskReader> make_reader();

/// Throws config.unknown-metric.
void check_metric(const std::string& name);

}  // namespace deltaw::multiple_choice
