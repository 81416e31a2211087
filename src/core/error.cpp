#include "deltaw/error.h"

#include <utility>

#include "core/printable.h"

namespace deltaw {
namespace {

std::string render(const ErrorParts& parts) {
  std::string text = "error[" + parts.id + "]: " + printable(parts.what);
  if (!parts.where.empty()) text += "\n  where: " + printable(parts.where);
  if (!parts.fix.empty()) text += "\n  fix:   " + printable(parts.fix);
  return text;
}

/// Names and values in a message come from files, which may hold anything.
ErrorParts shown(ErrorParts parts) {
  for (std::string* text : {&parts.what, &parts.where, &parts.fix}) *text = printable(*text, /*lines=*/true);
  return parts;
}

}  // namespace

Error::Error(ErrorParts parts) : std::runtime_error(render(parts)), parts_(shown(std::move(parts))) {}

int Error::exit_code() const {
  const std::string family = parts_.id.substr(0, parts_.id.find('.'));
  return family == "usage" || family == "config" ? 2 : 1;
}

}  // namespace deltaw
