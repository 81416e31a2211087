// Runs a template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"

namespace deltaw::text::jinja {

struct Output {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generated;  // bytes that {% generation %} blocks made
};

/// Throws data.chat-template: with the template's own words where it calls raise_exception, else naming the line.
Output run(const Body& body, const std::vector<std::pair<std::string, Value>>& variables, const std::string& where);

}  // namespace deltaw::text::jinja
