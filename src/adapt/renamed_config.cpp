#include "adapt/renamed_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "adapt/targets.h"
#include "core/patterns.h"

namespace deltaw {
namespace {

using Match = bool (*)(const std::string& name, const std::string& entry);

bool ends_with(const std::string& name, const std::string& ending) {
  return name.ends_with(ending);
}

/// As modules_to_save is read: the module stands in one whose name ends so, at a dot or not.
bool stands_in(const std::string& name, const std::string& ending) {
  if (ending.empty()) return false;
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    if (name.substr(0, dot).ends_with(ending)) return true;
  }
  return name.ends_with(ending);
}

bool matches_key(const std::string& name, const std::string& pattern) {
  return matches_end(pattern, name);
}

bool matches_whole(const std::string& name, const std::string& pattern) {
  return full_match(pattern, name);
}

/// The ends of a name at its dots, the shortest first, and the name.
std::vector<std::string> endings_of(const std::string& name) {
  std::vector<std::string> endings;
  for (size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
    endings.push_back(name.substr(dot + 1));
  }
  endings.push_back(name);
  return endings;
}

bool is_list_of_names(const Json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_string(); });
}

class Renamer {
 public:
  Renamer(const Model& model, const Naming& from, const Naming& to, bool keeps_what_fits)
      : keeps_what_fits_(keeps_what_fits) {
    std::set<std::string> linear;
    for (const Layer* layer : model.layers()) {
      if (is_linear(*layer)) linear.insert(layer->name);
    }
    for (const std::string& name : modules_with_tensors(model)) {
      modules_.push_back({from(name), to(name), linear.contains(name)});
    }
  }

  bool changes_nothing() const {
    return std::all_of(modules_.begin(), modules_.end(), [](const Module& m) { return m.from == m.to; });
  }

  AdapterConfig operator()(AdapterConfig config) const {
    const AdapterConfig given = config;
    config.target_modules = is_all_linear(given.target_modules) ? given.target_modules : names(given.target_modules);
    config.exclude_modules = names(given.exclude_modules);
    config.modules_to_save = listed(given.modules_to_save, stands_in);
    rename_options(config.options);
    if (config.share.is_object()) {
      for (auto& [name, pattern] : config.share.items()) {
        if (pattern.is_string()) pattern = expression(pattern.get<std::string>());
      }
    }
    config.layers_pattern = layers_pattern(given.layers_pattern);
    return keeps_what_fits_ ? config : with_same_layers(given, std::move(config));
  }

 private:
  struct Module {
    std::string from, to;
    bool linear = false;
  };
  using Picked = std::set<size_t>;  // numbers of modules

  template <class Take>
  Picked picked(const Take& take) const {
    Picked picked;
    for (size_t i = 0; i < modules_.size(); ++i) {
      if (take(modules_[i])) picked.insert(i);
    }
    return picked;
  }

  /// The modules that an entry means in the old names; nothing where it is to stay as it is.
  std::optional<Picked> to_rename(const std::string& entry, Match match) const {
    Picked before = picked([&](const Module& m) { return match(m.from, entry); });
    const Picked after = picked([&](const Module& m) { return match(m.to, entry); });
    if (before == after || (keeps_what_fits_ && !after.empty())) return std::nullopt;
    return before;
  }

  /// The shortest ends of new names that mean these modules and no others.
  std::vector<std::string> endings(const Picked& wanted, Match match) const {
    std::vector<std::string> found;
    for (const size_t i : wanted) {
      const std::string& name = modules_[i].to;
      if (std::any_of(found.begin(), found.end(), [&](const std::string& e) { return match(name, e); })) continue;
      for (const std::string& ending : endings_of(name)) {
        const Picked taken = picked([&](const Module& m) { return match(m.to, ending); });
        const bool alone = std::includes(wanted.begin(), wanted.end(), taken.begin(), taken.end());
        if (!alone && ending != name) continue;
        found.push_back(ending);
        break;
      }
    }
    return found;
  }

  std::vector<std::string> listed(const std::vector<std::string>& entries, Match match) const {
    std::vector<std::string> kept;
    Picked others;
    for (const std::string& entry : entries) {
      if (const auto before = to_rename(entry, match)) {
        others.insert(before->begin(), before->end());
      } else {
        kept.push_back(entry);
      }
    }
    for (std::string& ending : endings(others, match)) kept.push_back(std::move(ending));
    return kept;
  }

  /// A list of names, or one expression.
  Json names(const Json& value, Match match = has_suffix) const {
    if (is_list_of_names(value)) return listed(value.get<std::vector<std::string>>(), match);
    if (!value.is_string()) return value;
    const auto before = to_rename(value.get<std::string>(), matches_whole);
    return before ? Json(endings(*before, match)) : value;
  }

