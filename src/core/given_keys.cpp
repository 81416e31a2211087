#include "core/given_keys.h"

namespace deltaw {

Json GivenKeys::all() const {
  Json values = file;
  for (const auto& [key, value] : flags.items()) values[key] = value;
  return values;
}

std::string GivenKeys::where() const {
  if (file_name.empty()) return flags_name;
  return flags.empty() ? file_name : file_name + " and " + flags_name;
}

}  // namespace deltaw
