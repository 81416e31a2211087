#include "core/configuration.h"

#include <string>
#include <utility>

#include "core/files.h"
#include "deltaw/error.h"

namespace deltaw {

Json read_configuration(const std::filesystem::path& path) {
  constexpr int kMistakeOfTheUser = 2;
  try {
    return read_config_file(path);
  } catch (const Error& error) {
    if (error.exit_code() == kMistakeOfTheUser) throw;
    ErrorParts parts = error.parts();
    parts.id = "config." + parts.id.substr(parts.id.find('.') + 1);
    throw Error(std::move(parts));
  }
}

}  // namespace deltaw
