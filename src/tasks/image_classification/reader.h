// How files of images become rows, and what is said of them.
#pragma once

#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::image_classification {

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::image_classification
