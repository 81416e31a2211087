// How files become rows of a classifier, and what is said of them.
#pragma once

#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::seq_cls {

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::seq_cls
