// SIGINT, SIGTERM and SIGHUP (a terminal that was closed) as a request to stop at the next step.
#pragma once

#include "deltaw/train.h"

namespace deltaw::cli {

/// While one lives, the first of them is noted and gives all of them back to whoever had them before, so that a second
/// one acts as it did, but for a second SIGHUP. Where SIGHUP is ignored (nohup), it stays so. Guards may nest or stand
/// in several threads: the outermost one owns the handlers.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

  int caught() const;  // the signal, or 0
};

/// trainer.train(), which a signal ends after the step at hand, with a checkpoint.
TrainResult train_until_signalled(Trainer& trainer);

}  // namespace deltaw::cli
