#include "run_keys.h"

#include <algorithm>

#include "adapt/adapter_folder.h"
#include "core/text_file.h"
#include "deltaw/error.h"
#include "method_infos.h"
#include "output.h"
#include "run/read_settings.h"

namespace deltaw::cli {
namespace {

Section without(Section section, const std::string& key) {
  std::erase_if(section.keys, [&](const FieldInfo& info) { return info.name == key; });
  return section;
}

Section adapter_section(const std::vector<MethodInfo>& methods) {
  std::vector<std::string> ids;
  for (const MethodInfo& method : methods) ids.push_back(method.id);
  Section section = without(section_of<AdapterConfig>("Adapter"), "base_model_name_or_path");
  const FieldInfo method = {.name = "method",
                            .type = "string",
                            .default_value = AdapterConfig().method,
                            .range = one_of(ids).text(),
                            .choices = ids,
                            .help = "How the update is made; a PEFT type does as well."};
  section.keys.insert(section.keys.begin(), method);
  return section;
}

/// Settings that choose a method, such as use_dora.
Section choosing_section(const std::vector<MethodInfo>& methods) {
  Section section = {.title = "", .keys = {}, .listed = false};
  for (const MethodInfo& method : methods) {
    for (const auto& [key, value] : method.settings.items()) {
      section.keys.push_back({.name = key,
                              .type = value.is_boolean() ? "bool" : "string",
                              .default_value = nullptr,
                              .range = "",
                              .choices = {},
                              .help = "Chooses " + method.id});
    }
  }
  return section;
}

/// run.json could not hold it. Only names of files come so far, of those that are there.
void check_names(const Json& flags) {
  for (const auto& [key, value] : flags.items()) {
    if (!value.is_string() || is_utf8(value.get_ref<const std::string&>())) continue;
    throw Error({.id = "usage.encoding",
                 .what = "the name '" + value.get<std::string>() + "' is no UTF-8, and run.json cannot hold it",
                 .where = "command line, --" + key,
                 .fix = "give the file or folder another name"});
  }
}

}  // namespace

std::vector<Section> run_sections(const std::string& method) {
  const std::vector<MethodInfo> methods = method_infos();
  Section model = section_of<BaseKeys>("Model");
  model.append(section_of<ContinueKeys>(""));
  // task_type stands among the adapter's keys: its file says what it is for.
  model.append(without(section_of<ModelOptions>(""), "task_type"));
  std::vector<Section> sections = {std::move(model), without(section_of<DataOptions>("Data"), "test_file")};
  for (Section& section : task_sections(/*trains=*/true)) sections.push_back(std::move(section));
  sections.push_back(adapter_section(methods));
  for (const MethodInfo& info : methods) {
    if (info.id != method) continue;
    const auto check = [method](const Json& values, const std::string& where) {
      find_method(method).normalized(values, where);
    };
    sections.push_back({.title = info.title, .keys = info.options, .listed = true, .checks = {check}});
  }
  sections.push_back(section_of<TrainOptions>("Training"));
  sections.push_back(section_of<OutputKeys>("Output"));
  sections.push_back(section_of<LogKeys>("Log"));
  sections.push_back(choosing_section(methods));
  sections.push_back(section_of<RecordKeys>(""));
  sections.back().listed = false;
  for (const MethodInfo& info : methods) {
    if (info.id != method) sections.push_back({.title = info.title, .keys = info.options, .listed = false});
  }
  return sections;
}

std::vector<std::string> run_keys() {
  std::vector<std::string> keys = run::run_keys();
  keys.push_back("log_level");
  return keys;
}

bool parse_run_keys(const Usage& usage, const Args& args, Section extra, Invocation& invocation, Problems& problems,
                    const std::vector<std::string>& unused) {
  std::vector<std::string> shared = run::keys_of_other_verbs();
  shared.insert(shared.end(), unused.begin(), unused.end());
  const auto sections_with = [&](const std::string& method) {
    std::vector<Section> sections = run_sections(method);
    for (const std::string& key : unused) {
      for (Section& section : sections) section = without(std::move(section), key);
    }
    sections.push_back(extra);
    return sections;
  };
  Invocation peeked;
  std::string method;
  if (problems.gather([&] { peeked = peek_args(usage, sections_with(""), args, shared); }) && !peeked.help) {
    problems.gather([&] { method = run::method_of(peeked); });
  }
  if (peeked.help) {
    print_help(usage, sections_with(chosen_method(peeked.all(), peeked.where())));
    return false;
  }
  invocation = parse_args(usage, sections_with(method), args, shared, problems);
  for (const std::string& key : unused) invocation.file.erase(key);
  return true;
}

RunSettings settings_of(const Usage& usage, const Invocation& invocation, Problems problems) {
  RunSettings settings;
  run::read_adapter(settings, invocation, problems);
  problems.gather([&] { check_names(invocation.flags); });
  problems.settle();
  tell(run::read_rest(settings, invocation));
  require_base(settings.base, settings.from.adapter_name_or_path, usage);
  return settings;
}

bool read_settings(const Usage& usage, const Args& args, Section extra, Invocation& invocation, RunSettings& settings) {
  Problems problems;
  if (!parse_run_keys(usage, args, std::move(extra), invocation, problems)) return false;
  settings = settings_of(usage, invocation, problems);
  return true;
}

void require_base(const BaseKeys& base, const std::string& adapter, const Usage& usage) {
  if (!base.model_name_or_path.empty()) return;
  if (adapter.empty()) refuse_missing(usage, kNeedsModel);
  throw Error({.id = "usage.missing-key",
               .what = "the adapter names no base model (base_model_name_or_path), and none is given",
               .where = open_adapter_folder(adapter).config_file().string(),
               .fix = "add --model_name_or_path MODEL, the model that the adapter was trained on"});
}

void tell(const std::optional<run::Remark>& remark) {
  if (!remark) return;
  if (remark->warns) {
    warning(remark->sentence);
  } else {
    note(remark->sentence + "\n");
  }
}

}  // namespace deltaw::cli
