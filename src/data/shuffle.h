// Permutations that are the same on every machine: the standard fixes the engine's numbers, not what std::shuffle and
// the distributions make of them.
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace deltaw::data {

/// A number in [0, bound), each equally likely.
uint64_t draw_below(std::mt19937_64& engine, uint64_t bound);

template <class T>
void shuffle(std::vector<T>& items, std::mt19937_64& engine) {
  for (size_t left = items.size(); left > 1; --left) std::swap(items[left - 1], items[draw_below(engine, left)]);
}

/// 0 .. count-1 in random order.
std::vector<int64_t> permutation(int64_t count, std::mt19937_64& engine);

}  // namespace deltaw::data
