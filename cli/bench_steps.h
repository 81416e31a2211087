// One method's training steps, timed in this process.
#pragma once

#include <cstdint>

#include "deltaw/run.h"

namespace deltaw::cli {

struct Timed {
  Json figures;    // that `deltaw bench` prints of one round
  int signal = 0;  // that stopped the steps: then there are no figures
};

/// Trains `steps` optimiser steps on random rows. Settles in `settings` what the model decides.
Timed time_steps(RunSettings& settings, int64_t steps);

}  // namespace deltaw::cli
