// What the overview says of tasks.
#pragma once

#include <string>

namespace deltaw::cli {

/// The model families by the task that they are loaded for where none is asked for, a line for each task.
std::string families_by_task();

}  // namespace deltaw::cli
