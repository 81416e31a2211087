#include "adapt/training_keys.h"

#include <fmt/format.h>

#include "deltaw/error.h"

namespace deltaw {

const std::map<std::string, const char*>& training_only_keys() {
  constexpr const char* kMakesTokens = "makes the virtual tokens by a network while they train";
  static const std::map<std::string, const char*> keys = {
      {"module_dropout", "leaves out the update of whole layers at random while it trains"},
      {"rank_dropout", "drops components at random while they train"},
      {"rank_dropout_scale", "scales what rank_dropout leaves"},
      {"prefix_projection", kMakesTokens},
      {"encoder_reparameterization_type", kMakesTokens},
      {"encoder_hidden_size", kMakesTokens},
      {"encoder_num_layers", kMakesTokens},
      {"encoder_dropout", kMakesTokens}};
  return keys;
}

void refuse_training_key(const std::string& key, const std::string& where) {
  const auto known = training_only_keys().find(key);
  if (known == training_only_keys().end()) return;
  throw Error(
      {.id = "config.unsupported",
       .what = fmt::format("{}, which in PEFT {}, is not implemented here", key, known->second),
       .where = fmt::format("{}, key '{}'", where, key),
       .fix = "leave it out to train without it; an adapter that PEFT trained with it needs no key to be read"});
}

}  // namespace deltaw
