#include "run/base_hash.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "deltaw/error.h"
#include "io/content_hash.h"
#include "models/gguf.h"
#include "run/run_folder.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

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
  return io::content_hash(*open_checkpoint(model.folder()));
}

std::vector<RecordedBase> recorded_bases(const std::vector<fs::path>& folders) {
  std::vector<RecordedBase> recorded;
  for (const fs::path& folder : folders) {
    if (folder.empty()) continue;
    if (std::string hash = hash_in(folder); io::is_content_hash(hash)) {
      recorded.push_back({std::move(hash), (folder / "run.json").string()});
    }
  }
  return recorded;
}

std::optional<std::string> other_base_warning(const fs::path& folder, const std::string& own,
                                              const std::vector<RecordedBase>& recorded) {
  std::vector<std::string> others;
  for (const RecordedBase& base : recorded) {
    if (io::is_content_hash(base.hash) && base.hash != own) others.push_back(base.where);
  }
  if (others.empty()) return std::nullopt;
  return fmt::format(
      "the weights of the base in '{}' are not those that base_hash in {} was taken of: an update of other weights "
      "gives other results; name the base that it was trained on",
      folder.string(), fmt::join(others, " and "));
}

}  // namespace deltaw::run
