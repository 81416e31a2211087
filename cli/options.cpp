#include "options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>

#include "adapt/training_keys.h"
#include "aliases.h"
#include "core/configuration.h"
#include "core/log.h"
#include "data/file_formats.h"
#include "deltaw/error.h"
#include "other_tools.h"
#include "output.h"

namespace deltaw::cli {
namespace {

constexpr const char* kCommandLine = "command line";

/// The names of a verb's keys, with those that may stand alone.
struct Names {
  std::set<std::string> keys;      // canonical
  std::set<std::string> switches;  // truth values, canonical or other
  std::set<std::string> files;     // of paths, of which several may follow; canonical or other
  std::vector<std::string> all;    // canonical and other
};

Names names_of(const std::vector<Section>& sections) {
  Names names;
  std::set<std::string> valued;
  for (const Section& section : sections) {
    for (const FieldInfo& key : section.keys) {
      names.keys.insert(key.name);
      (key.type == "bool" ? names.switches : valued).insert(key.name);
      if (key.type == "files") names.files.insert(key.name);
    }
  }
  for (const std::string& name : valued) names.switches.erase(name);
  names.all.assign(names.keys.begin(), names.keys.end());
  for (const std::string& name : other_names(names.keys)) {
    names.all.push_back(name);
    if (is_switch(name, names.switches)) names.switches.insert(name);
    if (stands_for(name, names.files)) names.files.insert(name);
  }
  return names;
}

bool is_truth_word(const std::string& word) {
  static const std::set<std::string> words = {"true", "false", "True", "False", "yes", "no", "on", "off", "1", "0"};
  return words.contains(word);
}

/// `--name` with `_` for `-`; the value after `=` stays.
std::string canonical(const std::string& word) {
  std::string name = word.substr(2, word.find('=') == std::string::npos ? std::string::npos : word.find('=') - 2);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

bool is_flag(const std::string& word) {
  return word.starts_with("--") && word.size() > 2;
}

bool is_file(const std::string& word) {
  std::error_code ignored;
  return std::filesystem::exists(word, ignored);
}

bool is_folder(const std::string& word) {
  std::error_code ignored;
  return std::filesystem::is_directory(word, ignored);
}

[[noreturn]] void refuse_words(const std::string& what, const std::string& fix) {
  throw Error({.id = "usage.arguments", .what = what, .where = kCommandLine, .fix = fix});
}

/// Whether a switch at `i` stands for true, and the word after it for something else.
bool stands_alone(const Args& args, size_t i) {
  if (i + 1 == args.size() || is_flag(args[i + 1])) return true;
  return !is_truth_word(args[i + 1]) && is_file(args[i + 1]);
}

/// A word that is no flag, and no value of the flag before it. `positional`: the words of this kind that are read.
void check_positional(const Args& args, size_t i, const Usage& usage, const std::vector<std::string>& positional) {
  const std::string& word = args[i];
  const bool lacks_dash = word.size() > 1 && word[0] == '-' && std::isalpha(static_cast<unsigned char>(word[1])) != 0;
  if (lacks_dash && !is_file(word)) {
    refuse_words(fmt::format("'{}' is no flag: flags have two dashes", word), fmt::format("-{}", word));
  }
  const bool may_be_config = is_file(word) && !is_folder(word);
  if (usage.positional_is_config && !may_be_config && i >= 2 && is_flag(args[i - 2]) && !is_flag(args[i - 1]) &&
      args[i - 2].find('=') == std::string::npos) {
    refuse_words(fmt::format("'{}' stands behind {} {} and belongs to no flag", word, args[i - 2], args[i - 1]),
                 fmt::format("a list has commas: {} {},{}", args[i - 2], args[i - 1], word));
  }
  if (usage.positional.empty()) {
    refuse_words(fmt::format("'{}' belongs to no flag", word),
                 fmt::format("name its key before it; `deltaw {} --help` lists the keys", usage.verb));
  }
  if (!positional.empty()) {
    refuse_words(fmt::format("'{}' belongs to no flag, and '{}' is {} already", word, positional.front(),
                             usage.positional_is_config ? "the file of keys" : "what is asked about"),
                 "remove it, or name its key before it");
  }
}

/// Whether `word` is one more file of rows behind `file`: of the same ending, or a pattern. A file of keys may stand
/// there too.
bool is_another_file(const std::string& word, const std::string& file) {
  if (is_flag(word) || word.starts_with('-')) return false;
  const std::string ending = data::ending_of(word);
  if (ending == ".yaml" || ending == ".yml") return false;
  return word.find_first_of("*?") != std::string::npos || (!ending.empty() && ending == data::ending_of(file));
}

/// The files from `i` on, which moves to the last of them: one by its name, several as a JSON list.
std::string files_at(const Args& args, size_t& i) {
  Json files = Json::array({args[i]});
  while (i + 1 < args.size() && is_another_file(args[i + 1], args[i])) files.push_back(args[++i]);
  return files.size() == 1 ? args[i] : files.dump();
}

/// The last of the words after the misplaced one at `i` that belong to it, as a rule.
size_t last_value(const Args& args, size_t i) {
  while (i + 1 < args.size() && !is_flag(args[i + 1])) ++i;
  return i;
}

/// A flag that is none of `known` keys, nor of another tool's.
[[noreturn]] void refuse_flag(const std::string& name, const std::vector<std::string>& known) {
  refuse_training_key(name, kCommandLine);
  refuse_unknown_keys(Json{{name, nullptr}}, known, kCommandLine);
  refuse_words(fmt::format("--{} is no flag of this verb", name), "remove it");
}

/// argv with each flag in its canonical spelling and "=true" after a switch that stands alone; without what is wrong,
/// of which `unknown` keeps the names.
Args normalise(const Args& args, const Usage& usage, const Names& names, const std::vector<std::string>& known,
               std::vector<std::string>& unknown, Problems& problems) {
  Args result;
  std::map<std::string, std::string> given;  // by flag
  std::vector<std::string> positional;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& word = args[i];
    if (!is_flag(word)) {
      if (problems.gather([&] { check_positional(args, i, usage, positional); })) {
        positional.push_back(word);
        result.push_back(word);
      } else {
        i = last_value(args, i);
      }
      continue;
    }
    const std::string name = canonical(word);
    const bool is_known = std::find(names.all.begin(), names.all.end(), name) != names.all.end();
    if (!is_known) {
      unknown.push_back(name);
      problems.gather([&] { refuse_flag(name, known); });
    }
    const size_t equals = word.find('=');
    const bool has_next = i + 1 < args.size() && !is_flag(args[i + 1]);
    std::string value = "true";
    if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (!names.switches.contains(name) || !stands_alone(args, i)) {
      if (has_next) {
        ++i;
        value = names.files.contains(name) ? files_at(args, i) : args[i];
      } else if (is_known) {
        problems.gather([&] {
          refuse_words(fmt::format("{} has no value", word), fmt::format("give one behind it, or remove {}", word));
        });
        continue;
      }
    }
    if (!is_known) continue;
    if (const auto [first, is_new] = given.try_emplace(name, value); !is_new) {
      problems.gather([&, first = first->second] {
        refuse_words(fmt::format("--{} is given twice: {} and {}", name, first, value), "keep one of them");
      });
      continue;
    }
    result.push_back("--" + name + "=" + value);
  }
  return result;
}

/// A flag for a field that has no single type: a truth value, numbers, or names with commas between them.
Json flag_value(const std::string& text) {
  if (text == "true" || text == "false" || text == "null") return Json::parse(text);
  if (text.empty() || text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,- ") !=
                          std::string::npos) {
    return text;
  }
  Json list = Json::array();
  bool numbers = true;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string item = text.substr(begin, end - begin);
    item.erase(0, item.find_first_not_of(' '));
    item.erase(item.find_last_not_of(' ') + 1);
    begin = end + 1;
    if (item.empty()) continue;
    const Json number = Json::parse(item, nullptr, false);
    numbers = numbers && number.is_number();
    list.push_back(number.is_number() ? number : Json(item));
  }
  if (!numbers) {
    for (Json& item : list) item = item.is_string() ? item : Json(item.dump());
  }
  if (list.size() == 1 && text.find(',') == std::string::npos) return list[0];
  return list;
}

void shape_flags(Json& flags, const std::vector<Section>& sections) {
  for (const Section& section : sections) {
    for (const FieldInfo& key : section.keys) {
      if (key.type != "json" || !flags.contains(key.name) || !flags[key.name].is_string()) continue;
      flags[key.name] = flag_value(flags[key.name].get<std::string>());
    }
  }
}

/// CLI11 reads the words; every value stays a string, which the fields parse.
void read_words(const Usage& usage, const Names& names, Args words, Invocation& invocation) {
  CLI::App app;
  app.set_help_flag();
  std::map<std::string, std::string> values;
  for (const std::string& name : names.all) app.add_option("--" + name, values[name]);
  if (!usage.positional.empty()) app.add_option(usage.positional, invocation.positional);
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    throw Error({.id = "usage.arguments",
                 .what = error.what(),
                 .where = kCommandLine,
                 .fix = fmt::format("`deltaw {} --help` shows how it is called", usage.verb)});
  }
  for (const std::string& name : names.all) {
    if (app.count("--" + name) > 0) invocation.flags[name] = values[name];
  }
}

