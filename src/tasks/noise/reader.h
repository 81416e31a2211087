// How files of images become rows of a denoiser, and what is said of them.
#pragma once

#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::noise {

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::noise
