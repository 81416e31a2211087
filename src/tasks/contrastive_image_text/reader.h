// How images and their captions become rows, and what is said of them.
#pragma once

#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::contrastive {

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::contrastive
