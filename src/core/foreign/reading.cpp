#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "core/foreign/table.h"
#include "core/json.h"
#include "core/printable.h"

namespace deltaw::foreign {
namespace {

constexpr int64_t kMostWhole = 1'000'000'000;  // two of them can be multiplied

/// The value as one of a field's type; nothing where it is of another.
template <class T>
std::optional<T> read_as(const Json& value) {
  std::optional<T> result;
  try {
    T read{};
    read_fields([&](FieldVisitor& f) { f.field("value", read, ""); }, {{"value", value}}, "");
    if (!value.is_null()) result = std::move(read);
  } catch (const Error&) {
  }
  return result;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string quoted_list(const std::vector<std::string>& names) {
  return fmt::format("'{}'", fmt::join(names, "', '"));
}

}  // namespace

Key same(const std::string& names, std::string note) {
  return {.names = words_of(names), .fate = Fate::taken, .note = std::move(note)};
}

Key as(std::string name, std::string here, std::vector<std::pair<Json, Json>> values, std::string note) {
  return {.names = {std::move(name)},
          .fate = Fate::taken,
          .here = std::move(here),
          .note = std::move(note),
          .values = std::move(values)};
}

Key idle(const std::string& names, std::string reason) {
  return {.names = words_of(names), .fate = Fate::passed_over, .note = std::move(reason)};
}

Key refused(const std::string& names, std::string why_and_fix, std::vector<Json> accepted) {
  return {
      .names = words_of(names), .fate = Fate::refused, .note = std::move(why_and_fix), .accepted = std::move(accepted)};
}

Key computed(std::string name, std::string here, std::string note, void (*take)(Reading&, const Json&)) {
  return {.names = {std::move(name)},
          .fate = Fate::computed,
          .here = std::move(here),
          .note = std::move(note),
          .take = take};
}

const Key* find_key(const Tool& tool, const std::string& name) {
  for (const Key& key : tool.keys) {
    if (std::find(key.names.begin(), key.names.end(), name) != key.names.end()) return &key;
  }
  return nullptr;
}

bool is_off(const Json& value) {
  if (value.is_null() || value == false) return true;
  if (value.is_number() && value == 0) return true;
  if (value.is_string()) {
    std::string text = value.get<std::string>();
    std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    return text.empty() || text == "none" || text == "no" || text == "off" || text == "false" || text == "disabled";
  }
  return value.is_structured() && value.empty();
}

std::string plain(const Json& value) {
  const std::string text = shown(value);
  return value.is_string() && text.size() >= 2 ? text.substr(1, text.size() - 2) : text;
}

Reading::Reading(const Json& all, const Here& here, const Tool& tool, const std::string& where, Translation& result)
    : all(all), here(here), tool(tool), where(where), result_(result) {
  if (!tool.take_other) {
    for (const auto& [name, value] : all.items()) {
      if (!find_key(tool, name) && here.keys.contains(name)) elsewhere_[name] = value;
    }
  }
  for (const auto& [name, value] : here.given) elsewhere_[name] = value;
}

void Reading::set(const std::string& key, const Json& value, const std::string& name) {
  if (value.is_null()) return;
  const auto found = std::find_if(set_by_.begin(), set_by_.end(), [&](const auto& pair) { return pair.first == key; });
  if (found != set_by_.end() && result_.values[key] != value) {
    refuse(name,
           fmt::format("'{}' and '{}' are both {} here, and disagree: {} and {}", found->second, name, key,
                       plain(result_.values[key]), plain(value)),
           fmt::format("keep one of the two, or give --{} on the command line", key), {key});
    return;
  }
  set_by_.emplace_back(key, name);
  result_.values[key] = value;
}

void Reading::set_default(const std::string& key, const Json& value) {
  if (!is_set(key)) result_.values[key] = value;
}

bool Reading::is_set(const std::string& key) const {
  return elsewhere_.contains(key) || result_.values.contains(key);
}

void Reading::became(const std::string& text) {
  const std::string sentence = printable(text);
  if (std::find(result_.became.begin(), result_.became.end(), sentence) == result_.became.end()) {
    result_.became.push_back(sentence);
  }
}

void Reading::pass_over(const std::string& name) {
  result_.passed_over.push_back(name);
}

void Reading::refuse(const std::string& name, const std::string& what, const std::string& fix,
                     std::vector<std::string> settled_by) {
  settled_by.push_back(name);
  const bool settled = std::any_of(settled_by.begin(), settled_by.end(),
                                   [&](const std::string& key) { return elsewhere_.contains(key); });
  if (settled) return;
  result_.meant.insert(result_.meant.end(), settled_by.begin(), settled_by.end());
  result_.problems.push_back(
      Error({.id = "config.not-implemented", .what = what, .where = where + ", key '" + name + "'", .fix = fix}));
}

void Reading::refuse_type(const std::string& name, const std::string& wanted) {
  const Json& value = of(name);
  result_.problems.push_back(Error({.id = "config.wrong-type",
                                    .what = fmt::format("'{}' has the value {} ({}), which is not {}", name,
                                                        shown(value), value.type_name(), wanted),
                                    .where = where + ", key '" + name + "'",
                                    .fix = "give " + wanted}));
}

const Json& Reading::of(const std::string& name) const {
  static const Json none;
  const auto found = all.find(name);
  return found == all.end() ? none : *found;
}

int64_t Reading::rank(const std::string& name, int64_t fallback) {
  const auto found = elsewhere_.find("r");
  const std::optional<int64_t> given = found == elsewhere_.end() ? std::nullopt : read_as<int64_t>(found->second);
  const int64_t rank = given ? *given : whole_of(name).value_or(fallback);
  return std::clamp<int64_t>(rank, 0, kMostWhole);
}

std::optional<int64_t> Reading::whole_of(const std::string& name) {
  const std::optional<int64_t> value = read_as<int64_t>(of(name));
  if (value && *value >= -kMostWhole && *value <= kMostWhole) return value;
  if (!of(name).is_null()) refuse_type(name, "a whole number of at most 1e9");
  return std::nullopt;
}

std::optional<double> Reading::number_of(const std::string& name) {
  const std::optional<double> value = read_as<double>(of(name));
  if (!value && !of(name).is_null()) refuse_type(name, "a number");
  return value;
}

std::optional<std::string> Reading::text_of(const std::string& name) {
  const std::optional<std::string> value = read_as<std::string>(of(name));
  if (!value && !of(name).is_null()) refuse_type(name, "a text");
  return value;
}

bool Reading::truth_of(const std::string& name, bool fallback) {
  const std::optional<bool> value = read_as<bool>(of(name));
  if (!value && !of(name).is_null()) refuse_type(name, "true or false");
  return value.value_or(fallback);
}

void Reading::take_all() {
  for (const auto& [name, value] : all.items()) take(name, value);
  if (tool.finish) tool.finish(*this);
  for (const std::string& name : result_.own) result_.values[name] = all[name];
}

void Reading::take(const std::string& name, const Json& value) {
  const Key* key = find_key(tool, name);
  if (!key && tool.take_other) return tool.take_other(*this, name, value);
  if (!key) return take_unknown(name);
  const std::string here_key = key->here.empty() ? name : key->here;
  switch (key->fate) {
    case Fate::passed_over:
      if (!value.is_null()) pass_over(name);
      return;
    case Fate::refused:
      return take_refused(*key, name, value);
    case Fate::computed:
      if (!value.is_null()) key->take(*this, value);
      return;
    case Fate::taken:
      break;
  }
  for (const auto& [theirs, ours] : key->values) {
    if (value != theirs) continue;
    if (ours != value && !ours.is_null())
      became(fmt::format("{} {} is {} {}", name, plain(value), here_key, plain(ours)));
    return set(here_key, ours, name);
  }
  set(here_key, value, name);
}

void Reading::take_refused(const Key& key, const std::string& name, const Json& value) {
  if (is_off(value) || std::find(key.accepted.begin(), key.accepted.end(), value) != key.accepted.end()) return;
  const size_t bar = key.note.find('|');
  refuse(name, fmt::format("'{}' is {}: {}", name, plain(value), key.note.substr(0, bar)),
         bar == std::string::npos ? "remove it" : key.note.substr(bar + 1));
}

void Reading::take_unknown(const std::string& name) {
  if (here.keys.contains(name)) {
    result_.own.push_back(name);
    return;
  }
  std::vector<std::string> known;
  for (const Key& key : tool.keys) {
    known.insert(known.end(), key.names.begin(), key.names.end());
  }
  const std::vector<std::string> nearest = nearest_names(name, known);
  result_.problems.push_back(Error(
      {.id = "config.unknown-key",
       .what = fmt::format("the key '{}' is neither one of {} that deltaw knows nor one of deltaw", name, tool.name),
       .where = where,
       .fix = nearest.empty() ? fmt::format("remove it; docs/configurations.md lists the keys of {}", tool.name)
                              : fmt::format("did you mean {}?", quoted_list({nearest.front()}))}));
}

bool is_data_file(const std::string& text) {
  std::string name = text;
  for (const char* packed : {".gz", ".zst", ".bz2", ".xz"}) {
    if (name.ends_with(packed)) name.resize(name.size() - std::string(packed).size());
  }
  for (const char* ending : {".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

void take_data(Reading& reading, const std::vector<std::string>& paths, const std::string& key,
               const std::string& name) {
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (is_data_file(path) || std::filesystem::exists(path, ignored)) continue;
    const bool is_name = path.find_first_of(" \\") == std::string::npos && path.find('/') == path.rfind('/');
    reading.refuse(name, fmt::format("'{}' is neither a file of rows nor a folder here", path),
                   is_name
                       ? fmt::format("of the hub, `deltaw download {} --repo_type dataset` fetches it; then give --{} "
                                     "with the folder that it prints",
                                     path, key)
                       : fmt::format("give --{} FILE", key),
                   {key});
    return;
  }
  if (paths.size() == 1) reading.set(key, paths.front(), name);
  if (paths.size() > 1) reading.set(key, paths, name);
}

}  // namespace deltaw::foreign
