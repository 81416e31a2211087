// Making encodings fit.
#pragma once

#include <cstdint>
#include <vector>

#include "deltaw/tokenizer.h"

namespace deltaw::text {

/// Cuts one or two encodings at their ends so that with `added` special tokens they have at most `max_length` tokens.
/// Of two, the longer one loses tokens first. Returns whether any was cut. Throws config.max-length
/// where the special tokens alone do not fit.
bool truncate(std::vector<Encoding>& parts, int64_t max_length, int64_t added);

}  // namespace deltaw::text
