// One method's training steps, timed in this process.
#pragma once

#include <cstdint>

#include "setup.h"

namespace deltaw::cli {

/// Trains `steps` optimiser steps on random rows, prints what they took as one JSON object and answers the exit code.
/// Settles in `setup` what the model decides.
int time_steps(Setup& setup, int64_t steps);

}  // namespace deltaw::cli
