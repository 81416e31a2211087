// Several benchmarks in turns, each in a process of its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltaw/options.h"

namespace deltaw::cli {

/// One row of the comparison.
struct Contestant {
  std::string method;
  std::vector<std::string> args;  // of the `deltaw bench` that times it once and prints one JSON object
};

/// Runs all of them `rounds` times, round by round, and answers {"rounds", "methods"}: for each method the least figure
/// over its rounds, "spread", by how much the slowest round's step is above it, as a fraction, and the ratios to the
/// first method. What a process writes to standard error is passed on once. Throws ChildFailed.
Json run_rounds(const std::vector<Contestant>& contestants, int64_t rounds);

/// That as a table for people.
std::string rounds_text(const Json& facts);

/// A process of the comparison ended without a result; it has said why.
struct ChildFailed {
  int exit_code = 1;
};

}  // namespace deltaw::cli
