#include "io/hub/settings.h"

#include <algorithm>
#include <cctype>

#include "core/ascii.h"
#include "core/files.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "io/hub/names.h"

namespace deltaw::io::hub {
namespace {

namespace fs = std::filesystem;

/// As huggingface_hub reads a switch.
bool is_on(const char* name) {
  std::string value = variable(name);
  std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return std::toupper(c); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

fs::path token_file() {
  const std::string given = variable("HF_TOKEN_PATH");
  return given.empty() ? home_folder() / "token" : expanded(given);
}

/// A token goes into a header, where a line feed would begin another one.
void check_token(const Settings& settings) {
  const auto usable = [](unsigned char c) { return c > 0x20 && c < 0x7F; };
  if (std::all_of(settings.token.begin(), settings.token.end(), usable)) return;
  throw Error({.id = "config.hub-token",
               .what = "the token holds a blank, a line feed or another character that no token has",
               .where = settings.token_source,
               .fix = "put the token alone there, as https://huggingface.co/settings/tokens shows it"});
}

void read_token(Settings& settings) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    settings.token = trimmed(variable(name));
    settings.token_source = name;
    if (!settings.token.empty()) return check_token(settings);
  }
  const fs::path file = token_file();
  std::error_code code;
  if (fs::is_regular_file(file, code)) settings.token = trimmed(read_file(file));
  settings.token_source = settings.token.empty() ? "" : file.string();
  check_token(settings);
}

void read_endpoint(Settings& settings) {
  std::string given(trimmed(variable("HF_ENDPOINT")));
  while (given.ends_with('/')) given.pop_back();
  if (given.empty()) return;
  const bool plain = std::all_of(given.begin(), given.end(), [](unsigned char c) { return c > 0x20 && c < 0x7F; });
  if (!plain || (!given.starts_with("https://") && !given.starts_with("http://"))) {
    throw Error({.id = "config.hub-endpoint",
                 .what = "'" + printable(given) + "' is no address of a hub",
                 .where = "variable HF_ENDPOINT",
                 .fix = "write it with its scheme: https://huggingface.co"});
  }
  settings.endpoint = given;
}

}  // namespace

std::string token_places() {
  return "HF_TOKEN, or in the file " + token_file().string();
}

Settings settings_of_environment() {
  Settings settings;
  settings.cache = cache_folder();
  settings.offline = is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE");
  settings.symlinks = !is_on("HF_HUB_DISABLE_SYMLINKS");
  const std::string patience(trimmed(variable("HF_HUB_DOWNLOAD_TIMEOUT")));
  const bool number =
      !patience.empty() && patience.size() < 6 && patience.find_first_not_of("0123456789") == patience.npos;
  if (number && std::stoll(patience) > 0) settings.patience = std::stoll(patience);
  read_endpoint(settings);
  if (!is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) read_token(settings);
  return settings;
}

}  // namespace deltaw::io::hub