Json loose_flags(const Args& args, const Usage& usage, const Names& names, std::string& positional) {
  Json flags = Json::object();
  for (size_t i = 0; i < args.size(); ++i) {
    if (!args[i].starts_with("--")) {
      if (args[i] == "-h") continue;
      Problems told_later;
      if (!told_later.gather([&] { check_positional(args, i, usage, {}); })) {
        i = last_value(args, i);
      } else if (positional.empty()) {
        positional = args[i];
      }
      continue;
    }
    const std::string name = canonical(args[i]);
    const size_t equals = args[i].find('=');
    const bool has_next = i + 1 < args.size() && !args[i + 1].starts_with("--");
    if (equals != std::string::npos) {
      flags[name] = args[i].substr(equals + 1);
    } else if (name == "help" || !has_next || (names.switches.contains(name) && stands_alone(args, i))) {
      flags[name] = "true";
    } else {
      ++i;
      flags[name] = names.files.contains(name) ? files_at(args, i) : args[i];
    }
  }
  return flags;
}

bool asks_help(const Args& args) {
  return std::any_of(args.begin(), args.end(),
                     [](const std::string& word) { return word == "--help" || word == "-h"; });
}

std::vector<std::string> listed_keys(const std::vector<Section>& sections) {
  std::vector<std::string> keys;
  for (const Section& section : sections) {
    for (const FieldInfo& key : section.keys) {
      if (section.listed) keys.push_back(key.name);
    }
  }
  return keys;
}

