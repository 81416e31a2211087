// What may stand after `is`, and the functions of every template.
#include <array>
#include <ctime>
#include <map>

#include <fmt/format.h>

#include "text/jinja/functions.h"
#include "text/jinja/text.h"

namespace deltaw::text::jinja {
namespace {

using A = const Arguments&;

constexpr int64_t kMaxRange = 100'000;  // that of jinja2's sandbox

const Value& only(A arguments, std::string_view name) {
  const Value* argument = arguments.bind(name, {"other"})[0];
  if (!argument) throw Problem{fmt::format("the test '{}' takes a value", name)};
  return *argument;
}

template <class Predicate>
bool plainly(const Value& value, A arguments, Predicate predicate) {
  arguments.bind("the test", {});
  return predicate(value);
}

bool rest_is(const Value& value, int64_t by, int64_t rest, Work& work) {
  return equal(binary("%", value, Value::integer(by), work), Value::integer(rest), work);
}

bool has_length_and_items(const Value& v) {
  return v.is(Kind::undefined) || v.is(Kind::string) || v.is(Kind::list) || v.is(Kind::tuple) || v.is(Kind::dict) ||
         v.is(Kind::range);
}

bool can_be_iterated(const Value& v) {
  return has_length_and_items(v) || v.is(Kind::view) || v.is(Kind::iterator);
}

#define DELTAW_KIND_TEST(condition)                                                               \
  [](const Value& value, A arguments, Work&) {                                                    \
    return Value::boolean(plainly(value, arguments, [](const Value& v) { return (condition); })); \
  }
#define DELTAW_ORDER_TEST(condition)                                       \
  [](const Value& value, A arguments, Work& work) {                        \
    const int order = compare(value, only(arguments, "comparison"), work); \
    return Value::boolean(condition);                                      \
  }

Value is_equal(const Value& value, A arguments, Work& work) {
  return Value::boolean(equal(value, only(arguments, "eq"), work));
}

Value is_unequal(const Value& value, A arguments, Work& work) {
  return Value::boolean(!equal(value, only(arguments, "ne"), work));
}

Value is_same(const Value& value, A arguments, Work& work) {
  const Value& other = only(arguments, "sameas");
  const auto single = [](const Value& v) { return v.is(Kind::none) || v.is(Kind::boolean); };
  if (!single(value) && !single(other)) throw Problem{"the test 'sameas' is for none, true and false"};
  return Value::boolean(value.kind() == other.kind() && equal(value, other, work));
}

const std::map<std::string_view, Function>& tests() {
  static const Function greater = DELTAW_ORDER_TEST(order > 0), at_least = DELTAW_ORDER_TEST(order >= 0),
                        less = DELTAW_ORDER_TEST(order < 0), at_most = DELTAW_ORDER_TEST(order <= 0);
  static const std::map<std::string_view, Function> table = {
      {"defined", DELTAW_KIND_TEST(!v.is(Kind::undefined))},
      {"undefined", DELTAW_KIND_TEST(v.is(Kind::undefined))},
      {"none", DELTAW_KIND_TEST(v.is(Kind::none))},
      {"boolean", DELTAW_KIND_TEST(v.is(Kind::boolean))},
      {"true", DELTAW_KIND_TEST(v.is(Kind::boolean) && v.as_bool())},
      {"false", DELTAW_KIND_TEST(v.is(Kind::boolean) && !v.as_bool())},
      {"integer", DELTAW_KIND_TEST(v.is(Kind::integer))},
      {"float", DELTAW_KIND_TEST(v.is(Kind::real))},
      {"number", DELTAW_KIND_TEST(v.is_number())},
      {"string", DELTAW_KIND_TEST(v.is(Kind::string))},
      {"mapping", DELTAW_KIND_TEST(v.is(Kind::dict))},
      {"sequence", DELTAW_KIND_TEST(has_length_and_items(v))},
      {"iterable", DELTAW_KIND_TEST(can_be_iterated(v))},
      {"callable", DELTAW_KIND_TEST(v.is(Kind::callable) || v.is(Kind::undefined))},
      {"odd", [](const Value& v, A a, Work& w) { return a.bind("odd", {}), Value::boolean(rest_is(v, 2, 1, w)); }},
      {"even", [](const Value& v, A a, Work& w) { return a.bind("even", {}), Value::boolean(rest_is(v, 2, 0, w)); }},
      {"divisibleby",
       [](const Value& v, A a, Work& w) {
         return Value::boolean(equal(binary("%", v, only(a, "divisibleby"), w), Value::integer(0), w));
       }},
      {"in", [](const Value& v, A a, Work& w) { return Value::boolean(contains(only(a, "in"), v, w)); }},
      {"sameas", is_same},
      {"eq", is_equal},
      {"equalto", is_equal},
      {"==", is_equal},
      {"ne", is_unequal},
      {"!=", is_unequal},
      {"gt", greater},
      {"greaterthan", greater},
      {">", greater},
      {"ge", at_least},
      {">=", at_least},
      {"lt", less},
      {"lessthan", less},
      {"<", less},
      {"le", at_most},
      {"<=", at_most},
  };
  return table;
}

#undef DELTAW_KIND_TEST
#undef DELTAW_ORDER_TEST

Value range(const Value&, A arguments, Work& work) {
  if (arguments.named.size() || arguments.positional.empty() || arguments.positional.size() > 3) {
    throw Problem{"range() takes one to three whole numbers"};
  }
  for (const Value& value : arguments.positional) {
    if (value.is(Kind::undefined)) fail_undefined(value);
    if (!value.is_whole()) throw Problem{fmt::format("range() takes whole numbers, not {}", type_name(value))};
  }
  const auto& given = arguments.positional;
  const int64_t start = given.size() > 1 ? given[0].as_integer() : 0;
  const int64_t stop = given.size() > 1 ? given[1].as_integer() : given[0].as_integer();
  const int64_t step = given.size() > 2 ? given[2].as_integer() : 1;
  if (step == 0) throw Problem{"the step of range() is zero"};
  std::vector<Value> items;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      throw Problem{fmt::format("range() of more than {} numbers", kMaxRange)};
    }
    items.push_back(Value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  work.charge(1 + items.size() / 4);
  std::string name =
      step == 1 ? fmt::format("range({}, {})", start, stop) : fmt::format("range({}, {}, {})", start, stop, step);
  return Value::sequence(Kind::range, std::move(items), std::move(name));
}

std::shared_ptr<Dict> dict_of(std::string_view callee, A arguments, Work& work) {
  auto dict = std::make_shared<Dict>();
  if (arguments.positional.size() > 1) throw Problem{fmt::format("{} takes one dict", callee)};
  for (const Value& value : arguments.positional) {
    if (value.is(Kind::dict)) {
      for (const auto& [key, item] : value.as<Dict>().entries) dict->set(key, item);
      continue;
    }
    for (const Value& pair : iterate(value, work)) {
      const std::vector<Value> parts = iterate(pair, work);
      if (parts.size() != 2) throw Problem{fmt::format("{} takes pairs of key and value", callee)};
      dict->set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) dict->set(Value::string(name), value);
  work.charge(dict->entries.size());
  return dict;
}

Value make_names(const Value&, A arguments, Work& work) {
  auto names = std::make_shared<Names>();
  const std::shared_ptr<Dict> given = dict_of("namespace()", arguments, work);
  for (const auto& [key, value] : given->entries) {
    if (!key.is(Kind::string)) throw Problem{"namespace() takes names"};
    names->set(key.text(), value);
  }
  return Value::object(Kind::names, std::move(names));
}

Value raise(const Value&, A arguments, Work& work) {
  const Value* message = arguments.bind("raise_exception()", {"message"})[0];
  if (!message) throw Problem{"raise_exception() takes a message"};
  throw Raised{to_text(*message, work)};
}

Value time_now(const Value&, A arguments, Work&) {
  const Value* format = arguments.bind("strftime_now()", {"format"})[0];
  if (!format || !format->is(Kind::string)) throw Problem{"strftime_now() takes a format"};
  if (format->text().empty()) return Value::string("");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[512];
  const size_t size = std::strftime(buffer, sizeof buffer, format->text().c_str(), &local);
  if (size == 0) throw Problem{"strftime_now() with this format gives nothing, or too much"};
  return Value::string(std::string(buffer, size));
}

}  // namespace

Function find_test(std::string_view name) {
  const auto found = tests().find(name);
  return found == tests().end() ? nullptr : found->second;
}

Function find_global(std::string_view name) {
  static const std::map<std::string_view, Function> table = {
      {"range", range},
      {"dict", [](const Value&, A a, Work& work) { return make_dict(dict_of("dict()", a, work)); }},
      {"namespace", make_names},
      {"raise_exception", raise},
      {"strftime_now", time_now},
  };
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace deltaw::text::jinja
