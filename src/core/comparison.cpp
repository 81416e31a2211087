#include "core/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/configuration.h"
#include "core/json.h"
#include "core/manifest.h"
#include "core/problems.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUsualSeed = 42;  // of TrainOptions
constexpr const char* kTaskMark = "{task}";

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& fix) {
  throw Error({.id = "config.comparison", .what = what, .where = where, .fix = fix});
}

/// The named parts of the file, in its order: {"small": {"r": 1}}.
using Parts = std::vector<std::pair<std::string, Json>>;

void lay_over(Json& below, const Json& above) {
  for (const auto& [key, value] : above.items()) {
    if (value.is_null()) {
      below.erase(key);
    } else {
      below[key] = value;
    }
  }
}

std::string for_task(std::string text, const std::string& task) {
  const std::string mark = kTaskMark;
  for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += task.size()) {
    text.replace(at, mark.size(), task);
  }
  return text;
}

/// Names become folders.
void check_name(const std::string& name, const std::string& where) {
  if (is_plain_name(name) && name.front() != '.') return;
  refuse(fmt::format("'{}' cannot be the name of a folder, and a run has a folder of its name", name), where,
         "give it a name of letters, digits, - and _");
}

class Reader {
 public:
  Reader(const fs::path& file, const ReadRunKeys& read) : file_(file), read_(read), values_(read_configuration(file)) {
    refuse_unknown_keys(values_, {"base", "tasks", "settings", "seeds", "metric", "output_dir"}, file_.string());
  }

  Comparison comparison(const ChosenCells& chosen) {
    Comparison result{.metrics = texts("metric"), .output_dir = text("output_dir"), .cells = {}};
    Parts tasks = picked(parts("tasks"), chosen.tasks, "tasks");
    const Parts settings = picked(parts("settings"), chosen.settings, "settings");
    if (settings.empty()) {
      refuse("the file lists no settings", place("settings"), "name what is compared: settings: {small: {r: 1}}");
    }
    const std::vector<int64_t> seeds = chosen.seeds.empty() ? listed_seeds() : chosen.seeds;
    if (tasks.empty()) tasks.emplace_back("", Json::object());
    Problems problems;  // of all runs, told at once
    for (const auto& task : tasks) {
      std::vector<Cell> once;
      for (const auto& setting : settings) problems.gather([&] { once.push_back(cell_of(task, setting)); });
      problems.gather([&] { add_seeds(result.cells, once, seeds); });
    }
    problems.settle();
    return result;
  }

 private:
  std::string place(const std::string& key) const { return fmt::format("{}, key '{}'", file_.string(), key); }

  Json value(const char* key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? Json() : *found;
  }

  std::string text(const char* key) const {
    const Json given = value(key);
    if (given.is_null()) return {};
    if (given.is_string()) return given.get<std::string>();
    refuse(fmt::format("{} is {}, no text", key, shown(given)), place(key), "write a text");
  }

  /// A text, or a list of them.
  std::vector<std::string> texts(const char* key) const {
    const Json given = value(key);
    if (!given.is_array()) return given.is_null() ? std::vector<std::string>() : std::vector<std::string>{text(key)};
    std::vector<std::string> all;
    for (const Json& item : given) {
      if (!item.is_string()) refuse(fmt::format("{} is no text", shown(item)), place(key), "list texts");
      all.push_back(item);
    }
    return all;
  }

  std::vector<int64_t> listed_seeds() const {
    Json given = value("seeds");
    if (given.is_null()) return {};
    if (!given.is_array()) given = Json::array({given});
    std::vector<int64_t> seeds;
    for (const Json& seed : given) {
      if (!seed.is_number_integer() || seed < 0) {
        refuse(fmt::format("{} is no seed", shown(seed)), place("seeds"), "list whole numbers from 0: [42, 43, 44]");
      }
      seeds.push_back(seed);
    }
    return seeds;
  }

  /// A mapping of names to parts. Tasks may be a list of names, each the task_name of GLUE or another set.
  Parts parts(const std::string& key) const {
    const Json given = value(key.c_str());
    Parts all;
    if (given.is_null()) return all;
    if (key == "tasks" && given.is_array()) {
      for (const std::string& name : texts("tasks")) all.emplace_back(name, Json{{"task_name", name}});
    } else if (given.is_object()) {
      for (const auto& [name, part] : given.items()) all.emplace_back(name, part.is_null() ? Json::object() : part);
    } else {
      refuse(fmt::format("{} is {}", key, shown(given)), place(key),
             fmt::format("write names and what they change: {}: {{small: {{r: 1}}, large: {{r: 8}}}}", key));
    }
    for (const auto& part : all) check_name(part.first, place(key));
    return all;
  }

