#include "run/base_hash.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <set>
#include <sstream>

#include "deltaw/error.h"
#include "deltaw/pipeline.h"
#include "io/content_hash.h"
#include "models/gguf.h"
#include "run/run_folder.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

/// By what they are of: "" is the model's own checkpoint, other names are of its parts.
using Hashes = std::map<std::string, std::string>;

/// Those that can be compared with others.
Hashes hashes_in(const std::string& base_hash) {
  Hashes hashes;
  std::istringstream words(base_hash);
  for (std::string word; words >> word;) {
    const size_t sign = word.find('=');
    const std::string part = sign == std::string::npos ? "" : word.substr(0, sign);
    const std::string hash = sign == std::string::npos ? word : word.substr(sign + 1);
    if (io::is_content_hash(hash)) hashes[part] = hash;
  }
  return hashes;
}

/// What both are of, with other weights.
std::vector<std::string> differences(const Hashes& a, const Hashes& b) {
  std::vector<std::string> parts;
  for (const auto& [part, hash] : a) {
    const auto other = b.find(part);
    if (other != b.end() && other->second != hash) parts.push_back(part);
  }
  return parts;
}

/// What the rest of a broken run.json says is for its readers to complain of.
std::string hash_in(const fs::path& folder) {
  try {
    const Json hash = settings_beside(folder).value("base_hash", Json());
    return hash.is_string() ? hash.get<std::string>() : "";
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

std::string base_hash(const Model& model) {
  std::string all = io::content_hash(*open_checkpoint(model.folder()));
  for (const auto& [part, folder] : folders_of_parts(model)) {
    all += fmt::format(" {}={}", part, io::content_hash(*open_checkpoint(folder)));
  }
  return all;
}

std::vector<RecordedBase> recorded_bases(const std::vector<fs::path>& folders) {
  std::vector<RecordedBase> recorded;
  for (const fs::path& folder : folders) {
    if (folder.empty()) continue;
    if (std::string hash = hash_in(folder); !hashes_in(hash).empty()) {
      recorded.push_back({std::move(hash), (folder / "run.json").string()});
    }
  }
  return recorded;
}

bool agree(const std::string& base_hash, const std::string& other) {
  return differences(hashes_in(base_hash), hashes_in(other)).empty();
}

std::optional<std::string> other_base_warning(const Model& model, const std::string& own,
                                              const std::vector<RecordedBase>& recorded) {
  const Hashes hashes = hashes_in(own);
  std::vector<std::string> others;
  std::set<std::string> parts;
  for (const RecordedBase& base : recorded) {
    const std::vector<std::string> different = differences(hashes, hashes_in(base.hash));
    if (different.empty()) continue;
    others.push_back(base.where);
    parts.insert(different.begin(), different.end());
  }
  if (others.empty()) return std::nullopt;
  std::vector<std::string> folders;
  for (const std::string& part : parts) {
    folders.push_back(fmt::format("'{}'", (part.empty() ? model.folder() : folders_of_parts(model).at(part)).string()));
  }
  return fmt::format(
      "the weights of the base in {} are not those that base_hash in {} was taken of: an update of other weights "
      "gives other results; name the base that it was trained on",
      fmt::join(folders, " and "), fmt::join(others, " and "));
}

}  // namespace deltaw::run