  std::string expression(const std::string& pattern) const {
    const auto before = to_rename(pattern, matches_key);
    if (!before) return pattern;
    std::vector<std::string> parts;
    for (const std::string& ending : endings(*before, has_suffix)) {
      std::string part;
      for (const std::string& name : parts_at_dots(ending)) part += (part.empty() ? "" : "\\.") + escaped(name);
      parts.push_back(part);
    }
    return fmt::format("{}", fmt::join(parts, "|"));
  }

  static std::vector<std::string> parts_at_dots(const std::string& name) {
    std::vector<std::string> parts(1);
    for (const char c : name) {
      if (c == '.') {
        parts.emplace_back();
      } else {
        parts.back() += c;
      }
    }
    return parts;
  }

  /// Of one tensor, by its whole name.
  std::string tensor_name(const std::string& name) const {
    for (const Module& m : modules_) {
      if (name.starts_with(m.from + ".")) return m.to + name.substr(m.from.size());
    }
    return name;
  }

  void rename_options(Json& options) const {
    for (const char* key : {"rank_pattern", "alpha_pattern", "kept_components"}) {
      const auto patterns = options.find(key);
      if (patterns == options.end() || !patterns->is_object()) continue;
      Json others = Json::object();
      for (const auto& [pattern, value] : patterns->items()) {
        const std::string other = value.is_array() ? tensor_name(pattern) : expression(pattern);
        if (!other.empty()) others[other] = value;
      }
      *patterns = std::move(others);
    }
    if (const auto modules = options.find("feedforward_modules"); modules != options.end()) {
      *modules = names(*modules, ends_with);
    }
  }

  /// What stands before the number of a layer in the new names, in place of what does in the old ones.
  Json layers_pattern(const Json& value) const {
    if (!value.is_string() && !is_list_of_names(value)) return value;
    std::vector<std::string> entries;
    for (const Json& entry : value.is_string() ? Json::array({value}) : value) {
      const std::string pattern = entry.get<std::string>();
      std::vector<std::string> others;
      bool same = true, fits = false;
      for (const Module& m : modules_) {
        const auto before = layer_number(m.from, {pattern}), after = layer_number(m.to, {pattern});
        same &= before == after;
        fits |= after.has_value();
        const std::string part = before ? part_before(m.to, *before) : "";
        if (!part.empty() && std::find(others.begin(), others.end(), part) == others.end()) others.push_back(part);
      }
      if (same || others.empty() || (keeps_what_fits_ && fits)) others = {pattern};
      entries.insert(entries.end(), others.begin(), others.end());
    }
    return entries;
  }

  static std::string part_before(const std::string& name, const std::string& number) {
    const std::vector<std::string> parts = parts_at_dots(name);
    const auto found = std::find(parts.begin(), parts.end(), number);
    return found == parts.begin() || found == parts.end() ? "" : *std::prev(found);
  }

  Picked selected(const AdapterConfig& config, std::string Module::*name) const {
    const bool all_linear = is_all_linear(config.target_modules);
    return picked(
        [&](const Module& m) { return (m.linear || !all_linear) && selects(config, config.target_modules, m.*name); });
  }

  AdapterConfig only(AdapterConfig config, const Picked& wanted) const {
    config.target_modules = endings(wanted, has_suffix);
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = Json();
    return config;
  }

  AdapterConfig with_same_layers(const AdapterConfig& given, AdapterConfig config) const {
    if (given.target_modules.is_null()) return config;
    const Picked wanted = selected(given, &Module::from);
    return selected(config, &Module::to) == wanted ? config : only(std::move(config), wanted);
  }

  std::vector<Module> modules_;
  bool keeps_what_fits_;
};

}  // namespace

std::vector<std::string> modules_with_tensors(const Model& model) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const Parameter* parameter : model.parameters()) {
    std::string name = parameter->name.substr(0, parameter->name.rfind('.'));
    if (seen.insert(name).second) names.push_back(std::move(name));
  }
  return names;
}

AdapterConfig renamed(const Model& model, AdapterConfig config, const Naming& from, const Naming& to,
                      bool keeps_what_fits) {
  const Renamer rename(model, from, to, keeps_what_fits);
  if (rename.changes_nothing()) return config;
  check_selection(config);
  return rename(std::move(config));
}

size_t entries_that_fit(const AdapterConfig& config, const std::vector<std::string>& modules) {
  std::vector<std::pair<std::string, Match>> entries;
  const auto add = [&](const Json& value) {
    if (value.is_string() && !is_all_linear(value)) entries.emplace_back(value.get<std::string>(), matches_whole);
    if (!is_list_of_names(value)) return;
    for (const Json& entry : value) entries.emplace_back(entry.get<std::string>(), has_suffix);
  };
  add(config.target_modules);
  add(config.exclude_modules);
  for (const std::string& entry : config.modules_to_save) entries.emplace_back(entry, stands_in);
  return static_cast<size_t>(std::count_if(entries.begin(), entries.end(), [&](const auto& entry) {
    return std::any_of(modules.begin(), modules.end(),
                       [&](const std::string& module) { return entry.second(module, entry.first); });
  }));
}

}  // namespace deltaw
