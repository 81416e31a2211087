// The filters of chat templates.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "text/jinja/functions.h"
#include "text/jinja/lexer.h"
#include "text/jinja/text.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

using A = const Arguments&;

bool given(const Value* value) {
  return value && !value->is(Kind::none);
}

bool flag(const Value* value, bool missing) {
  return value ? truth(*value) : missing;
}

/// The keys of a path such as "function.name", for items of items.
std::vector<Value> path_of(const Value& attribute) {
  if (!attribute.is(Kind::string)) return {attribute};
  std::vector<Value> path;
  const std::string& text = attribute.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    int64_t index = 0;
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    if (digits && std::from_chars(part.data(), part.data() + part.size(), index).ec == std::errc{}) {
      path.push_back(Value::integer(index));
    } else {
      path.push_back(Value::string(part));
    }
    begin = end + 1;
  }
  return path;
}

Value follow(Value value, const std::vector<Value>& path, const Value* missing, Work& work) {
  for (const Value& key : path) {
    value = item_of(value, key, work);
    if (given(missing) && value.is(Kind::undefined)) value = *missing;
  }
  return value;
}

std::vector<Value> attributes(const Value& subject, const Value* attribute, Work& work) {
  std::vector<Value> items = iterate(subject, work);
  if (!given(attribute)) return items;
  const std::vector<Value> path = path_of(*attribute);
  for (Value& item : items) item = follow(item, path, nullptr, work);
  return items;
}

std::string name_of(const Value& value) {
  if (!value.is(Kind::string)) throw Problem{fmt::format("the name of a filter or test is a {}", type_name(value))};
  return value.text();
}

Value map(const Value& subject, A arguments, Work& work) {
  std::vector<Value> items = iterate(subject, work);
  if (arguments.positional.empty()) {
    Arguments named;
    named.named = arguments.named;
    const auto bound = named.bind("map", {"attribute", "default"});
    if (!bound[0]) throw Problem{"map takes the name of a filter, or attribute="};
    const std::vector<Value> path = path_of(*bound[0]);
    for (Value& item : items) item = follow(item, path, bound[1], work);
    return Value::iterator(std::move(items));
  }
  const std::string name = name_of(arguments.positional[0]);
  const Function filter = find_filter(name);
  if (!filter) throw Problem{fmt::format("the filter '{}' is not among those of chat templates", name)};
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  for (Value& item : items) item = filter(item, rest, work);
  return Value::iterator(std::move(items));
}

Value select(const Value& subject, A arguments, Work& work, bool wanted, bool by_attribute) {
  Arguments rest = arguments;
  std::vector<Value> path;
  if (by_attribute) {
    if (rest.positional.empty()) throw Problem{"selectattr takes the name of an attribute"};
    path = path_of(rest.positional[0]);
    rest.positional.erase(rest.positional.begin());
  }
  Function test = nullptr;
  if (rest.positional.size()) {
    const std::string name = name_of(rest.positional[0]);
    test = find_test(name);
    if (!test) throw Problem{fmt::format("the test '{}' is not among those of chat templates", name)};
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> chosen;
  for (const Value& item : iterate(subject, work)) {
    const Value value = follow(item, path, nullptr, work);
    if (truth(test ? test(value, rest, work) : value) == wanted) chosen.push_back(item);
  }
  return Value::iterator(std::move(chosen));
}

Value to_json(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style{.ascii = flag(bound[0], false), .sorted = flag(bound[3], false)};
  if (given(bound[1])) {
    style.indented = true;
    style.between = ",";
    if (bound[1]->is_whole()) {
      const int64_t width = bound[1]->as_integer();
      if (width > 100) throw Problem{"tojson with an indent beyond 100"};
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    } else if (bound[1]->is(Kind::string)) {
      style.indent = bound[1]->text();
    } else {
      throw Problem{fmt::format("tojson with an indent of type {}", type_name(*bound[1]))};
    }
  }
  if (given(bound[2])) {
    const std::vector<Value> pair = iterate(*bound[2], work);
    if (pair.size() != 2 || !pair[0].is(Kind::string) || !pair[1].is(Kind::string)) {
      throw Problem{"tojson takes two texts as separators"};
    }
    style.between = pair[0].text();
    style.after_key = pair[1].text();
  }
  return Value::string(dump_json(subject, style, work));
}

Value join(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("join", {"d", "attribute"});
  const std::string between = bound[0] ? to_text(*bound[0], work) : "";
  std::string out;
  bool first = true;
  size_t checked = 0;
  for (const Value& item : attributes(subject, bound[1], work)) {
    if (!std::exchange(first, false)) out += between;
    out += to_text(item, work);
    if (out.size() > checked + (1 << 16)) work.charge_text(checked = out.size());
  }
  work.charge_text(out.size());
  return Value::string(std::move(out));
}

Value last(const Value& subject, A arguments, Work& work) {
  arguments.bind("last", {});
  if (subject.is(Kind::iterator)) throw Problem{"the filter 'last' takes no iterator: put 'list' before it"};
  const std::vector<Value> items = iterate(subject, work);
  return items.empty() ? Value::undefined("there is no last item, the sequence is empty") : items.back();
}

Value first(const Value& subject, A arguments, Work& work) {
  arguments.bind("first", {});
  const std::vector<Value> items = iterate(subject, work);
  return items.empty() ? Value::undefined("there is no first item, the sequence is empty") : items.front();
}

Value reverse(const Value& subject, A arguments, Work& work) {
  arguments.bind("reverse", {});
  std::vector<Value> items = iterate(subject, work);
  std::reverse(items.begin(), items.end());
  if (!subject.is(Kind::string)) return subject.is(Kind::iterator) ? Value::list(items) : Value::iterator(items);
  std::string out;
  for (const Value& item : items) out += item.text();
  return Value::string(std::move(out));
}

/// What items are sorted by: the value, or its attributes, without regard to case unless asked for.
std::vector<Value> keys_of(const std::vector<Value>& items, const Value* attribute, bool with_case, Work& work) {
  std::vector<std::vector<Value>> paths;
  if (given(attribute) && attribute->is(Kind::string)) {
    const std::string& text = attribute->text();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      paths.push_back(path_of(Value::string(text.substr(begin, end - begin))));
      begin = end + 1;
    }
  } else {
    paths.push_back(given(attribute) ? path_of(*attribute) : std::vector<Value>{});
  }
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (const auto& path : paths) {
      const Value part = follow(item, path, nullptr, work);
      parts.push_back(!with_case && part.is(Kind::string) ? Value::string(lower(part.text())) : part);
    }
    keys.push_back(parts.size() == 1 ? parts[0] : Value::tuple(parts));
  }
  return keys;
}

