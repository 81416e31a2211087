#include <fmt/format.h>

#include "core/progress.h"
#include "info.h"
#include "output.h"

namespace deltaw::cli {
namespace {

std::string value_text(const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (key == "bytes") return format_bytes(value.get<double>());
  if (value.is_number_integer()) return format_count(value.get<int64_t>());
  if (!value.is_array()) return value.dump();
  std::string list;
  for (const Json& item : value) {
    list += (list.empty() ? "" : ", ") + (item.is_string() ? item.get<std::string>() : item.dump());
  }
  return list.empty() ? "none" : list;
}

std::string modules_text(const Json& modules) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& module : modules) {
    if (module.is_string()) {
      rows.push_back({module.get<std::string>()});
    } else {
      rows.push_back({module["name"].get<std::string>(), module["shape"].dump()});
    }
  }
  return table(rows);
}

}  // namespace

std::string info_text(const Json& info) {
  std::string text = fmt::format("{}: {}\n", info["kind"].get<std::string>(), info["path"].get<std::string>());
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : info.items()) {
    if (key == "kind" || key == "path" || key == "modules" || key == "adapter") continue;
    if (value.is_object()) {
      for (const auto& [inner, item] : value.items()) rows.push_back({key + " " + inner, value_text(inner, item)});
    } else {
      rows.push_back({key, value_text(key, value)});
    }
  }
  // Values of all kinds stand in one column, so none of them is moved to the right.
  size_t widest = 0;
  for (const auto& row : rows) widest = std::max(widest, row[0].size());
  for (const auto& row : rows) text += fmt::format("  {:<{}}  {}\n", row[0], widest, row[1]);
  if (info.contains("modules")) text += "modules:\n" + modules_text(info["modules"]);
  if (info.contains("adapter")) text += info_text(info["adapter"]);
  return text;
}

}  // namespace deltaw::cli