/// Every name that the command line gives, in the spelling of a file, and the values of those that are keys.
std::map<std::string, Json> given_names(const Args& args, const Json& flags) {
  std::map<std::string, Json> names;
  for (const std::string& word : args) {
    if (is_flag(word)) names[canonical(word)] = nullptr;
  }
  for (const auto& [name, value] : flags.items()) names[name] = value;
  return names;
}

/// The file's values under canonical names, and every name it may hold. `other` says what became of a configuration
/// of another tool.
Json read_file_keys(const std::string& path, const Names& names, const std::vector<std::string>& shared,
                    const Args& args, const Json& flags, std::set<std::string>& allowed, OtherTool& other,
                    Problems& problems) {
  allowed = names.keys;
  allowed.insert(shared.begin(), shared.end());
  const Json values = read_configuration(path);
  other = translate_other_tool(values, allowed, given_names(args, flags), path, problems);
  return translate(other.values, allowed, path, problems);
}

/// Removes the keys that neither a section nor another verb has.
void refuse_file_keys(Invocation& invocation, const std::set<std::string>& allowed,
                      const std::vector<std::string>& known, std::vector<std::string>& unknown, Problems& problems) {
  const Json all = invocation.file;
  for (const auto& [key, value] : all.items()) {
    if (allowed.contains(key)) continue;
    unknown.push_back(key);
    problems.gather([&, key = key] {
      refuse_training_key(key, invocation.file_name);
      refuse_unknown_keys(Json{{key, nullptr}}, known, invocation.file_name);
    });
    invocation.file.erase(key);
  }
}

/// Removes the values that their fields do not take.
void refuse_values(Json& values, const std::vector<Section>& sections, const std::string& where, Problems& problems) {
  for (const Section& section : sections) {
    for (const FieldInfo& key : section.keys) {
      for (const auto& check : section.checks) {
        const auto found = values.find(key.name);
        if (found == values.end()) break;
        const Json alone = {{key.name, *found}};
        if (!problems.gather([&] { check(alone, where); })) values.erase(key.name);
      }
    }
  }
}