std::vector<Value> sorted(const std::vector<Value>& items, const std::vector<Value>& keys, bool down, Work& work) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return down ? compare(keys[b], keys[a], work) < 0 : compare(keys[a], keys[b], work) < 0;
  });
  std::vector<Value> out;
  for (const size_t at : order) out.push_back(items[at]);
  return out;
}

Value sort(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("sort", {"reverse", "case_sensitive", "attribute"});
  const std::vector<Value> items = iterate(subject, work);
  const std::vector<Value> keys = keys_of(items, bound[2], flag(bound[1], false), work);
  return Value::list(sorted(items, keys, flag(bound[0], false), work));
}

Value dict_sort(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("dictsort", {"case_sensitive", "by", "reverse"});
  if (subject.is(Kind::undefined)) fail_undefined(subject);
  if (!subject.is(Kind::dict)) throw Problem{fmt::format("dictsort takes a dict, not a {}", type_name(subject))};
  const std::string by = bound[1] ? to_text(*bound[1], work) : "key";
  if (by != "key" && by != "value") throw Problem{"dictsort sorts by 'key' or 'value'"};
  std::vector<Value> items;
  for (const auto& [key, value] : subject.as<Dict>().entries) items.push_back(Value::tuple({key, value}));
  const Value place = Value::integer(by == "key" ? 0 : 1);
  const std::vector<Value> keys = keys_of(items, &place, flag(bound[0], false), work);
  return Value::list(sorted(items, keys, flag(bound[2], false), work));
}

Value unique(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("unique", {"case_sensitive", "attribute"});
  const std::vector<Value> items = iterate(subject, work);
  const std::vector<Value> keys = keys_of(items, bound[1], flag(bound[0], false), work);
  std::vector<Value> out, seen;
  for (size_t i = 0; i < items.size(); ++i) {
    if (keys[i].is(Kind::list) || keys[i].is(Kind::dict)) throw Problem{"unique takes no lists or dicts"};
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& key) { return equal(key, keys[i], work); })) continue;
    seen.push_back(keys[i]);
    out.push_back(items[i]);
  }
  return Value::iterator(std::move(out));
}

Value extreme(const Value& subject, A arguments, Work& work, bool least) {
  const auto bound = arguments.bind(least ? "min" : "max", {"case_sensitive", "attribute"});
  const std::vector<Value> items = iterate(subject, work);
  if (items.empty()) return Value::undefined("there is no least or greatest item, the sequence is empty");
  const std::vector<Value> keys = keys_of(items, bound[1], flag(bound[0], false), work);
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    const int order = compare(keys[i], keys[best], work);
    if (least ? order < 0 : order > 0) best = i;
  }
  return items[best];
}

