#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"
#include "method_infos.h"
#include "options.h"
#include "output.h"

namespace deltaw::cli {
namespace {

struct Keys {
  bool json = false;
  bool markdown = false;

  void fields(FieldVisitor& f) {
    f.field("json", json, "A list of methods with their options.");
    f.field("markdown", markdown, "Tables for the documentation.");
  }
};

const Usage kUsageText = {
    .verb = "methods",
    .what = "Lists the methods that train an update, or the options of one.",
    .example = "  deltaw methods\n  deltaw methods randlora",
    .positional = "METHOD",
    .positional_help = "Id or PEFT type of the method whose options are shown.",
};

std::string text_of(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Json to_json(const MethodInfo& method) {
  Json options = Json::array();
  for (const FieldInfo& option : method.options) {
    options.push_back({{"name", option.name},
                       {"type", option.type},
                       {"default", option.default_value},
                       {"range", option.range},
                       {"choices", option.choices},
                       {"help", option.help}});
  }
  return {{"id", method.id},
          {"title", method.title},
          {"paper", method.paper},
          {"peft_type", method.peft_type},
          {"preset_of", method.preset_of.empty() ? Json() : Json(method.preset_of)},
          {"settings", method.settings},
          {"parameters", method.parameters},
          {"identity_at_init", method.identity_at_init},
          {"options", options}};
}

std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string options_markdown(const MethodInfo& method) {
  std::string text = "| option | type | default | range | meaning |\n|---|---|---|---|---|\n";
  for (const FieldInfo& option : method.options) {
    const std::string value = text_of(option.default_value);
    text += fmt::format("| `{}` | {} | {} | {} | {} |\n", option.name, option.type,
                        value.empty() ? "" : "`" + cell(value) + "`", cell(option.range), cell(option.help));
  }
  return text;
}

std::string overview(const std::vector<MethodInfo>& methods, bool markdown) {
  if (markdown) {
    std::string text = "| method | title | paper | PEFT type | trained per layer |\n|---|---|---|---|---|\n";
    for (const MethodInfo& m : methods) {
      text += fmt::format("| `{}` | {} | {} | {} | {} |\n", m.id, cell(m.title), cell(m.paper), m.peft_type,
                          m.parameters.empty() ? "" : "`" + cell(m.parameters) + "`");
    }
    return text;
  }
  std::vector<std::vector<std::string>> rows = {{"METHOD", "TITLE", "PAPER", "PEFT TYPE", "TRAINED PER LAYER"}};
  for (const MethodInfo& m : methods) rows.push_back({m.id, m.title, m.paper, m.peft_type, m.parameters});
  return table(rows) + "\n`deltaw methods METHOD` lists the options of one.\n";
}

std::string one(const MethodInfo& method, bool markdown) {
  if (markdown) return options_markdown(method);
  std::string text =
      fmt::format("{} ({}), {}, PEFT type {}\n", method.id, method.title, method.paper, method.peft_type);
  if (!method.parameters.empty()) text += fmt::format("trained parameters per layer: {}\n", method.parameters);
  if (!method.preset_of.empty()) {
    text += fmt::format("short for {} with {}\n", method.preset_of, method.settings.dump());
  } else if (!method.settings.empty()) {
    text += fmt::format("chosen by {} as well\n", method.settings.dump());
  }
  std::vector<std::vector<std::string>> rows = {{"OPTION", "TYPE", "DEFAULT", "RANGE", "MEANING"}};
  for (const FieldInfo& o : method.options) {
    rows.push_back({o.name, o.type, text_of(o.default_value), o.range, o.help});
  }
  return text + "\n" + table(rows);
}

const MethodInfo& find(const std::vector<MethodInfo>& methods, const std::string& name) {
  const auto named = [&methods](const std::string& id) {
    return std::find_if(methods.begin(), methods.end(), [&](const MethodInfo& method) { return method.id == id; });
  };
  const auto exact = named(name);
  return exact != methods.end() ? *exact : *named(chosen_method({{"method", name}}, "command line"));
}

}  // namespace

int methods(const Args& args) {
  const std::vector<Section> sections = {section_of<Keys>("Keys"), section_of<LogKeys>("Log")};
  const Invocation invocation = parse_args(kUsageText, sections, args);
  if (invocation.help) {
    print_help(kUsageText, sections);
    return kDone;
  }
  Keys keys;
  read_into(keys, invocation);
  std::vector<MethodInfo> infos = methods_and_presets();
  if (!invocation.positional.empty()) infos = {find(infos, invocation.positional)};
  if (keys.json) {
    Json list = Json::array();
    for (const MethodInfo& info : infos) list.push_back(to_json(info));
    print(to_text(list));
  } else if (invocation.positional.empty()) {
    print(overview(infos, keys.markdown));
  } else {
    print(one(infos[0], keys.markdown));
  }
  return kDone;
}

}  // namespace deltaw::cli
