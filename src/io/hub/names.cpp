#include "io/hub/names.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "deltaw/error.h"

namespace deltaw::io::hub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHosts[] = {"https://", "http://", "hf://", "huggingface.co/", "www.huggingface.co/", "hf.co/"};

bool is_plain(unsigned char symbol) {
  return std::isalnum(symbol) || symbol == '-' || symbol == '_' || symbol == '.';
}

[[noreturn]] void fail_name(const std::string& given, const std::string& fix) {
  throw Error({.id = "config.hub-name",
               .what = "'" + given + "' is no name of a repository on the hub",
               .where = "the name to download",
               .fix = fix});
}

/// Takes `part` off the beginning of `text`.
bool take(std::string& text, const std::string& part) {
  if (!text.starts_with(part)) return false;
  text.erase(0, part.size());
  return true;
}

/// Cuts "/tree/REVISION" off an address.
void take_revision(std::string& text, RepoName& name, const std::string& given) {
  const size_t at = text.find("/tree/");
  if (at == std::string::npos) return;
  name.revision = text.substr(at + 6);
  text.erase(at);
  if (name.revision.empty()) fail_name(given, "give the revision as --revision REVISION");
}

}  // namespace

bool is_repo_id(const std::string& name) {
  size_t start = 0;
  for (int part = 0; part < 2; ++part) {
    const size_t slash = name.find('/', start);
    const std::string word = name.substr(start, slash == std::string::npos ? slash : slash - start);
    if (word.empty() || word[0] == '.' || !std::all_of(word.begin(), word.end(), is_plain)) return false;
    if (slash == std::string::npos) return true;
    start = slash + 1;
  }
  return false;
}

RepoName parse_repo_name(const std::string& given) {
  RepoName name;
  std::string text = given;
  bool address = false;
  for (const char* host : kHosts) address = take(text, host) || address;
  if (take(text, "datasets/") && text.find('/') != std::string::npos) name.type = RepoType::dataset;
  if (address) take_revision(text, name, given);
  while (text.ends_with('/')) text.pop_back();
  if (const size_t colon = text.find(':'); colon != std::string::npos) {
    name.quantisation = text.substr(colon + 1);
    text.erase(colon);
    const bool plain = std::all_of(name.quantisation.begin(), name.quantisation.end(), is_plain);
    if (name.quantisation.empty() || !plain) fail_name(given, "behind the colon stands a quantisation, such as Q4_K_M");
  }
  name.id = text;
  if (!is_repo_id(name.id) || name.id.find("--") != std::string::npos || name.id.find("..") != std::string::npos) {
    fail_name(given, "write it as the hub does: organisation/name");
  }
  return name;
}

std::string cache_name(const std::string& id, RepoType type) {
  std::string name = id;
  if (const size_t slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "--");
  return (type == RepoType::model ? "models--" : "datasets--") + name;
}

fs::path home_folder() {
  if (const std::string home = variable("HF_HOME"); !home.empty()) return expanded(home);
  const std::string general = variable("XDG_CACHE_HOME");
  return (general.empty() ? expanded("~/.cache") : fs::path(general)) / "huggingface";
}

fs::path cache_folder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string folder = variable(name); !folder.empty()) return expanded(folder);
  }
  return home_folder() / "hub";
}

std::vector<std::string> cached_models(const fs::path& cache) {
  const std::string prefix = "models--";
  std::vector<std::string> names;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(cache, code)) {
    std::string name = entry.path().filename().string();
    if (!take(name, prefix)) continue;
    if (const size_t dashes = name.find("--"); dashes != std::string::npos) name.replace(dashes, 2, "/");
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path expanded(const std::string& name) {
  if (name != "~" && !name.starts_with("~/")) return name;
  return fs::path(variable("HOME")) / fs::path(name.size() > 2 ? name.substr(2) : "");
}

std::string escaped(std::string_view text, bool slashes) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  std::string result;
  for (const char symbol : text) {
    const auto byte = static_cast<unsigned char>(symbol);
    const bool ascii_letter = byte < 0x80 && is_plain(byte);
    if (ascii_letter || symbol == '~' || (slashes && symbol == '/')) {
      result += symbol;
    } else {
      result += '%';
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15];
    }
  }
  return result;
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

}  // namespace deltaw::io::hub