Value sum(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("sum", {"attribute", "start"});
  Value total = bound[1] ? *bound[1] : Value::integer(0);
  if (total.is(Kind::string)) throw Problem{"sum of texts: use join"};
  for (const Value& item : attributes(subject, bound[0], work)) total = binary("+", total, item, work);
  return total;
}

Value indent(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("indent", {"width", "first", "blank"});
  std::string by(4, ' ');
  if (bound[0] && bound[0]->is(Kind::string)) {
    by = bound[0]->text();
  } else if (bound[0]) {
    if (!bound[0]->is_whole() || bound[0]->as_integer() > 1000) throw Problem{"indent takes a width up to 1000"};
    by = std::string(static_cast<size_t>(std::max<int64_t>(bound[0]->as_integer(), 0)), ' ');
  }
  if (!subject.is(Kind::string)) throw Problem{fmt::format("indent takes a text, not a {}", type_name(subject))};
  Value text = Value::string(joinable_text(subject, work) + "\n");
  const Value lines = find_method(Kind::string, "splitlines")(text, {}, work);
  std::string out = flag(bound[1], false) ? by : "";
  for (size_t i = 0; i < lines.items().size(); ++i) {
    const std::string& line = lines.items()[i].text();
    if (i) out += '\n';
    if (i && (flag(bound[2], false) || !line.empty())) out += by;
    out += line;
    work.charge_text(by.size() + line.size());
  }
  work.charge_text(out.size());
  return Value::string(std::move(out));
}

/// A text as Python's float() reads it.
std::optional<double> read_real(std::string_view given_text) {
  std::string text(strip(given_text, true, true));
  if (text.starts_with('+')) text.erase(0, 1);
  std::erase(text, '_');
  double value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

Value whole(const Value& subject, A arguments, Work&) {
  const auto bound = arguments.bind("int", {"default", "base"});
  if (bound[1] && !(bound[1]->is_whole() && bound[1]->as_integer() == 10)) throw Problem{"int with a base"};
  const Value missing = bound[0] ? *bound[0] : Value::integer(0);
  if (subject.is(Kind::undefined)) fail_undefined(subject);
  if (subject.is_whole()) return Value::integer(subject.as_integer());
  std::optional<double> real;
  if (subject.is(Kind::real)) real = subject.as_real();
  if (subject.is(Kind::string)) {
    std::string text(strip(subject.text(), true, true));
    if (text.starts_with('+')) text.erase(0, 1);
    std::erase(text, '_');
    int64_t value = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ptr == text.data() + text.size() && read.ec == std::errc{}) return Value::integer(value);
    if (read.ec == std::errc::result_out_of_range) throw Problem{"int of a number beyond 64 bits"};
    real = read_real(subject.text());
  }
  if (!real || !std::isfinite(*real)) return missing;
  if (std::abs(*real) >= 9e18) throw Problem{"int of a number beyond 64 bits"};
  return Value::integer(static_cast<int64_t>(*real));
}

Value real(const Value& subject, A arguments, Work&) {
  const auto bound = arguments.bind("float", {"default"});
  if (subject.is(Kind::undefined)) fail_undefined(subject);
  if (subject.is_number()) return Value::real(subject.as_real());
  const std::optional<double> read = subject.is(Kind::string) ? read_real(subject.text()) : std::nullopt;
  return read ? Value::real(*read) : bound[0] ? *bound[0] : Value::real(0);
}

Value absolute(const Value& subject, A arguments, Work& work) {
  arguments.bind("abs", {});
  if (subject.is(Kind::real)) return Value::real(std::abs(subject.as_real()));
  if (!subject.is_whole()) throw Problem{fmt::format("abs of a {}", type_name(subject))};
  return subject.as_integer() < 0 ? binary("-", Value::integer(0), subject, work)
                                  : Value::integer(subject.as_integer());
}

