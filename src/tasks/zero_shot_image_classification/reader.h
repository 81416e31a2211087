// How images and the names of their classes become rows, and what is said of them.
#pragma once

#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::zero_shot {

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::zero_shot
