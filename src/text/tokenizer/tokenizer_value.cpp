#include "text/tokenizer/tokenizer_value.h"

#include <limits>

#include <fmt/format.h>

namespace deltaw::text {

bool TokenizerValue::has(const std::string& key) const {
  const auto found = value_->is_object() ? value_->find(key) : value_->end();
  return found != value_->end() && !found->is_null();
}

TokenizerValue TokenizerValue::at(const std::string& key) const {
  if (!value_->is_object()) fail(fmt::format("expected an object, found {}", value_->type_name()));
  const auto found = value_->find(key);
  if (found == value_->end()) fail(fmt::format("the key \"{}\" is missing", key));
  return {*found, file_, path_.empty() ? key : path_ + "." + key, depth_ + 1};
}

std::vector<TokenizerValue> TokenizerValue::items() const {
  if (!value_->is_array()) fail(fmt::format("expected an array, found {}", value_->type_name()));
  std::vector<TokenizerValue> result;
  result.reserve(value_->size());
  for (const TokenizerJson& item : *value_)
    result.emplace_back(item, file_, fmt::format("{}[{}]", path_, result.size()), depth_ + 1);
  return result;
}

std::vector<std::pair<std::string, TokenizerValue>> TokenizerValue::fields() const {
  if (!value_->is_object()) fail(fmt::format("expected an object, found {}", value_->type_name()));
  std::vector<std::pair<std::string, TokenizerValue>> result;
  for (const auto& [key, item] : value_->items()) {
    result.emplace_back(key, TokenizerValue(item, file_, path_.empty() ? key : path_ + "." + key, depth_ + 1));
  }
  return result;
}

std::string TokenizerValue::text() const {
  if (!value_->is_string()) fail(fmt::format("expected a string, found {}", value_->type_name()));
  return value_->get<std::string>();
}

bool TokenizerValue::flag() const {
  if (!value_->is_boolean()) fail(fmt::format("expected true or false, found {}", value_->type_name()));
  return value_->get<bool>();
}

int64_t TokenizerValue::count() const {
  const bool whole = value_->is_number_integer() && (value_->is_number_unsigned() || value_->get<int64_t>() >= 0);
  if (!whole || value_->get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
    fail(fmt::format("expected a whole number from 0 on, found {}", value_->dump().substr(0, 40)));
  }
  return value_->get<int64_t>();
}

std::string TokenizerValue::text(const std::string& key, const std::string& otherwise) const {
  return has(key) ? at(key).text() : otherwise;
}

bool TokenizerValue::flag(const std::string& key, bool otherwise) const {
  return has(key) ? at(key).flag() : otherwise;
}

std::string TokenizerValue::where() const {
  return path_.empty() ? file_ : fmt::format("{}, {}", file_, path_);
}

void TokenizerValue::fail(const std::string& what) const {
  throw Error{{.id = "format.tokenizer",
               .what = what,
               .where = where(),
               .fix = "take the file from the checkpoint again; it does not hold what a tokenizer file holds"}};
}

void TokenizerValue::unsupported(const std::string& what) const {
  throw Error{{.id = "format.unsupported",
               .what = what,
               .where = where(),
               .fix = "use a checkpoint with another tokenizer, or convert it"}};
}

}  // namespace deltaw::text
