// Attributes, items, slices and arithmetic, as Python has them.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "text/jinja/functions.h"
#include "text/jinja/text.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::text::jinja {
namespace {

template <size_t n>
bool among(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// What Python has beyond the subset: a wrong prompt if it were taken for undefined.
bool python_has(Kind kind, std::string_view name) {
  static constexpr std::array<std::string_view, 23> kString = {
      "casefold", "center",       "encode",    "expandtabs", "format",  "format_map", "index",   "isalnum",
      "isalpha",  "isascii",      "isdecimal", "isdigit",    "islower", "isnumeric",  "isspace", "istitle",
      "isupper",  "isidentifier", "ljust",     "rjust",      "rindex",  "rpartition", "swapcase"};
  static constexpr std::array<std::string_view, 4> kOtherString = {"translate", "zfill", "maketrans", "isprintable"};
  static constexpr std::array<std::string_view, 7> kNumber = {
      "real", "imag", "numerator", "denominator", "bit_length", "is_integer", "as_integer_ratio"};
  if (kind == Kind::string) return among(kString, name) || among(kOtherString, name);
  if (kind == Kind::range) return name == "start" || name == "stop" || name == "step";
  if (kind == Kind::loop) return name == "changed";
  if (kind == Kind::callable) return true;
  return (kind == Kind::boolean || kind == Kind::integer || kind == Kind::real) && among(kNumber, name);
}

bool changes(Kind kind, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kList = {"append", "clear",  "extend",  "insert",
                                                            "pop",    "remove", "reverse", "sort"};
  static constexpr std::array<std::string_view, 6> kDict = {"clear",      "pop",    "popitem",
                                                            "setdefault", "update", "fromkeys"};
  return (kind == Kind::list && among(kList, name)) || (kind == Kind::dict && among(kDict, name));
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto size = static_cast<int64_t>(loop.items.size()), index = static_cast<int64_t>(loop.index);
  if (name == "index") return Value::integer(index + 1);
  if (name == "index0") return Value::integer(index);
  if (name == "revindex") return Value::integer(size - index);
  if (name == "revindex0") return Value::integer(size - index - 1);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index + 1 == size);
  if (name == "length") return Value::integer(size);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") {
    return index == 0 ? Value::undefined("there is no previous item") : loop.items[loop.index - 1];
  }
  if (name == "nextitem") {
    return index + 1 == size ? Value::undefined("there is no next item") : loop.items[loop.index + 1];
  }
  return Value::undefined(fmt::format("'loop' has no attribute '{}'", name));
}

/// Byte where each character begins, and the end.
std::vector<size_t> starts(const std::string& text) {
  std::vector<size_t> found;
  for (size_t at = 0; at < text.size(); at += width(text[at])) found.push_back(at);
  found.push_back(text.size());
  return found;
}

/// A bound of a slice; null where it is none.
std::optional<int64_t> bound(const Value& value) {
  if (value.is(Kind::none)) return std::nullopt;
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (!value.is_whole()) throw Problem{fmt::format("a bound of a slice is a {}", type_name(value))};
  return value.as_integer();
}

/// The places that a slice takes of `size`.
std::vector<size_t> places(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const int64_t by = bound(step).value_or(1);
  if (by == 0) throw Problem{"the step of a slice is zero"};
  const bool down = by < 0;
  const auto clip = [&](std::optional<int64_t> given, int64_t missing) {
    if (!given) return missing;
    const int64_t at = *given < 0 ? std::max<int64_t>(*given, -size - 1) + size : *given;
    return std::clamp<int64_t>(at, down ? -1 : 0, down ? size - 1 : size);
  };
  const int64_t from = clip(bound(start), down ? size - 1 : 0), to = clip(bound(stop), down ? -1 : size);
  std::vector<size_t> found;
  for (int64_t at = from; down ? at > to : at < to;) {
    found.push_back(static_cast<size_t>(at));
    if (down ? by <= to - at : by >= to - at) break;
    at += by;
  }
  return found;
}

