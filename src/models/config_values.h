// Reads what a family takes from config.json; every complaint names the key and its value.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "deltaw/options.h"

namespace deltaw {

class ConfigValues {
 public:
  ConfigValues(Json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {}

  /// bool, int64_t, double or std::string. Throws config.bad-model where the key is missing or of another type.
  template <class T>
  T get(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || !fits<T>(*found)) complain(key);
    return found->template get<T>();
  }
  /// The same, with `fallback` for a key that is missing or null.
  template <class T>
  T get_or(const char* key, T fallback) const {
    return has(key) ? get<T>(key) : fallback;
  }
  /// A number of something, at least 1.
  int64_t size(const char* key) const;
  int64_t size_or(const char* key, int64_t fallback) const { return has(key) ? size(key) : fallback; }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }

  /// Throws config.unsupported for the key's value.
  [[noreturn]] void refuse(const char* key, const std::string& fix) const;
  /// Refuses any other value of the key; it may be missing or null.
  void accept_only(const char* key, const Json& value) const;

 private:
  template <class T>
  static bool fits(const Json& value) {
    if constexpr (std::is_same_v<T, std::string>) return value.is_string();
    if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
    return value.is_number();
  }
  [[noreturn]] void complain(const char* key) const;

  Json json_;
  std::string where_;
};

}  // namespace deltaw
