#include "data/shuffle.h"

#include <limits>
#include <numeric>

namespace deltaw::data {

uint64_t mix_seed(uint64_t seed, uint64_t stream) {
  uint64_t mixed = seed + (stream + 1) * 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return mixed ^ (mixed >> 31);
}

uint64_t draw_below(std::mt19937_64& engine, uint64_t bound) {
  // 2^64 mod bound: below it some remainders would come up once more than others.
  const uint64_t uneven = (std::numeric_limits<uint64_t>::max() - bound + 1) % bound;
  uint64_t drawn = engine();
  while (drawn < uneven) drawn = engine();
  return drawn % bound;
}

std::vector<int64_t> permutation(int64_t count, std::mt19937_64& engine) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  shuffle(order, engine);
  return order;
}

}  // namespace deltaw::data
