#include "data/hold_out.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

constexpr uint64_t kHoldOutStream = 0x686F6C64;  // apart from the streams of the epochs

}  // namespace

bool holds_out(const DataOptions& options) {
  return !split_file(options, Split::validation) && options.validation_split > 0;
}

bool has_validation(const DataOptions& options) {
  return split_file(options, Split::validation) || options.validation_split > 0;
}

void refuse_count(double share, const std::filesystem::path& file) {
  if (share < 1) return;
  throw Error{{.id = "config.conflict",
               .what = fmt::format("validation_split is {} rows, and one running text has none", share),
               .where = file.string(),
               .fix = "give a share below 1, or a text of its own as validation_file"}};
}

std::vector<bool> held_out(size_t rows, double share, uint64_t seed, const std::filesystem::path& file) {
  if (rows < 2) {
    throw Error{{.id = "data.too-few-rows",
                 .what = fmt::format("validation_split needs two rows or more, there are {}", rows),
                 .where = file.string(),
                 .fix = "Add rows, or set validation_file."}};
  }
  const auto count = static_cast<int64_t>(rows);
  const bool counted = share >= 1;
  if (counted && (share == 1 || share != std::floor(share))) {
    throw Error{{.id = "config.out-of-range",
                 .what = fmt::format("validation_split is {}, which is neither a share nor a number of rows", share),
                 .where = "key 'validation_split'",
                 .fix = "give a share below 1, or a whole number above 1"}};
  }
  const int64_t wanted = std::llround(counted ? std::min(share, 1e15) : share * static_cast<double>(rows));
  if (counted && wanted >= count) {
    throw Error{{.id = "data.too-few-rows",
                 .what = fmt::format("validation_split is {} rows, and there are {}", wanted, count),
                 .where = file.string(),
                 .fix = "hold out fewer rows, or a share of them (0.1)"}};
  }
  const int64_t held = std::clamp<int64_t>(wanted, 1, count - 1);
  std::mt19937_64 engine(mix_seed(seed, kHoldOutStream));
  const std::vector<int64_t> order = permutation(count, engine);
  std::vector<bool> is_held(rows);
  for (int64_t i = 0; i < held; ++i) is_held[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
  return is_held;
}

}  // namespace deltaw::data
