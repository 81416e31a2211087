#include "setup.h"

#include <algorithm>
#include <set>

#include "continued.h"
#include "core/text_file.h"
#include "deltaw/error.h"
#include "method_infos.h"
#include "serve.h"

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

/// The adapter that training goes on from, or an empty text.
std::string continued_folder(const Invocation& invocation) {
  ContinueKeys keys;
  read_into(keys, invocation);
  return keys.adapter_name_or_path;
}

/// The method that is asked for, or that of the adapter that training goes on from.
std::string method_of(const Invocation& invocation) {
  const std::string folder = continued_folder(invocation);
  if (folder.empty()) return chosen_method(invocation.all(), invocation.where());
  return continued_method(folder, invocation.all(), invocation.where());
}

/// An option of another method would be read by nobody.
void refuse_foreign_options(const Json& values, const std::vector<Section>& sections, const std::string& method,
                            const std::string& where, Problems& problems) {
  std::set<std::string> known;
  for (const Section& section : sections) {
    for (const FieldInfo& key : section.keys) {
      if (section.listed) known.insert(key.name);
    }
  }
  for (const MethodInfo& info : method_infos()) {
    for (const FieldInfo& option : info.options) {
      if (!values.contains(option.name) || !known.insert(option.name).second) continue;
      problems.add(Error({.id = "config.other-method",
                          .what = "'" + option.name + "' is an option of " + info.id + ", and the method is " + method,
                          .where = where,
                          .fix = "remove it or set method to " + info.id + "; `deltaw methods " + method +
                                 "` lists the options of " + method}));
    }
  }
}

/// PEFT reads one text as a regular expression over whole names; a plain word is meant as a suffix.
void plain_word_to_list(Json& names) {
  if (!names.is_string() || names == "all-linear") return;
  const std::string text = names.get<std::string>();
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == ',' || c == ' ';
  });
  if (!plain || text.find(".*") != std::string::npos) return;
  std::vector<std::string> list;
  std::string word;
  for (const char c : text + ",") {
    if (c == ',') {
      if (!word.empty()) list.push_back(word);
      word.clear();
    } else if (c != ' ') {
      word += c;
    }
  }
  names = list;
}

void read_adapter(const Invocation& invocation, const std::string& method, AdapterConfig& adapter) {
  // First the flags alone, so that a wrong one is said to stand on the command line.
  AdapterConfig checked;
  read_fields(fields_of(checked), invocation.flags, "command line");
  find_method(method).normalized(invocation.flags, "command line");
  Json values = invocation.all();
  if (values.value("method", Json()).is_null()) values["method"] = method;
  adapter = adapter_config_from_json(values, invocation.where());
  plain_word_to_list(adapter.target_modules);
  plain_word_to_list(adapter.exclude_modules);
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

void BaseKeys::fields(FieldVisitor& f) {
  f.field("model_name_or_path", model_name_or_path, "A checkpoint folder, or a hub name in the local cache.");
}

void ContinueKeys::fields(FieldVisitor& f) {
  f.field("adapter_name_or_path", adapter_name_or_path,
          "Folder of an adapter that training goes on from: a new run with its own data and schedule. Base, method, "
          "options and labels are the adapter's; what is given beside it must agree, but for dropouts, rates and the "
          "schedule of a rank budget.");
}

void OutputKeys::fields(FieldVisitor& f) {
  f.field("overwrite_output_dir", overwrite_output_dir,
          "Replace the run that output_dir holds; what deltaw did not write stays.");
  f.field("adopt_output_dir", adopt_output_dir, kAdoptHelp);
}

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
  std::vector<std::string> keys = {"test_file"};
  for (const Section& section : run_sections("")) {
    for (const FieldInfo& key : section.keys) keys.push_back(key.name);
  }
  return keys;
}

