#include "core/json_fields.h"

#include <cmath>

#include "core/files.h"
#include "core/json.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

constexpr double kExactWhole = 9007199254740992.0;  // 2^53

template <class T>
std::optional<std::vector<T>> all_as(const Json& list) {
  if (!list.is_array()) return std::nullopt;
  std::vector<T> values;
  values.reserve(list.size());
  for (const Json& item : list) {
    std::optional<T> value = json_as<T>(item);
    if (!value) return std::nullopt;
    values.push_back(*std::move(value));
  }
  return values;
}

}  // namespace

template <>
std::optional<bool> json_as(const Json& value) {
  return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
}
template <>
std::optional<int64_t> json_as(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto real = value.get<double>();
  if (!(std::abs(real) <= kExactWhole) || real != std::floor(real)) return std::nullopt;
  return static_cast<int64_t>(real);
}
template <>
std::optional<double> json_as(const Json& value) {
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}
template <>
std::optional<std::string> json_as(const Json& value) {
  return value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
}
template <>
std::optional<std::vector<bool>> json_as(const Json& value) {
  return all_as<bool>(value);
}
template <>
std::optional<std::vector<int64_t>> json_as(const Json& value) {
  return all_as<int64_t>(value);
}
template <>
std::optional<std::vector<double>> json_as(const Json& value) {
  return all_as<double>(value);
}
template <>
std::optional<std::vector<std::string>> json_as(const Json& value) {
  return all_as<std::string>(value);
}

template <>
const char* json_kind<bool>() {
  return "true or false";
}
template <>
const char* json_kind<int64_t>() {
  return "a whole number";
}
template <>
const char* json_kind<double>() {
  return "a number";
}
template <>
const char* json_kind<std::string>() {
  return "a text";
}
template <>
const char* json_kind<std::vector<bool>>() {
  return "a list of true and false";
}
template <>
const char* json_kind<std::vector<int64_t>>() {
  return "a list of whole numbers";
}
template <>
const char* json_kind<std::vector<double>>() {
  return "a list of numbers";
}
template <>
const char* json_kind<std::vector<std::string>>() {
  return "a list of texts";
}

JsonFields::JsonFields(Json object, std::string where, std::string id)
    : json_(std::move(object)), where_(std::move(where)), id_(std::move(id)) {
  if (json_.is_object()) return;
  throw Error({.id = id_,
               .what = "an object with keys was expected, this is " + shown(json_) + " (" + json_.type_name() + ")",
               .where = where_,
               .fix = "take the file again from where it came from"});
}

JsonFields JsonFields::object(const std::string& key) const {
  const auto found = json_.find(key);
  if (found == json_.end() || !found->is_object()) complain(key, "an object");
  return {*found, where_ + ", key \"" + key + "\"", id_};
}

const Json& JsonFields::list(const std::string& key) const {
  const auto found = json_.find(key);
  if (found == json_.end() || !found->is_array()) complain(key, "a list");
  return *found;
}

bool JsonFields::has(const std::string& key) const {
  const auto found = json_.find(key);
  return found != json_.end() && !found->is_null();
}

void JsonFields::complain(const std::string& key, const std::string& expected) const {
  const auto found = json_.find(key);
  throw Error({.id = id_,
               .what = "key \"" + key + "\" is " + (found == json_.end() ? "missing" : shown(*found)) + ", " +
                       expected + " was expected",
               .where = where_,
               .fix = "take the file again from where it came from, or correct the value"});
}

Json read_json_object(const std::filesystem::path& path, const std::string& id) {
  return JsonFields(read_json(path), path.string(), id).json();
}

}  // namespace deltaw
