#include "data/shuffle.h"

#include <limits>
#include <numeric>

namespace deltaw::data {

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