bool is_set(const Invocation& given, const std::string& key) {
  const Json all = given.all();
  return all.contains(key) && !all[key].is_null() && all[key] != "";
}

/// A key that stands among the `unknown` ones in another spelling is not missing.
void refuse_missing_keys(const Usage& usage, const Invocation& given, const std::vector<std::string>& unknown,
                         Problems& problems) {
  for (const Need& need : usage.needs) {
    const auto is_given = [&](const std::string& key) { return is_set(given, key); };
    const auto is_meant = [&](const std::string& name) { return !nearest_names(name, need.any_of).empty(); };
    if (std::any_of(need.any_of.begin(), need.any_of.end(), is_given)) continue;
    if (std::any_of(unknown.begin(), unknown.end(), is_meant)) continue;
    problems.gather([&] { refuse_missing(usage, need, given.file_name.empty() ? kCommandLine : given.file_name); });
  }
}

void set_log_level(const Invocation& invocation) {
  const Json all = invocation.all();
  if (!all.contains("log_level")) return;
  LogKeys keys;
  read_fields(fields_of(keys), all, invocation.where());
  if (!keys.log_level.empty()) log().set_level(keys.log_level);
}

}  // namespace

void Section::append(Section more) {
  for (FieldInfo& key : more.keys) keys.push_back(std::move(key));
  for (auto& check : more.checks) checks.push_back(std::move(check));
}

void LogKeys::fields(FieldVisitor& f) {
  f.field("log_level", log_level, "What the log shows; default: the variable DELTAW_LOG, else warn.",
          one_of({"trace", "debug", "info", "warn", "error", "off"}));
}

Invocation peek_args(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                     const std::vector<std::string>& shared) {
  const Names names = names_of(sections);
  Invocation invocation;
  invocation.help = asks_help(args);
  Problems told_later;
  Json flags = loose_flags(args, usage, names, invocation.positional);
  flags.erase("help");
  if (invocation.help) {
    for (const char* key : {"method", "peft_type"}) {
      if (flags.contains(key)) invocation.flags["method"] = flags[key];
    }
  } else {
    invocation.flags = translate(flags, names.keys, kCommandLine, told_later);
  }
  if (usage.positional_is_config && !invocation.positional.empty()) {
    std::set<std::string> allowed;
    OtherTool told_when_parsed;
    invocation.file_name = invocation.positional;
    invocation.file = read_file_keys(invocation.positional, names, shared, args, invocation.flags, allowed,
                                     told_when_parsed, told_later);
  }
  return invocation;
}

Invocation parse_args(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                      const std::vector<std::string>& shared) {
  Problems problems;
  Invocation invocation = parse_args(usage, sections, args, shared, problems);
  problems.settle();
  return invocation;
}

Invocation parse_args(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                      const std::vector<std::string>& shared, Problems& problems) {
  const Names names = names_of(sections);
  Invocation invocation;
  invocation.help = asks_help(args);
  if (invocation.help) return invocation;
  const std::vector<std::string> known = listed_keys(sections);
  std::vector<std::string> unknown;
  read_words(usage, names, normalise(args, usage, names, known, unknown, problems), invocation);
  invocation.flags = translate(invocation.flags, names.keys, kCommandLine, problems);
  shape_flags(invocation.flags, sections);
  if (usage.positional_is_config && !invocation.positional.empty()) {
    invocation.file_name = invocation.positional;
    std::set<std::string> allowed;
    OtherTool other;
    const bool is_read = problems.gather([&] {
      invocation.file =
          read_file_keys(invocation.positional, names, shared, args, invocation.flags, allowed, other, problems);
    });
    note(other.report);
    unknown.insert(unknown.end(), other.meant.begin(), other.meant.end());
    if (!is_read) problems.settle();  // what else it says is not known
    refuse_file_keys(invocation, allowed, known, unknown, problems);
  }
  const Invocation given = invocation;
  refuse_values(invocation.file, sections, invocation.file_name, problems);
  refuse_values(invocation.flags, sections, kCommandLine, problems);
  refuse_missing_keys(usage, given, unknown, problems);
  set_log_level(invocation);
  return invocation;
}

void refuse_missing(const Usage& usage, const Need& need, const std::string& where) {
  throw Error({.id = "usage.missing-key",
               .what = fmt::format("`deltaw {}` needs {}", usage.verb, need.name),
               .where = where,
               .fix = need.fix});
}

}  // namespace deltaw::cli