[[noreturn]] void overflow(std::string_view op) {
  throw Problem{fmt::format("'{}' gives a number beyond 64 bits", op)};
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == -1 && a == std::numeric_limits<int64_t>::min()) overflow("//");
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

int64_t modulo(int64_t a, int64_t b) {
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double real_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) return rest + b;
  return rest == 0 ? std::copysign(0.0, b) : rest;
}

Value power(const Value& a, const Value& b) {
  if (a.is_whole() && b.is_whole() && b.as_integer() >= 0) {
    int64_t result = 1;
    const int64_t base = a.as_integer();
    if (base == 0 || base == 1) return Value::integer(b.as_integer() == 0 ? 1 : base);
    if (base == -1) return Value::integer(b.as_integer() % 2 ? -1 : 1);
    for (int64_t i = 0; i < b.as_integer(); ++i) {
      if (__builtin_mul_overflow(result, base, &result)) overflow("**");
    }
    return Value::integer(result);
  }
  const double result = std::pow(a.as_real(), b.as_real());
  if (!std::isfinite(result)) throw Problem{"'**' gives no finite number"};
  return Value::real(result);
}

Value whole(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+"   ? __builtin_add_overflow(a, b, &result)
      : op == "-" ? __builtin_sub_overflow(a, b, &result)
                  : __builtin_mul_overflow(a, b, &result)) {
    overflow(op);
  }
  return Value::integer(result);
}

Value arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (op == "**") return power(a, b);
  const bool divides = op == "/" || op == "//" || op == "%";
  if (divides && b.as_real() == 0) throw Problem{fmt::format("'{}' by zero", op)};
  if (op == "/") return Value::real(a.as_real() / b.as_real());
  if (a.is_whole() && b.is_whole()) {
    if (op == "//") return Value::integer(floor_divide(a.as_integer(), b.as_integer()));
    if (op == "%") return Value::integer(modulo(a.as_integer(), b.as_integer()));
    return whole(op, a.as_integer(), b.as_integer());
  }
  const double x = a.as_real(), y = b.as_real();
  if (op == "//") return Value::real(std::floor(x / y));
  if (op == "%") return Value::real(real_modulo(x, y));
  return Value::real(op == "+" ? x + y : op == "-" ? x - y : x * y);
}

Value repeated(const Value& value, int64_t times, Work& work) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (value.is(Kind::string)) {
    const std::string text = joinable_text(value, work);
    if (text.empty() || count == 0) return Value::string("");
    work.charge_text(count > (1u << 30) ? count : count * text.size());
    std::string out;
    for (size_t i = 0; i < count; ++i) out += text;
    return Value::string(std::move(out));
  }
  const std::vector<Value>& items = value.items();
  if (items.empty() || count == 0) return Value::sequence(value.kind(), {});
  work.charge_items(count > (1u << 30) ? count : count * items.size());
  std::vector<Value> out;
  for (size_t i = 0; i < count; ++i) out.insert(out.end(), items.begin(), items.end());
  return Value::sequence(value.kind(), std::move(out));
}

bool repeats(const Value& a, const Value& b) {
  return (a.is(Kind::string) || a.is(Kind::list) || a.is(Kind::tuple)) && b.is_whole();
}

}  // namespace

