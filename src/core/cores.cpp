#include "core/cores.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

namespace deltaw {
namespace {

/// The cores that a control group grants, in time for each period; nothing without a limit.
std::optional<double> granted_cores() {
  double quota = 0, period = 0;
  if (std::ifstream("/sys/fs/cgroup/cpu.max") >> quota >> period && quota > 0 && period > 0) return quota / period;
  const bool first_version = std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota &&
                             std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  if (first_version && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

}  // namespace

int64_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int64_t cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
  if (const auto granted = granted_cores()) cores = std::min(cores, static_cast<int64_t>(std::ceil(*granted)));
  return std::max<int64_t>(cores, 1);
}

double core_pressure() {
  std::ifstream file("/proc/pressure/cpu");
  std::string kind, recent;
  if (!(file >> kind >> recent) || kind != "some" || !recent.starts_with("avg10=")) return 0;
  return std::atof(recent.c_str() + 6) / 100;
}

std::optional<std::string> core_warning(int64_t threads, int64_t cores, double pressure) {
  constexpr double kMuch = 0.3;
  if (threads > cores) {
    return fmt::format(
        "there are {} threads and {}: each step waits for the last of them; OMP_NUM_THREADS={} avoids it", threads,
        cores == 1 ? "one core" : fmt::format("{} cores", cores), cores);
  }
  if (pressure < kMuch) return std::nullopt;
  return fmt::format(
      "other processes use the cores too: in {:.0f} % of the last ten seconds something waited for one, so steps take "
      "longer than they could",
      100 * pressure);
}

}  // namespace deltaw
