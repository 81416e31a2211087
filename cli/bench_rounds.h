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
  std::vector<std::string> args;  // of the `deltaw bench` that times it in one round and prints one line of JSON
};

/// The figures of a method from those of its rounds: "step_ms", the median of all timed steps; "min_ms", the fastest
/// with its parts; "spread", by how much the slowest round's fastest step is above that, as a fraction; and the least
/// of the other figures.
Json figures_of(const std::string& method, const std::vector<Json>& rounds);

/// Runs all of them `rounds` times, round by round, and returns the figures of each, with their ratios to the first
/// one's. What a process writes to standard error is passed on once. Throws ChildFailed.
std::vector<Json> run_rounds(const std::vector<Contestant>& contestants, int64_t rounds);

/// Figures as a table for people.
std::string figures_text(const std::vector<Json>& methods);

/// A process of the comparison ended without a result; it has said why.
struct ChildFailed {
  int exit_code = 1;
};

}  // namespace deltaw::cli
