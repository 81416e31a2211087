#include "tasks/common/hypothesis_template.h"

#include <fmt/format.h>

#include <string_view>

#include "deltaw/error.h"

namespace deltaw::tasks {
namespace {

constexpr std::string_view kPlace = "{}";
constexpr const char* kUsual = "This is a photo of {}.";

}  // namespace

void hypothesis_field(FieldVisitor& f, std::string& text) {
  f.field("hypothesis_template", text,
          "The sentence that names a class, which stands in the place of {}; empty: This is a photo of {}.");
}

std::string hypothesis_of(const std::string& text) {
  if (text.empty()) return kUsual;
  check_template(text, "key \"hypothesis_template\"");
  return text;
}

void check_template(const std::string& text, const std::string& where) {
  if (text.find(kPlace) != std::string::npos) return;
  throw Error({.id = "config.template",
               .what = fmt::format("'{}' has no place for the class", text),
               .where = where,
               .fix = "write {} where the class is to stand: a photo of a {}."});
}

std::string filled(std::string text, const std::string& name) {
  for (size_t at = text.find(kPlace); at != std::string::npos; at = text.find(kPlace, at + name.size())) {
    text.replace(at, kPlace.size(), name);
  }
  return text;
}

}  // namespace deltaw::tasks
