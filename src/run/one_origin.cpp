#include "run/one_origin.h"

#include <fmt/format.h>

#include <string>

#include "core/json.h"
#include "deltaw/error.h"
#include "run/base_hash.h"
#include "run/inherited.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

struct Origin {
  fs::path folder;
  Json keys;
  std::string hash;  // of the base; empty where it is not known

  explicit Origin(const fs::path& from) : folder(from), keys(inherited(from).file) {
    if (const auto recorded = recorded_bases({from}); !recorded.empty()) hash = recorded.front().hash;
  }
};

[[noreturn]] void refuse(const Origin& a, const Origin& b, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.conflict",
               .what = what,
               .where = fmt::format("{} and {}", a.folder.string(), b.folder.string()),
               .fix = fix});
}

void compare_bases(const Origin& a, const Origin& b, bool base_is_given) {
  const std::string one = "give adapters that were trained on one base";
  if (!a.hash.empty() && !b.hash.empty()) {
    if (!agree(a.hash, b.hash)) refuse(a, b, "the adapters were trained on different bases: base_hash differs", one);
    return;
  }
  const Json first = a.keys.value("model_name_or_path", Json()), second = b.keys.value("model_name_or_path", Json());
  if (base_is_given || first == second) return;
  refuse(a, b, fmt::format("the adapters name different bases: {} and {}", shown(first), shown(second)),
         one + "; where both names mean the same one, add --model_name_or_path with it");
}

void compare_key(const Origin& a, const Origin& b, const char* key, const char* what) {
  const Json first = a.keys.value(key, Json()), second = b.keys.value(key, Json());
  if (first.is_null() || second.is_null() || first == second) return;
  refuse(a, b, fmt::format("the adapters were trained for different {}: {} and {}", what, shown(first), shown(second)),
         "give adapters of one kind");
}

}  // namespace

void require_one_origin(const std::vector<fs::path>& folders, bool base_is_given) {
  std::vector<Origin> origins;
  for (const fs::path& folder : folders) origins.emplace_back(folder);
  for (size_t i = 1; i < origins.size(); ++i) {
    compare_bases(origins[0], origins[i], base_is_given);
    compare_key(origins[0], origins[i], "task_type", "tasks");
    compare_key(origins[0], origins[i], "label_names", "labels");
  }
}

}  // namespace deltaw::run
