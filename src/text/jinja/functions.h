// What templates may call: filters, tests, global functions, methods.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace deltaw::text::jinja {

using Function = Value (*)(const Value& subject, const Arguments& arguments, Work& work);

/// Null where there is no such filter or test.
Function find_filter(std::string_view name);
Function find_test(std::string_view name);

/// A function of any template: range, dict, namespace, raise_exception, strftime_now. The subject is not used.
Function find_global(std::string_view name);

/// A method of values of this kind: "strip" of a string, "get" of a dict.
Function find_method(Kind kind, std::string_view name);
/// Whether any kind has it.
bool is_method(std::string_view name);

/// What raise_exception throws.
struct Raised {
  std::string words;
};

struct Callable : Object {
  std::string name;
  Function function = nullptr;  // null: a macro
  Value subject;
};

/// Python's object.name and object[key] as templates see them: what is not there is undefined. Throws Problem.
Value attribute_of(const Value& object, const std::string& name, Work& work);
Value item_of(const Value& object, const Value& key, Work& work);
/// object[start:stop:step]; none stands for what is left out.
Value slice_of(const Value& object, const Value& start, const Value& stop, const Value& step, Work& work);

/// + - * / // % **
Value binary(std::string_view op, const Value& a, const Value& b, Work& work);
/// Python's "..." % values.
Value percent(const std::string& format, const Value& values, Work& work);
/// The text of `value`; throws Problem where Python would escape what is joined to it.
std::string joinable_text(const Value& value, Work& work);

/// Changes of case as Python makes them.
std::string upper(const std::string& text);
std::string lower(const std::string& text);
std::string capitalized(const std::string& text);
/// Python's text.replace; a negative count replaces all.
std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t count,
                     Work& work);

}  // namespace deltaw::text::jinja
