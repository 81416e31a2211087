// The processor cores that this process works on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace deltaw {

/// Cores that this process may use: those of its affinity, or less where a control group limits its time.
int64_t usable_cores();

/// The share of the last ten seconds in which some process had to wait for a core (the kernel's pressure stall
/// information); 0 where it does not say.
double core_pressure();

/// What slows down work in so many threads: fewer cores than threads, or other processes on the cores.
std::optional<std::string> core_warning(int64_t threads, int64_t cores, double pressure);

}  // namespace deltaw
