#include "deltaw/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "core/ascii.h"
#include "core/json.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

std::string number_text(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char room[32];
  const auto [end, error] = std::to_chars(room, room + sizeof room, value);
  return std::string(room, end);
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> whole(double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (!(std::abs(value) <= kExact) || value != std::floor(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::optional<int64_t> to_int(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return std::nullopt;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) return whole(value.get<double>());
  if (!value.is_string()) return std::nullopt;
  const std::string& text = value.get_ref<const std::string&>();
  if (const auto integer = parse_number<int64_t>(text)) return integer;
  const auto real = parse_number<double>(text);
  return real ? whole(*real) : std::nullopt;
}

std::optional<double> to_double(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return parse_number<double>(value.get_ref<const std::string&>());
  return std::nullopt;
}

std::optional<bool> to_bool(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  std::string word;
  if (value.is_number_integer()) word = value.dump();
  if (value.is_string()) word = trimmed(value.get_ref<const std::string&>());
  for (char& symbol : word) {
    if (symbol >= 'A' && symbol <= 'Z') symbol = static_cast<char>(symbol - 'A' + 'a');
  }
  if (word == "true" || word == "1" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "0" || word == "no" || word == "off") return false;
  return std::nullopt;
}

/// Nothing where the text is no JSON.
std::optional<Json> parsed(std::string_view text) {
  try {
    return parse_json(text, "");
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::vector<std::string>> to_list(const Json& value) {
  std::vector<std::string> items;
  if (value.is_array()) {
    for (const Json& item : value) {
      if (!item.is_string()) return std::nullopt;
      items.push_back(item.get<std::string>());
    }
    return items;
  }
  if (!value.is_string()) return std::nullopt;
  std::string_view rest = trimmed(value.get_ref<const std::string&>());
  if (rest.starts_with('[')) {
    const std::optional<Json> list = parsed(rest);
    if (list && list->is_array()) return to_list(*list);
  }
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string_view item = trimmed(rest.substr(0, comma));
    if (!item.empty()) items.emplace_back(item);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return items;
}

/// One path, or a list of them.
std::optional<std::vector<std::string>> to_paths(const Json& value) {
  if (!value.is_string()) return value.is_array() ? to_list(value) : std::nullopt;
  const std::string& text = value.get_ref<const std::string&>();
  if (text.starts_with('[')) {
    const std::optional<Json> list = parsed(text);
    if (list && list->is_array()) return to_list(*list);
  }
  return text.empty() ? std::vector<std::string>() : std::vector<std::string>{text};
}

/// A string that starts as JSON is JSON; but `[qv]_proj` stays what it is, a regular expression.
std::optional<Json> to_json(const Json& value) {
  if (!value.is_string()) return value;
  const std::string text(trimmed(value.get_ref<const std::string&>()));
  if (!text.starts_with('{') && !text.starts_with('[')) return value;
  if (std::optional<Json> inner = parsed(text)) return inner;
  return text.starts_with('{') ? std::nullopt : std::optional<Json>(value);
}

class Reader : public FieldVisitor {
 public:
  Reader(const Json& values, const std::string& where) : values_(values), where_(where) {}

  void field(const char* name, bool& value, const char*, const Rule&) override {
    if (const Json* given = find(name)) take(name, *given, to_bool(*given), value, "true or false");
  }

  void field(const char* name, int64_t& value, const char*, const Rule& rule) override {
    const Json* given = find(name);
    if (!given) return;
    int64_t read = value;
    take(name, *given, to_int(*given), read, "a whole number");
    check_range(name, *given, static_cast<double>(read), rule);
    value = read;
  }

  void field(const char* name, double& value, const char*, const Rule& rule) override {
    const Json* given = find(name);
    if (!given) return;
    double read = value;
    take(name, *given, to_double(*given), read, "a number");
    check_range(name, *given, read, rule);
    value = read;
  }

  void field(const char* name, std::string& value, const char*, const Rule& rule) override {
    const Json* given = find(name);
    if (!given) return;
    const std::optional<std::string> text =
        given->is_string() ? std::optional(given->get<std::string>()) : std::nullopt;
    std::string read;
    take(name, *given, text, read, given->is_primitive() ? "text; write it in quotes" : "text");
    check_choice(name, read, rule);
    value = std::move(read);
  }

  void field(const char* name, std::vector<std::string>& value, const char*, const Rule& rule) override {
    const Json* given = find(name);
    if (!given) return;
    std::vector<std::string> read;
    if (rule.paths) {
      take(name, *given, to_paths(*given), read, "a path, or a list of paths");
    } else {
      take(name, *given, to_list(*given), read, "a list of texts, or one text with commas");
    }
    for (const std::string& item : read) check_choice(name, item, rule);
    value = std::move(read);
  }

  void field(const char* name, Json& value, const char*, const Rule& rule) override {
    const Json* given = find(name);
    if (!given) return;
    Json read;
    take(name, *given, to_json(*given), read, "valid JSON when it starts with '{'");
    if (read.is_number()) check_range(name, *given, read.get<double>(), rule);
    if (read.is_string()) check_choice(name, read.get<std::string>(), rule);
    value = std::move(read);
  }

 private:
  /// nullptr where the key is absent or null.
  const Json* find(const char* name) const {
    const auto found = values_.find(name);
    return found == values_.end() || found->is_null() ? nullptr : &*found;
  }

  std::string place(const std::string& name) const { return where_ + ", key '" + name + "'"; }

  template <class Value>
  void take(const std::string& name, const Json& given, std::optional<Value> read, Value& value,
            const std::string& wanted) const {
    if (!read) {
      throw Error({.id = "config.wrong-type",
                   .what = "'" + name + "' has the value " + shown(given) + " (" + given.type_name() +
                           "), which is not " + wanted.substr(0, wanted.find(';')),
                   .where = place(name),
                   .fix = "give " + wanted});
    }
    value = std::move(*read);
  }

  void check_range(const std::string& name, const Json& given, double value, const Rule& rule) const {
    if (std::isfinite(value) && rule.allows(value)) return;
    const std::string range = std::isfinite(value) ? rule.text() : "finite";
    throw Error({.id = "config.out-of-range",
                 .what = "'" + name + "' is " + (std::isfinite(value) ? shown(given) : number_text(value)) +
                         ", it must be " + range,
                 .where = place(name),
                 .fix = "give a value that is " + range});
  }

  void check_choice(const std::string& name, const std::string& value, const Rule& rule) const {
    if (rule.choices.empty()) return;
    if (std::find(rule.choices.begin(), rule.choices.end(), value) != rule.choices.end()) return;
    const std::string hint = suggest_names(value, rule.choices);
    throw Error({.id = "config.out-of-range",
                 .what = "'" + name + "' is " + shown(value) + ", it must be " + rule.text(),
                 .where = place(name),
                 .fix = hint.starts_with("did") ? hint : "choose one of these"});
  }

  const Json& values_;
  const std::string& where_;
};

/// As it is written: one path is a text.
Json shaped(const std::vector<std::string>& value, const Rule& rule) {
  if (!rule.paths || value.size() > 1) return value;
  return value.empty() ? "" : value[0];
}

class Writer : public FieldVisitor {
 public:
  Json values = Json::object();

  void field(const char* name, bool& value, const char*, const Rule&) override { values[name] = value; }
  void field(const char* name, int64_t& value, const char*, const Rule&) override { values[name] = value; }
  void field(const char* name, double& value, const char*, const Rule&) override { values[name] = value; }
  void field(const char* name, std::string& value, const char*, const Rule&) override { values[name] = value; }
  void field(const char* name, std::vector<std::string>& value, const char*, const Rule& rule) override {
    values[name] = shaped(value, rule);
  }
  void field(const char* name, Json& value, const char*, const Rule&) override { values[name] = value; }
};

class Describer : public FieldVisitor {
 public:
  std::vector<FieldInfo> infos;

  void field(const char* name, bool& value, const char* help, const Rule& rule) override {
    add(name, "bool", value, help, rule);
  }
  void field(const char* name, int64_t& value, const char* help, const Rule& rule) override {
    add(name, "int", value, help, rule);
  }
  void field(const char* name, double& value, const char* help, const Rule& rule) override {
    add(name, "float", value, help, rule);
  }
  void field(const char* name, std::string& value, const char* help, const Rule& rule) override {
    add(name, "string", value, help, rule);
  }
  void field(const char* name, std::vector<std::string>& value, const char* help, const Rule& rule) override {
    add(name, rule.paths ? "files" : "list", shaped(value, rule), help, rule);
  }
  void field(const char* name, Json& value, const char* help, const Rule& rule) override {
    add(name, "json", value, help, rule);
  }

 private:
  void add(const char* name, const char* type, Json value, const char* help, const Rule& rule) {
    infos.push_back({.name = name,
                     .type = type,
                     .default_value = std::move(value),
                     .range = rule.text(),
                     .choices = rule.choices,
                     .help = help});
  }
};

}  // namespace

bool Rule::allows(double value) const {
  if (std::isnan(value)) return false;
  if (low_open ? value <= low : value < low) return false;
  return high_open ? value < high : value <= high;
}

std::string Rule::text() const {
  if (!choices.empty()) {
    std::string list;
    for (const std::string& choice : choices) {
      if (!choice.empty()) list += (list.empty() ? "one of: " : ", ") + choice;  // the empty one is the default's
    }
    return list;
  }
  const bool has_low = !std::isinf(low), has_high = !std::isinf(high);
  if (has_low && has_high) {
    return std::string("in ") + (low_open ? "(" : "[") + number_text(low) + ", " + number_text(high) +
           (high_open ? ")" : "]");
  }
  if (has_low) return (low_open ? "> " : ">= ") + number_text(low);
  if (has_high) return (high_open ? "< " : "<= ") + number_text(high);
  return "";
}

Rule at_least(double low) {
  return {.low = low, .choices = {}};
}
Rule above(double low) {
  return {.low = low, .low_open = true, .choices = {}};
}
Rule between(double low, double high) {
  return {.low = low, .high = high, .choices = {}};
}
Rule fraction() {
  return {.low = 0, .high = 1, .high_open = true, .choices = {}};
}
Rule one_of(std::vector<std::string> choices) {
  return {.choices = std::move(choices)};
}
Rule paths() {
  return {.choices = {}, .paths = true};
}

void read_fields(const Fields& fields, const Json& values, const std::string& where) {
  if (!values.is_object()) {
    throw Error({.id = "config.wrong-type",
                 .what = std::string("options are keys with values, a ") + values.type_name() + " was given",
                 .where = where,
                 .fix = "give an object such as {\"seed\": 42}"});
  }
  Reader reader(values, where);
  fields(reader);
}

Json write_fields(const Fields& fields) {
  Writer writer;
  fields(writer);
  return std::move(writer.values);
}

std::vector<FieldInfo> describe_fields(const Fields& fields) {
  Describer describer;
  fields(describer);
  return std::move(describer.infos);
}

void refuse_unknown_keys(const Json& values, const std::vector<std::string>& known, const std::string& where) {
  if (!values.is_object()) return;
  for (const auto& [key, value] : values.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string hint = suggest_names(key, known);
    throw Error({.id = "config.unknown-key",
                 .what = "the key '" + key + "' is not known",
                 .where = where,
                 .fix = hint.empty() ? "remove it, or look up its name in the help" : hint});
  }
}

}  // namespace deltaw
