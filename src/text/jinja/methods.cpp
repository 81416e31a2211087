// Methods of texts, lists, dicts and loops.
#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "text/jinja/functions.h"
#include "text/jinja/lexer.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

const std::string& text_argument(const Value* value, std::string_view method) {
  if (value && value->is(Kind::undefined)) fail_undefined(*value);
  if (!value || !value->is(Kind::string)) {
    throw Problem{fmt::format("{}() takes a text, not {}", method, value ? type_name(*value) : "nothing")};
  }
  return value->text();
}

int64_t whole_argument(const Value* value, std::string_view method, int64_t missing) {
  if (!value) return missing;
  if (value->is(Kind::undefined)) fail_undefined(*value);
  if (!value->is_whole()) throw Problem{fmt::format("{}() takes a whole number, not {}", method, type_name(*value))};
  return value->as_integer();
}

bool missing(const Value* value) {
  return !value || value->is(Kind::none);
}

/// A text without the characters at its ends that are white, or in `set`.
std::string stripped(std::string_view text, const Value* set, bool left, bool right) {
  if (missing(set)) return std::string(strip(text, left, right));
  const std::string& among = text_argument(set, "strip");
  const auto in_set = [&](size_t at) { return among.find(text.substr(at, width(text[at]))) != std::string::npos; };
  while (left && !text.empty() && in_set(0)) text.remove_prefix(width(text[0]));
  while (right && !text.empty() && in_set(last_start(text))) text = text.substr(0, last_start(text));
  return std::string(text);
}

