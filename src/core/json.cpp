#include "core/json.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltaw/error.h"

namespace deltaw {
namespace {

constexpr size_t kMaxDepth = 512;

/// Builds the value from the parser's events.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const std::string& where, DuplicateKeys duplicates)
      : text_(text), where_(where), duplicates_(duplicates) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(Json(nullptr)); }
  bool boolean(bool value) override { return put(Json(value)); }
  bool number_integer(number_integer_t value) override { return put(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return put(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return put(Json(value)); }
  bool string(string_t& value) override { return put(Json(std::move(value))); }
  bool binary(binary_t& value) override { return put(Json(std::move(value))); }
  bool start_object(size_t) override { return open(Json(Json::value_t::object)); }
  bool start_array(size_t) override { return open(Json(Json::value_t::array)); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    level.key = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& cause) override {
    std::string reason = cause.what();
    for (const char* mark : {"syntax error while parsing", "parse error"}) {
      const size_t at = reason.find(mark);
      if (at == std::string::npos) continue;
      reason = reason.substr(at);
      break;
    }
    refuse(position == 0 ? 0 : position - 1, reason);
  }

  [[noreturn]] void refuse(size_t offset, const std::string& reason) const {
    throw Error({.id = "format.json",
                 .what = "not valid JSON at " + line_and_column(text_, offset) + ": " + reason,
                 .where = where_,
                 .fix = "correct the text there, or fetch or write the file again if it was cut short"});
  }

 private:
  struct Level {
    Json* value = nullptr;
    std::string key;                                 // of the member being read
    std::unordered_map<std::string, size_t> places;  // key -> position
  };

  Json* place(Json&& value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      auto& items = level.value->get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    // The base class appends without searching.
    std::vector<Json::object_t::value_type>& members = level.value->get_ref<Json::object_t&>();
    const auto [found, is_new] = level.places.emplace(level.key, members.size());
    if (!is_new) {
      refuse_duplicate(level.key);
      Json& old = members[found->second].second;
      old = std::move(value);
      return &old;
    }
    if (members.empty()) members.reserve(8);  // growing copies, since keys are constant
    members.emplace_back(level.key, std::move(value));
    return &members.back().second;
  }

  bool put(Json&& value) {
    place(std::move(value));
    return true;
  }

  bool open(Json&& value) {
    if (levels_.size() == kMaxDepth) {
      throw Error({.id = "format.json",
                   .what = "nested more than " + std::to_string(kMaxDepth) + " levels deep",
                   .where = where_,
                   .fix = "this is no file that a tool for models writes; fetch it again"});
    }
    Json* opened = place(std::move(value));
    levels_.push_back({});
    levels_.back().value = opened;
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  void refuse_duplicate(const std::string& name) const {
    if (duplicates_ != DuplicateKeys::refuse) return;
    throw Error({.id = "format.duplicate-key",
                 .what = "the key '" + name + "' stands twice in one object",
                 .where = where_,
                 .fix = "remove one of the two"});
  }

  std::string_view text_;
  const std::string& where_;
  DuplicateKeys duplicates_;
  Json root_;
  std::vector<Level> levels_;
};

}  // namespace

std::string line_and_column(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = 1 + before.size() - (newline == std::string_view::npos ? 0 : newline + 1);
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

Json parse_json(std::string_view text, const std::string& where, DuplicateKeys duplicates) {
  Builder builder(text, where, duplicates);
  // The parser takes a zero byte for the end of its input and would leave what follows unread.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) builder.refuse(zero, "a zero byte");
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace deltaw
