// Values of a file that somebody else wrote, each checked before it is used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/options.h"

namespace deltaw {

/// The value as a T, nothing where it is of another type or does not fit. T is bool, int64_t, double, std::string, or a
/// vector of one of these. A whole number may be written as 12.0, as YAML and JavaScript do.
template <class T>
std::optional<T> json_as(const Json& value);

/// What a T is called in messages: "a whole number".
template <class T>
const char* json_kind();

/// The keys of an object. Every complaint names the file, the key, what it holds and what was expected.
class JsonFields {
 public:
  static constexpr const char* kWrongType = "format.wrong-type";

  /// Throws an error `id` where `object` is no object.
  JsonFields(Json object, std::string where, std::string id = kWrongType);

  /// Throws where the key is missing, or json_as gives nothing.
  template <class T>
  T get(const std::string& key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) complain(key, json_kind<T>());
    std::optional<T> value = json_as<T>(*found);
    if (!value) complain(key, json_kind<T>());
    return *std::move(value);
  }
  /// The same, with `fallback` for a key that is missing or null.
  template <class T>
  T get_or(const std::string& key, T fallback) const {
    return has(key) ? get<T>(key) : std::move(fallback);
  }
  template <class T>
  std::optional<T> find(const std::string& key) const {
    return has(key) ? std::optional<T>(get<T>(key)) : std::nullopt;
  }
  JsonFields object(const std::string& key) const;  // throws where it is missing or no object
  const Json& list(const std::string& key) const;   // throws where it is missing or no list
  bool has(const std::string& key) const;           // there and not null

  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }

  /// Throws the error of a key that holds something else than `expected`.
  [[noreturn]] void complain(const std::string& key, const std::string& expected) const;

 private:
  Json json_;
  std::string where_;
  std::string id_;
};

/// A JSON file that holds an object. Throws as read_file and parse_json do, and `id` where it holds something else.
Json read_json_object(const std::filesystem::path& path, const std::string& id = JsonFields::kWrongType);

}  // namespace deltaw
