#include "core/json.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/other_kind.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

constexpr size_t kMaxDepth = 512;

/// Builds the value from the parser's events. `Tree` is Json, which keeps the order of keys, or nlohmann::json.
template <class Tree>
class Builder : public nlohmann::json_sax<Tree> {
 public:
  using typename nlohmann::json_sax<Tree>::binary_t;
  using typename nlohmann::json_sax<Tree>::number_float_t;
  using typename nlohmann::json_sax<Tree>::number_integer_t;
  using typename nlohmann::json_sax<Tree>::number_unsigned_t;
  using typename nlohmann::json_sax<Tree>::string_t;

  Builder(std::string_view text, const std::string& where, DuplicateKeys duplicates)
      : text_(text), where_(where), duplicates_(duplicates) {}

  Tree take() { return std::move(root_); }

  bool null() override { return put(Tree(nullptr)); }
  bool boolean(bool value) override { return put(Tree(value)); }
  bool number_integer(number_integer_t value) override { return put(Tree(value)); }
  bool number_unsigned(number_unsigned_t value) override { return put(Tree(value)); }
  bool number_float(number_float_t value, const string_t&) override { return put(Tree(value)); }
  bool string(string_t& value) override { return put(Tree(std::move(value))); }
  bool binary(binary_t& value) override { return put(Tree(std::move(value))); }
  bool start_object(size_t) override { return open(Tree(Tree::value_t::object)); }
  bool start_array(size_t) override { return open(Tree(Tree::value_t::array)); }
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
    return false;
  }

  [[noreturn]] void refuse(size_t offset, const std::string& reason) const {
    if (const std::string kind = other_kind(text_); !kind.empty()) {
      throw Error({.id = "format.json", .what = kind, .where = where_, .fix = kFetch});
    }
    throw Error({.id = "format.json",
                 .what = "not valid JSON at " + line_and_column(text_, offset) + ": " + reason,
                 .where = where_,
                 .fix = "correct the text there, or fetch or write the file again if it was cut short"});
  }

 private:
  struct Level {
    Tree* value = nullptr;
    std::string key;                                 // of the member being read
    std::unordered_map<std::string, size_t> places;  // key -> position, where keys are not sorted
  };

  Tree* place(Tree&& value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      auto& items = level.value->template get_ref<typename Tree::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    return place_member(level, level.value->template get_ref<typename Tree::object_t&>(), std::move(value));
  }

  Tree* place_member(Level& level, nlohmann::json::object_t& members, Tree&& value) {
    const auto [found, is_new] = members.try_emplace(std::move(level.key));
    if (!is_new) refuse_duplicate(found->first);
    found->second = std::move(value);
    return &found->second;
  }

  Tree* place_member(Level& level, Json::object_t& ordered, Tree&& value) {
    // The base class appends without searching.
    std::vector<Json::object_t::value_type>& members = ordered;
    const auto [found, is_new] = level.places.emplace(level.key, members.size());
    if (!is_new) {
      refuse_duplicate(level.key);
      Tree& old = members[found->second].second;
      old = std::move(value);
      return &old;
    }
    if (members.empty()) members.reserve(8);  // growing copies, since keys are constant
    members.emplace_back(level.key, std::move(value));
    return &members.back().second;
  }

  bool put(Tree&& value) {
    place(std::move(value));
    return true;
  }

  bool open(Tree&& value) {
    if (levels_.size() == kMaxDepth) {
      throw Error({.id = "format.json",
                   .what = "nested more than " + std::to_string(kMaxDepth) + " levels deep",
                   .where = where_,
                   .fix = "this is no file that a tool for models writes; fetch it again"});
    }
    Tree* opened = place(std::move(value));
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
  Tree root_;
  std::vector<Level> levels_;
};

template <class Tree>
Tree parse(std::string_view text, const std::string& where, DuplicateKeys duplicates) {
  Builder<Tree> builder(text, where, duplicates);
  // The parser takes a zero byte for the end of its input and would leave what follows unread.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) builder.refuse(zero, "a zero byte");
  Tree::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace

std::string line_and_column(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = 1 + before.size() - (newline == std::string_view::npos ? 0 : newline + 1);
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

Json parse_json(std::string_view text, const std::string& where, DuplicateKeys duplicates) {
  return parse<Json>(text, where, duplicates);
}

nlohmann::json parse_sorted_json(std::string_view text, const std::string& where) {
  return parse<nlohmann::json>(text, where, DuplicateKeys::last_wins);
}

std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kLongest) {
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end) + "...";
  }
  return text;
}

}  // namespace deltaw
