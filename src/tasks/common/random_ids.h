// Tokens to time a step with.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "data/random.h"
#include "deltaw/model.h"

namespace deltaw::tasks {

/// `length` ids of the model's vocabulary, its padding token left out.
inline std::vector<int64_t> random_ids(const Model& model, int64_t length, std::mt19937_64& engine) {
  const Json pad = model.config().value("pad_token_id", Json());
  const int64_t pad_id = pad.is_number_integer() ? pad.get<int64_t>() : -1;
  std::vector<int64_t> ids;
  while (static_cast<int64_t>(ids.size()) < length) {
    const auto id = static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(model.vocab_size())));
    if (id != pad_id || model.vocab_size() == 1) ids.push_back(id);
  }
  return ids;
}

}  // namespace deltaw::tasks
