#include "deltaw/error.h"

#include <utility>

namespace deltaw {
namespace {

std::string render(const ErrorParts& parts) {
  std::string text = "error[" + parts.id + "]: " + parts.what;
  if (!parts.where.empty()) text += "\n  where: " + parts.where;
  if (!parts.fix.empty()) text += "\n  fix:   " + parts.fix;
  return text;
}

}  // namespace

Error::Error(ErrorParts parts) : std::runtime_error(render(parts)), parts_(std::move(parts)) {}

int Error::exit_code() const {
  const std::string family = parts_.id.substr(0, parts_.id.find('.'));
  return family == "usage" || family == "config" ? 2 : 1;
}

}  // namespace deltaw
