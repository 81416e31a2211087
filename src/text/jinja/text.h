// Values as text: Python's str(), repr() and json.dumps().
#pragma once

#include <string>

#include "text/jinja/value.h"

namespace deltaw::text::jinja {

/// Python's str() and repr(); an undefined value is the empty text. Throws Problem for what has no stable text.
std::string to_text(const Value& value, Work& work);
std::string repr(const Value& value, Work& work);
std::string real_repr(double value);

struct JsonStyle {
  bool ascii = false;
  bool sorted = false;
  bool indented = false;
  std::string indent;
  std::string between = ", ";
  std::string after_key = ": ";
};
/// Python's json.dumps.
std::string dump_json(const Value& value, const JsonStyle& style, Work& work);

}  // namespace deltaw::text::jinja