Value round(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("round", {"precision", "method"});
  if (!subject.is_number()) throw Problem{fmt::format("round of a {}", type_name(subject))};
  const int64_t digits = bound[0] && bound[0]->is_whole() ? bound[0]->as_integer() : 0;
  if (digits < 0 || digits > 300) throw Problem{"round takes a precision from 0 to 300"};
  const std::string method = bound[1] ? to_text(*bound[1], work) : "common";
  if (method == "common") {
    if (subject.is_whole()) return Value::integer(subject.as_integer());
    if (!std::isfinite(subject.as_real())) return subject;
    return Value::real(*read_real(fmt::format("{:.{}f}", subject.as_real(), digits)));
  }
  if (method != "ceil" && method != "floor") throw Problem{"round takes 'common', 'ceil' or 'floor'"};
  const double unit = std::pow(10.0, static_cast<double>(digits)), scaled = subject.as_real() * unit;
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

bool starts_word(char32_t c) {
  return is_white(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/// Upper case after white space, hyphens and opening brackets, lower case elsewhere.
Value title(const Value& subject, A arguments, Work& work) {
  arguments.bind("title", {});
  const std::string text = joinable_text(subject, work);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && !starts_word(decode(text, end).value)) end += width(text[end]);
    if (end > at) {
      const size_t first = width(text[at]);
      out += upper(text.substr(at, first)) + lower(text.substr(at + first, end - at - first));
    }
    for (; end < text.size() && starts_word(decode(text, end).value); end += width(text[end])) {
      out.append(text, end, width(text[end]));
    }
    at = end;
  }
  return Value::string(std::move(out));
}

Value pairs(const Value& subject, A arguments, Work& work) {
  arguments.bind("items", {});
  if (subject.is(Kind::undefined)) return Value::iterator({});
  if (!subject.is(Kind::dict)) throw Problem{fmt::format("items takes a dict, not a {}", type_name(subject))};
  return Value::iterator(iterate(find_method(Kind::dict, "items")(subject, {}, work), work));
}

Value default_to(const Value& subject, A arguments, Work&) {
  const auto bound = arguments.bind("default", {"default_value", "boolean"});
  const bool use = subject.is(Kind::undefined) || (flag(bound[1], false) && !truth(subject));
  return !use ? subject : bound[0] ? *bound[0] : Value::string("");
}

Value trim(const Value& subject, A arguments, Work& work) {
  arguments.bind("trim", {"chars"});
  return find_method(Kind::string, "strip")(Value::string(joinable_text(subject, work)), arguments, work);
}

Value replace(const Value& subject, A arguments, Work& work) {
  const auto bound = arguments.bind("replace", {"old", "new", "count"});
  if (!bound[0] || !bound[1]) throw Problem{"replace takes the old text and the new"};
  const int64_t count = given(bound[2]) && bound[2]->is_whole() ? bound[2]->as_integer() : -1;
  return Value::string(
      replaced(to_text(subject, work), to_text(*bound[0], work), to_text(*bound[1], work), count, work));
}

Value format(const Value& subject, A arguments, Work& work) {
  if (arguments.named.size()) throw Problem{"format with named values"};
  return percent(joinable_text(subject, work), Value::tuple(arguments.positional), work);
}

Value count(const Value& subject, A arguments, Work&) {
  arguments.bind("length", {});
  return Value::integer(length(subject));
}

const std::map<std::string_view, Function>& filters() {
  static const std::map<std::string_view, Function> table = {
      {"abs", absolute},
      {"capitalize",
       [](const Value& s, A a, Work& w) {
         a.bind("capitalize", {});
         return Value::string(capitalized(joinable_text(s, w)));
       }},
      {"count", count},
      {"d", default_to},
      {"default", default_to},
      {"dictsort", dict_sort},
      {"first", first},
      {"float", real},
      {"format", format},
      {"indent", indent},
      {"int", whole},
      {"items", pairs},
      {"join", join},
      {"last", last},
      {"length", count},
      {"list", [](const Value& s, A a, Work& w) { return a.bind("list", {}), Value::list(iterate(s, w)); }},
      {"lower",
       [](const Value& s, A a, Work& w) {
         a.bind("lower", {});
         return Value::string(lower(joinable_text(s, w)));
       }},
      {"map", map},
      {"max", [](const Value& s, A a, Work& w) { return extreme(s, a, w, false); }},
      {"min", [](const Value& s, A a, Work& w) { return extreme(s, a, w, true); }},
      {"reject", [](const Value& s, A a, Work& w) { return select(s, a, w, false, false); }},
      {"rejectattr", [](const Value& s, A a, Work& w) { return select(s, a, w, false, true); }},
      {"replace", replace},
      {"reverse", reverse},
      {"round", round},
      {"safe",
       [](const Value& s, A a, Work& w) {
         a.bind("safe", {});
         return Value::string(to_text(s, w)).marked_safe();
       }},
      {"select", [](const Value& s, A a, Work& w) { return select(s, a, w, true, false); }},
      {"selectattr", [](const Value& s, A a, Work& w) { return select(s, a, w, true, true); }},
      {"sort", sort},
      {"string",
       [](const Value& s, A a, Work& w) {
         a.bind("string", {});
         return s.is(Kind::string) ? s : Value::string(to_text(s, w));
       }},
      {"sum", sum},
      {"title", title},
      {"tojson", to_json},
      {"trim", trim},
      {"unique", unique},
      {"upper",
       [](const Value& s, A a, Work& w) {
         a.bind("upper", {});
         return Value::string(upper(joinable_text(s, w)));
       }},
  };
  return table;
}

}  // namespace

Function find_filter(std::string_view name) {
  const auto found = filters().find(name);
  return found == filters().end() ? nullptr : found->second;
}

}  // namespace deltaw::text::jinja
