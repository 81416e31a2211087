// generation_config.json, of a checkpoint or beside an adapter.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "deltaw/model.h"
#include "deltaw/options.h"

namespace deltaw::eval {

/// No values where there is none.
struct GenerationConfig {
  explicit GenerationConfig(const std::filesystem::path& folder);

  std::filesystem::path file;
  bool exists;
  Json values = Json::object();

  Json value(const char* key) const;  // null where there is none
  std::vector<int64_t> end_ids() const;
};

/// The ids of eos_token_id, one or a list. Throws format.wrong-type naming `file`.
std::vector<int64_t> end_ids_of(const Json& value, const std::string& file);

/// Those that are tokens of the model; the others with a warning that names `file`.
std::vector<int64_t> known_tokens(const Model& model, std::vector<int64_t> ids, const std::string& file);

}  // namespace deltaw::eval