std::vector<std::string> split_white(std::string_view text, int64_t most, bool from_right) {
  std::vector<std::string> parts;
  while (!(text = strip(text, !from_right, from_right)).empty()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.emplace_back(text);
      break;
    }
    size_t at = from_right ? text.size() : 0;
    if (from_right) {
      while (at > 0 && !is_white(decode(text, last_start(text.substr(0, at))).value)) {
        at = last_start(text.substr(0, at));
      }
      parts.emplace_back(text.substr(at));
      text = text.substr(0, at);
    } else {
      while (at < text.size() && !is_white(decode(text, at).value)) at += width(text[at]);
      parts.emplace_back(text.substr(0, at));
      text.remove_prefix(at);
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_at(std::string_view text, std::string_view by, int64_t most, bool from_right) {
  if (by.empty()) throw Problem{"split() by an empty text"};
  std::vector<std::string> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = from_right ? text.rfind(by) : text.find(by);
    if (at == std::string_view::npos) break;
    parts.emplace_back(from_right ? text.substr(at + by.size()) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(at + by.size());
  }
  parts.emplace_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

Value texts(std::vector<std::string> parts, Work& work) {
  work.charge(parts.size());
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string& part : parts) items.push_back(Value::string(std::move(part)));
  return Value::list(std::move(items));
}

Value split(const Value& text, const Arguments& arguments, Work& work, bool from_right) {
  const auto bound = arguments.bind("split()", {"sep", "maxsplit"});
  const int64_t most = whole_argument(bound[1], "split", -1);
  if (missing(bound[0])) return texts(split_white(text.text(), most, from_right), work);
  return texts(split_at(text.text(), text_argument(bound[0], "split"), most, from_right), work);
}

Value split_lines(const Value& subject, const Arguments& arguments, Work& work) {
  const Value* keep = arguments.bind("splitlines()", {"keepends"})[0];
  if (keep && truth(*keep)) {
    throw Problem{"splitlines() that keeps line ends"};
  }
  const std::string& text = subject.text();
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = decode(text, at);
    const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (ends) lines.push_back(text.substr(begin, at - begin));
    at += bytes;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    if (ends) begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return texts(std::move(lines), work);
}

bool matches_end(const Value& subject, const Arguments& arguments, bool at_start) {
  const std::string_view method = at_start ? "startswith" : "endswith";
  const Value* wanted = arguments.bind(method, {"prefix"})[0];
  const auto matches = [&](const Value& value) {
    const std::string& text = text_argument(&value, method);
    return at_start ? subject.text().starts_with(text) : subject.text().ends_with(text);
  };
  if (!wanted || !wanted->is(Kind::tuple)) return matches(wanted ? *wanted : Value());
  return std::any_of(wanted->items().begin(), wanted->items().end(), matches);
}

Value find(const Value& subject, const Arguments& arguments, bool from_right) {
  const std::string& wanted = text_argument(arguments.bind("find()", {"sub"})[0], "find");
  const size_t at = from_right ? subject.text().rfind(wanted) : subject.text().find(wanted);
  if (at == std::string::npos) return Value::integer(-1);
  return Value::integer(count_code_points(std::string_view(subject.text()).substr(0, at)));
}

Value count_text(const Value& subject, const Arguments& arguments, Work&) {
  const std::string& wanted = text_argument(arguments.bind("count()", {"sub"})[0], "count");
  if (wanted.empty()) return Value::integer(count_code_points(subject.text()) + 1);
  int64_t count = 0;
  for (size_t at = subject.text().find(wanted); at != std::string::npos;
       at = subject.text().find(wanted, at + wanted.size())) {
    ++count;
  }
  return Value::integer(count);
}

Value join(const Value& subject, const Arguments& arguments, Work& work) {
  const Value* parts = arguments.bind("join()", {"iterable"})[0];
  if (!parts) throw Problem{"join() takes a list of texts"};
  std::string out;
  bool first = true;
  for (const Value& part : iterate(*parts, work)) {
    if (!std::exchange(first, false)) out += subject.text();
    out += text_argument(&part, "join");
    work.charge_text(out.size() > (1 << 20) ? out.size() : part.text().size());
  }
  return Value::string(std::move(out));
}

Value partition(const Value& subject, const Arguments& arguments, Work&) {
  const std::string& by = text_argument(arguments.bind("partition()", {"sep"})[0], "partition");
  if (by.empty()) throw Problem{"partition() by an empty text"};
  const std::string& text = subject.text();
  const size_t at = text.find(by);
  if (at == std::string::npos) return Value::tuple({subject, Value::string(""), Value::string("")});
  return Value::tuple(
      {Value::string(text.substr(0, at)), Value::string(by), Value::string(text.substr(at + by.size()))});
}

icu::UnicodeString wide(const std::string& text) {
  return icu::UnicodeString::fromUTF8(text);
}

/// One character in title case, which may be several.
std::string titled(const std::string& character) {
  std::string out;
  constexpr uint32_t kOptions = U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT;
  return wide(character).toTitle(nullptr, icu::Locale::getRoot(), kOptions).toUTF8String(out);
}

std::string title(const std::string& text) {
  std::string out;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = decode(text, at);
    const auto point = static_cast<UChar32>(c);
    if (inside) {
      out += lower(text.substr(at, bytes));
    } else {
      out += titled(text.substr(at, bytes));
    }
    inside = u_hasBinaryProperty(point, UCHAR_CASED);
    at += bytes;
  }
  return out;
}

Value get(const Value& subject, const Arguments& arguments, Work& work) {
  const auto bound = arguments.bind("get()", {"key", "default"});
  if (!bound[0]) throw Problem{"get() takes a key"};
  if (bound[0]->is(Kind::list) || bound[0]->is(Kind::dict)) {
    throw Problem{fmt::format("a value of type {} is no key of a dict", type_name(*bound[0]))};
  }
  work.charge();
  const Value* found = subject.as<Dict>().find(*bound[0]);
  return found ? *found : bound[1] ? *bound[1] : Value::none();
}

Value view(const Value& subject, const Arguments& arguments, const char* name, bool keys, bool values) {
  arguments.bind(name, {});
  std::vector<Value> items;
  for (const auto& [key, value] : subject.as<Dict>().entries) {
    items.push_back(keys && values ? Value::tuple({key, value}) : keys ? key : value);
  }
  return Value::sequence(Kind::view, std::move(items), name);
}

Value count_item(const Value& subject, const Arguments& arguments, Work& work) {
  const Value* wanted = arguments.bind("count()", {"value"})[0];
  if (!wanted) throw Problem{"count() takes a value"};
  return Value::integer(std::count_if(subject.items().begin(), subject.items().end(),
                                      [&](const Value& item) { return equal(item, *wanted, work); }));
}

Value index_of(const Value& subject, const Arguments& arguments, Work& work) {
  const Value* wanted = arguments.bind("index()", {"value"})[0];
  if (!wanted) throw Problem{"index() takes a value"};
  for (size_t i = 0; i < subject.items().size(); ++i) {
    if (equal(subject.items()[i], *wanted, work)) return Value::integer(static_cast<int64_t>(i));
  }
  throw Problem{"index() of what is not in the list"};
}

Value cycle(const Value& subject, const Arguments& arguments, Work&) {
  if (arguments.positional.empty() || arguments.named.size()) throw Problem{"loop.cycle() takes values to choose from"};
  return arguments.positional[subject.as<Loop>().index % arguments.positional.size()];
}

Value copy(const Value& subject, const Arguments& arguments, Work&) {
  arguments.bind("copy()", {});
  return subject;
}

using Methods = std::map<std::string_view, Function>;

const Methods& of_strings() {
  using A = const Arguments&;
  static const Methods methods = {
      {"strip", [](const Value& s, A a,
                   Work&) { return Value::string(stripped(s.text(), a.bind("strip()", {"chars"})[0], true, true)); }},
      {"lstrip",
       [](const Value& s, A a, Work&) {
         return Value::string(stripped(s.text(), a.bind("lstrip()", {"chars"})[0], true, false));
       }},
      {"rstrip",
       [](const Value& s, A a, Work&) {
         return Value::string(stripped(s.text(), a.bind("rstrip()", {"chars"})[0], false, true));
       }},
      {"split", [](const Value& s, A a, Work& work) { return split(s, a, work, false); }},
      {"rsplit", [](const Value& s, A a, Work& work) { return split(s, a, work, true); }},
      {"splitlines", split_lines},
      {"startswith", [](const Value& s, A a, Work&) { return Value::boolean(matches_end(s, a, true)); }},
      {"endswith", [](const Value& s, A a, Work&) { return Value::boolean(matches_end(s, a, false)); }},
      {"find", [](const Value& s, A a, Work&) { return find(s, a, false); }},
      {"rfind", [](const Value& s, A a, Work&) { return find(s, a, true); }},
      {"count", count_text},
      {"join", join},
      {"partition", partition},
      {"replace",
       [](const Value& s, A a, Work& work) {
         const auto bound = a.bind("replace()", {"old", "new", "count"});
         return Value::string(replaced(s.text(), text_argument(bound[0], "replace"), text_argument(bound[1], "replace"),
                                       whole_argument(bound[2], "replace", -1), work));
       }},
      {"removeprefix",
       [](const Value& s, A a, Work&) {
         const std::string& prefix = text_argument(a.bind("removeprefix()", {"prefix"})[0], "removeprefix");
         return s.text().starts_with(prefix) ? Value::string(s.text().substr(prefix.size())) : s;
       }},
      {"removesuffix",
       [](const Value& s, A a, Work&) {
         const std::string& suffix = text_argument(a.bind("removesuffix()", {"suffix"})[0], "removesuffix");
         return s.text().ends_with(suffix) ? Value::string(s.text().substr(0, s.text().size() - suffix.size())) : s;
       }},
      {"upper", [](const Value& s, A a, Work&) { return a.bind("upper()", {}), Value::string(upper(s.text())); }},
      {"lower", [](const Value& s, A a, Work&) { return a.bind("lower()", {}), Value::string(lower(s.text())); }},
      {"title", [](const Value& s, A a, Work&) { return a.bind("title()", {}), Value::string(title(s.text())); }},
      {"capitalize",
       [](const Value& s, A a, Work&) { return a.bind("capitalize()", {}), Value::string(capitalized(s.text())); }},
  };
  return methods;
}

const Methods& of_lists() {
  static const Methods methods = {{"count", count_item}, {"index", index_of}, {"copy", copy}};
  return methods;
}

const Methods& of_dicts() {
  using A = const Arguments&;
  static const Methods methods = {
      {"get", get},
      {"copy", copy},
      {"items", [](const Value& d, A a, Work&) { return view(d, a, "dict_items", true, true); }},
      {"keys", [](const Value& d, A a, Work&) { return view(d, a, "dict_keys", true, false); }},
      {"values", [](const Value& d, A a, Work&) { return view(d, a, "dict_values", false, true); }},
  };
  return methods;
}

const Methods& of_loops() {
  static const Methods methods = {{"cycle", cycle}};
  return methods;
}

Function look_up(const Methods& methods, std::string_view name) {
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

}  // namespace

Function find_method(Kind kind, std::string_view name) {
  switch (kind) {
    case Kind::string:
      return look_up(of_strings(), name);
    case Kind::list:
      return look_up(of_lists(), name);
    case Kind::tuple:
    case Kind::range:
      return name == "copy" ? nullptr : look_up(of_lists(), name);
    case Kind::dict:
      return look_up(of_dicts(), name);
    case Kind::loop:
      return look_up(of_loops(), name);
    default:
      return nullptr;
  }
}

bool is_method(std::string_view name) {
  return look_up(of_strings(), name) || look_up(of_lists(), name) || look_up(of_dicts(), name) ||
         look_up(of_loops(), name);
}

std::string upper(const std::string& text) {
  std::string out;
  return wide(text).toUpper(icu::Locale::getRoot()).toUTF8String(out);
}

std::string lower(const std::string& text) {
  std::string out;
  return wide(text).toLower(icu::Locale::getRoot()).toUTF8String(out);
}

std::string capitalized(const std::string& text) {
  if (text.empty()) return text;
  const std::string first = text.substr(0, width(text[0]));
  return titled(first) + lower(text).substr(lower(first).size());
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t count,
                     Work& work) {
  std::string out;
  size_t done = 0, checked = 0;
  for (size_t at = 0; count != 0; --count) {
    const size_t found = text.find(from, at);
    if (found == std::string::npos) break;
    out.append(text, done, found - done).append(to);
    done = found + from.size();
    if (from.empty()) {
      if (found == text.size()) break;
      at = found + width(text[found]);
    } else {
      at = done;
    }
    if (out.size() > checked + (1 << 16)) work.charge_text(checked = out.size());
  }
  out.append(text, done);
  work.charge_text(out.size());
  return out;
}

}  // namespace deltaw::text::jinja
