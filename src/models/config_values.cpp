#include "models/config_values.h"

#include <fmt/format.h>

#include "core/json.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

constexpr int64_t kMostOfASize = 1'000'000'000;
constexpr int64_t kMostLayers = 10'000;

}  // namespace

int64_t ConfigValues::size(const char* key) const {
  const auto value = get<int64_t>(key);
  if (value < 1 || value > kMostOfASize) complain(key, fmt::format("a whole number from 1 to {}", kMostOfASize));
  return value;
}

int64_t ConfigValues::layers(const char* key) const {
  const int64_t value = size(key);
  if (value > kMostLayers) complain(key, fmt::format("a whole number from 1 to {}", kMostLayers));
  return value;
}

int64_t ConfigValues::token(const char* key) const {
  const auto value = get<int64_t>(key);
  if (value < -kMostOfASize || value > kMostOfASize) complain(key, "an id of the vocabulary");
  return value;
}

double ConfigValues::dropout_or(const char* key, double fallback) const {
  const double value = get_or(key, fallback);
  if (!(value >= 0 && value < 1)) complain(key, "a number from 0 and below 1");
  return value;
}

double ConfigValues::not_negative_or(const char* key, double fallback) const {
  const double value = get_or(key, fallback);
  if (!(value >= 0)) complain(key, "a number from 0 on");
  return value;
}

double ConfigValues::positive(const char* key) const {
  const auto value = get<double>(key);
  if (!(value > 0)) complain(key, "a number above 0");
  return value;
}

int64_t ConfigValues::padding_row(int64_t rows, int64_t where_silent) const {
  if (json().contains("pad_token_id") && !has("pad_token_id")) return -1;
  const int64_t id = has("pad_token_id") ? token("pad_token_id") : where_silent;
  const int64_t row = id < 0 && has("pad_token_id") ? rows + id : id;
  return row >= 0 && row < rows ? row : -1;
}

void ConfigValues::refuse(const char* key, const std::string& fix) const {
  throw Error(
      {.id = "config.unsupported",
       .what = fmt::format("{} = {} is not implemented", key, json().contains(key) ? shown(json()[key]) : "null"),
       .where = fmt::format("{}, key \"{}\"", where(), key),
       .fix = fix});
}

void ConfigValues::accept_only(const char* key, const Json& value) const {
  if (has(key) && json()[key] != value) refuse(key, "supported: " + value.dump());
}

}  // namespace deltaw