bool parse_setup(const Usage& usage, const Args& args, Section extra, Invocation& invocation, Problems& problems,
                 const std::vector<std::string>& unused) {
  std::vector<std::string> shared = {"test_file", "with_adapters", "adapter_weights", "input_file", "output_file"};
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
    problems.gather([&] { method = method_of(peeked); });
  }
  if (peeked.help) {
    print_help(usage, sections_with(chosen_method(peeked.all(), peeked.where())));
    return false;
  }
  invocation = parse_args(usage, sections_with(method), args, shared, problems);
  for (const std::string& key : unused) invocation.file.erase(key);
  return true;
}

Setup setup_of(const Usage& usage, const Invocation& invocation, Problems problems) {
  Setup setup;
  std::string method;
  if (problems.gather([&] { method = method_of(invocation); })) {
    refuse_foreign_options(invocation.all(), run_sections(method), method, invocation.where(), problems);
    problems.gather([&] { read_adapter(invocation, method, setup.adapter); });
  }
  problems.gather([&] { check_names(invocation.flags); });
  problems.settle();
  read_into(setup.from, invocation);
  const AdapterKeys adapter{.adapter_name_or_path = setup.from.adapter_name_or_path};
  const Invocation below = inherited(adapter);
  read_into(setup.base, below);
  if (below.file.contains("task_type")) setup.model.task_type = below.file["task_type"];
  read_into(setup.base, invocation);
  read_into(setup.record, invocation);
  read_into(setup.model, invocation);
  inherit_quantisation(setup.model, adapter, invocation);
  read_into(setup.data, invocation);
  setup.tasks.read(invocation);
  setup.tasks.read_training(invocation);
  read_into(setup.train, invocation);
  read_into(setup.output, invocation);
  require_base(setup.base, setup.from.adapter_name_or_path, usage);
  setup.asked = invocation.all();
  plain_word_to_list(setup.asked["target_modules"]);
  plain_word_to_list(setup.asked["exclude_modules"]);
  setup.asked_where = invocation.where();
  setup.length_given = invocation.has("max_length");
  setup.model.seed = static_cast<uint64_t>(setup.train.seed);
  setup.adapter.base_model_name_or_path = setup.base.model_name_or_path;
  return setup;
}

bool read_setup(const Usage& usage, const Args& args, Section extra, Invocation& invocation, Setup& setup) {
  Problems problems;
  if (!parse_setup(usage, args, std::move(extra), invocation, problems)) return false;
  setup = setup_of(usage, invocation, problems);
  return true;
}

std::vector<std::string> adapters_of(const Setup& setup) {
  std::vector<std::string> adapters = {setup.from.adapter_name_or_path};
  for (const Json& entry : setup.adapter.beside) {
    if (!entry.is_object()) continue;
    const Json folder = entry.value("adapter_name_or_path", Json());
    if (folder.is_string()) adapters.push_back(folder);
  }
  return adapters;
}

Inputs inputs_of(const Setup& setup, const Invocation& invocation) {
  return inputs_of(setup.base.model_name_or_path, adapters_of(setup), setup.data, setup.tasks.named_files(),
                   invocation);
}

Json resolved(const Setup& setup) {
  Setup copy = setup;
  copy.train.resume_from_checkpoint.clear();
  Json values = Json::object();
  const auto add = [&](const Json& part) {
    for (const auto& [key, value] : part.items()) {
      const bool empty = value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()) ||
                         (value.is_array() && value.empty());
      if (!empty && key != "base_model_name_or_path") values[key] = value;
    }
  };
  add(write_fields(fields_of(copy.base)));
  add(write_fields(fields_of(copy.record)));
  add(write_fields(fields_of(copy.from)));
  add(write_fields(fields_of(copy.model)));
  add(write_fields(fields_of(copy.data)));
  for (const Json& own : copy.tasks.settings(copy.adapter.task_type)) add(own);
  if (copy.several) {  // whose parts the folder describes
    add({{"task_type", copy.adapter.task_type}});
    add(write_fields(fields_of(copy.train)));
    return values;
  }
  add({{"method", copy.adapter.method}});
  add(write_fields(fields_of(copy.adapter)));
  add(find_method(copy.adapter.method).normalized(copy.adapter.options, "resolved options"));
  add(write_fields(fields_of(copy.train)));
  return values;
}

}  // namespace deltaw::cli