  /// Those of `names`, in the order of these; all where there are none.
  Parts picked(Parts all, const std::vector<std::string>& names, const std::string& key) const {
    if (names.empty()) return all;
    Parts some;
    std::vector<std::string> known;
    for (const auto& part : all) known.push_back(part.first);
    for (const std::string& name : names) {
      const auto found = std::find(known.begin(), known.end(), name);
      if (found == known.end()) {
        throw Error({.id = "config.unknown-name",
                     .what = fmt::format("'{}' is none of the {}", name, key),
                     .where = place(key),
                     .fix = known.empty() ? "the file lists none" : suggest_names(name, known)});
      }
      some.push_back(all[static_cast<size_t>(found - known.begin())]);
    }
    return some;
  }

  /// A file of keys that a part names, from the folder of the comparison on.
  Json keys_of_file(const std::string& name, const std::string& where) {
    const fs::path path = file_.parent_path() / name;
    const auto known = files_.find(path);
    if (known != files_.end()) return known->second;
    std::error_code unseen;
    if (!fs::exists(path, unseen)) {
      throw Error({.id = "config.not-found",
                   .what = fmt::format("there is no file '{}' beside the comparison", name),
                   .where = where,
                   .fix = "a path begins at the folder of the comparison's file"});
    }
    return files_[path] = read_(read_configuration(path), path, path.string());
  }

  Json keys_of(const Json& part, const std::string& task, const std::string& where) {
    if (part.is_string()) return keys_of(Json{{"config", part}}, task, where);
    if (part.is_null()) return Json::object();
    if (!part.is_object()) {
      refuse(fmt::format("{} is neither keys of a run nor the name of a file of them", shown(part)), where,
             "write keys, {r: 8}, or the name of a file, run.yaml");
    }
    Json own = part, keys = Json::object();
    if (own.contains("config")) {
      if (!own["config"].is_string()) refuse("config is no name of a file", where, "config: run.yaml");
      keys = keys_of_file(for_task(own["config"], task), where);
      own.erase("config");
    }
    keys.update(read_(own, file_, where));  // nulls stay: they act on what is below the part, too
    return keys;
  }

  Cell cell_of(const std::pair<std::string, Json>& task, const std::pair<std::string, Json>& setting) {
    Cell cell{.task = task.first, .setting = setting.first, .seed = kUsualSeed, .keys = Json::object()};
    lay_over(cell.keys, keys_of(value("base"), task.first, place("base")));
    lay_over(cell.keys, keys_of(task.second, task.first, place("tasks") + " '" + task.first + "'"));
    lay_over(cell.keys, keys_of(setting.second, task.first, place("settings") + " '" + setting.first + "'"));
    const auto seed = cell.keys.find("seed");
    if (seed != cell.keys.end() && seed->is_number_integer()) cell.seed = *seed;
    // A run of a comparison has a place of its own, and goes on by itself.
    for (const char* key : {"output_dir", "overwrite_output_dir", "adopt_output_dir", "resume_from_checkpoint"}) {
      cell.keys.erase(key);
    }
    return cell;
  }

  void add_seeds(std::vector<Cell>& cells, const std::vector<Cell>& once, const std::vector<int64_t>& seeds) const {
    if (seeds.empty()) cells.insert(cells.end(), once.begin(), once.end());
    std::set<int64_t> seen;
    for (const int64_t seed : seeds) {
      if (!seen.insert(seed).second)
        refuse(fmt::format("the seed {} is listed twice", seed), place("seeds"), "keep one");
      for (Cell cell : once) {
        cell.seed = seed;
        cell.keys["seed"] = seed;
        cells.push_back(std::move(cell));
      }
    }
  }

  const fs::path& file_;
  const ReadRunKeys& read_;
  Json values_;
  std::map<fs::path, Json> files_;  // that parts name, read once
};

}  // namespace

std::string Cell::name() const {
  return fmt::format("{}{}{}/seed-{}", task, task.empty() ? "" : "/", setting, seed);
}

Comparison read_comparison(const fs::path& file, const ReadRunKeys& read, const ChosenCells& chosen) {
  return Reader(file, read).comparison(chosen);
}

}  // namespace deltaw
