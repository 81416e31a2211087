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

std::vector<bool> held_out(size_t rows, double fraction, uint64_t seed, const std::filesystem::path& file) {
  if (rows < 2) {
    throw Error{{.id = "data.too-few-rows",
                 .what = fmt::format("validation_split needs two rows or more, there are {}", rows),
                 .where = file.string(),
                 .fix = "Add rows, or set validation_file."}};
  }
  const auto count = static_cast<int64_t>(rows);
  const int64_t held = std::clamp<int64_t>(std::llround(fraction * static_cast<double>(rows)), 1, count - 1);
  std::mt19937_64 engine(mix_seed(seed, kHoldOutStream));
  const std::vector<int64_t> order = permutation(count, engine);
  std::vector<bool> is_held(rows);
  for (int64_t i = 0; i < held; ++i) is_held[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
  return is_held;
}

}  // namespace deltaw::data