Value attribute_of(const Value& object, const std::string& name, Work& work) {
  work.charge();
  if (object.is(Kind::undefined)) fail_undefined(object);
  if (const Function method = find_method(object.kind(), name)) {
    auto callable = std::make_shared<Callable>();
    callable->name = name;
    callable->function = method;
    callable->subject = object;
    return Value::object(Kind::callable, std::move(callable));
  }
  if (python_has(object.kind(), name)) {
    throw Problem{fmt::format("'{}' of a {} is not among what chat templates may use", name, type_name(object))};
  }
  if (changes(object.kind(), name)) {
    return Value::undefined(fmt::format("'{}' would change a {}, which templates cannot", name, type_name(object)));
  }
  if (object.is(Kind::loop)) return loop_attribute(object.as<Loop>(), name);
  const Value* found = object.is(Kind::names)  ? object.as<Names>().find(name)
                       : object.is(Kind::dict) ? object.as<Dict>().find(name)
                                               : nullptr;
  return found ? *found : Value::undefined(fmt::format("a {} has no '{}'", type_name(object), name));
}

Value item_of(const Value& object, const Value& key, Work& work) {
  work.charge();
  if (object.is(Kind::undefined)) fail_undefined(object);
  if (object.is(Kind::dict)) {
    const Value* found = object.as<Dict>().find(key);
    if (found) return *found;
  } else if (key.is_whole() &&
             (object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::range) || object.is(Kind::string))) {
    const int64_t size = length(object), index = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    if (index < 0 || index >= size) return Value::undefined(fmt::format("there is no item {}", key.as_integer()));
    const auto place = static_cast<size_t>(index);
    if (!object.is(Kind::string)) return object.items()[place];
    work.charge_text(object.text().size());
    const std::string text = joinable_text(object, work);
    const std::vector<size_t> bytes = starts(text);
    return Value::string(text.substr(bytes[place], bytes[place + 1] - bytes[place]));
  }
  if (key.is(Kind::string)) return attribute_of(object, key.text(), work);
  return Value::undefined(fmt::format("a {} has no such item", type_name(object)));
}

Value slice_of(const Value& object, const Value& start, const Value& stop, const Value& step, Work& work) {
  work.charge();
  switch (object.kind()) {
    case Kind::undefined:
      fail_undefined(object);
    case Kind::string: {
      const std::string text = joinable_text(object, work);
      work.charge_text(text.size());
      const std::vector<size_t> bytes = starts(text);
      std::string out;
      for (const size_t at : places(static_cast<int64_t>(bytes.size()) - 1, start, stop, step)) {
        out.append(text, bytes[at], bytes[at + 1] - bytes[at]);
      }
      return Value::string(std::move(out));
    }
    case Kind::list:
    case Kind::tuple: {
      std::vector<Value> out;
      for (const size_t at : places(length(object), start, stop, step)) out.push_back(object.items()[at]);
      work.charge(out.size());
      return Value::sequence(object.kind(), std::move(out));
    }
    case Kind::range:
      throw Problem{"a slice of a range: make a list of it"};
    default:
      return Value::undefined(fmt::format("a {} has no slices", type_name(object)));
  }
}

Value binary(std::string_view op, const Value& a, const Value& b, Work& work) {
  work.charge();
  if (op == "%" && a.is(Kind::string)) return percent(joinable_text(a, work), b, work);
  if (a.is(Kind::undefined)) fail_undefined(a);
  if (b.is(Kind::undefined)) fail_undefined(b);
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  if (op == "+" && a.is(Kind::string) && b.is(Kind::string)) {
    work.charge_text(a.text().size() + b.text().size());
    return Value::string(joinable_text(a, work) + joinable_text(b, work));
  }
  if (op == "+" && a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
    work.charge_items(a.items().size() + b.items().size());
    std::vector<Value> items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return Value::sequence(a.kind(), std::move(items));
  }
  if (op == "*" && repeats(a, b)) return repeated(a, b.as_integer(), work);
  if (op == "*" && repeats(b, a)) return repeated(b, a.as_integer(), work);
  throw Problem{fmt::format("'{}' has no meaning for a {} and a {}", op, type_name(a), type_name(b))};
}

std::string joinable_text(const Value& value, Work& work) {
  if (value.safe()) throw Problem{"a text marked safe is worked on further, which would escape what is joined to it"};
  return to_text(value, work);
}

}  // namespace deltaw::text::jinja
