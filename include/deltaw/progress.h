// How far something is that takes its time.
#pragma once

#include <cstdint>
#include <functional>

namespace deltaw {

/// Called as rows or tensors are done, with how many are and how many there are.
using Progress = std::function<void(int64_t done, int64_t all)>;

}  // namespace deltaw
