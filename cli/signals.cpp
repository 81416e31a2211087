#include "signals.h"

#include <csignal>
#include <iterator>
#include <mutex>

namespace deltaw::cli {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

// A handler can reach nothing but globals.
volatile std::sig_atomic_t caught_signal = 0;
struct sigaction previous[std::size(kSignals)];
std::mutex guards_mutex;
int guards = 0;

void restore() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &previous[i], nullptr);
}

extern "C" void note_signal(int number) {
  caught_signal = number;
  restore();
  if (number == SIGHUP) std::signal(SIGHUP, SIG_IGN);  // the shell sends another as it ends
}

}  // namespace

SignalGuard::SignalGuard() {
  const std::lock_guard lock(guards_mutex);
  if (guards++ > 0) return;
  caught_signal = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  for (const int number : kSignals) sigaddset(&action.sa_mask, number);
  action.sa_flags = SA_RESTART;
  // All are read first: the handler may run as soon as the first is set.
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], nullptr, &previous[i]);
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    const bool outlives_terminal = kSignals[i] == SIGHUP && previous[i].sa_handler == SIG_IGN;  // under nohup
    if (!outlives_terminal) sigaction(kSignals[i], &action, nullptr);
  }
}

SignalGuard::~SignalGuard() {
  const std::lock_guard lock(guards_mutex);
  if (--guards == 0 && caught_signal == 0) restore();
}

int SignalGuard::caught() const {
  return caught_signal;
}

TrainResult train_until_signalled(Trainer& trainer) {
  const SignalGuard guard;
  trainer.stop_when([&] { return guard.caught(); });
  TrainResult result = trainer.train();
  trainer.stop_when({});
  return result;
}

}  // namespace deltaw::cli
