// The task as its keys have it.
#pragma once

#include <memory>

#include "deltaw/task.h"

namespace deltaw::zero_shot {

/// `temperature`: what cosines are divided by; 0: they are scaled and shifted as the model does.
std::unique_ptr<Task> make_task(double temperature);

}  // namespace deltaw::zero_shot
