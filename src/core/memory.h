// The memory of this process and of the machine.
#pragma once

#include <cstdint>

namespace deltaw {

/// Peak and present resident memory of this process in bytes (VmHWM and VmRSS of /proc/self/status; 0 elsewhere).
int64_t peak_memory_bytes();
int64_t resident_memory_bytes();
/// What this process may use: the machine's memory, or less where a control group says so.
int64_t memory_bytes();

}  // namespace deltaw
