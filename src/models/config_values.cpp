#include "models/config_values.h"

#include <fmt/format.h>

#include "deltaw/error.h"

namespace deltaw {

int64_t ConfigValues::size(const char* key) const {
  const auto value = get<int64_t>(key);
  if (value <= 0) complain(key);
  return value;
}

void ConfigValues::refuse(const char* key, const std::string& fix) const {
  throw Error({.id = "config.unsupported",
               .what = fmt::format("{} = {} is not implemented", key, json_.contains(key) ? json_[key].dump() : "null"),
               .where = fmt::format("{}, key \"{}\"", where_, key),
               .fix = fix});
}

void ConfigValues::accept_only(const char* key, const Json& value) const {
  if (has(key) && json_[key] != value) refuse(key, "supported: " + value.dump());
}

void ConfigValues::complain(const char* key) const {
  const auto found = json_.find(key);
  throw Error({.id = "config.bad-model",
               .what = fmt::format("key \"{}\" is {}", key, found == json_.end() ? "missing" : found->dump()),
               .where = where_,
               .fix = "use the config.json that belongs to the checkpoint"});
}

}  // namespace deltaw
