#include <algorithm>
#include <cctype>
#include <set>

#include "adapt/chosen_method.h"
#include "adapt/training_keys.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/method.h"
#include "deltaw/run.h"
#include "run/claim.h"
#include "run/continued.h"
#include "run/read_settings.h"
#include "run/task_keys.h"

namespace deltaw {
namespace {

/// The groups of keys, but for those of tasks and methods, in two parts: what is trained on which rows, and how.
std::vector<Fields> first_groups(RunSettings& settings) {
  return {fields_of(settings.base), fields_of(settings.from), fields_of(settings.model), fields_of(settings.data)};
}

std::vector<Fields> last_groups(RunSettings& settings) {
  return {fields_of(settings.adapter), fields_of(settings.train), fields_of(settings.output),
          fields_of(settings.record)};
}

/// The keys of all groups and tasks, as help lists them.
std::vector<std::string> common_keys() {
  std::vector<std::string> keys;
  const auto add = [&](const std::vector<FieldInfo>& fields) {
    for (const FieldInfo& field : fields) keys.push_back(field.name);
  };
  RunSettings settings;
  for (const Fields& group : first_groups(settings)) add(describe_fields(group));
  for (const run::TaskPart part : {&TaskReader::fields, &TaskReader::training_fields}) add(run::task_fields(part));
  keys.push_back("method");
  for (const Fields& group : last_groups(settings)) add(describe_fields(group));
  return keys;
}

/// An option of another method would be read by nobody.
void refuse_foreign_options(const GivenKeys& given, const std::string& method, Problems& problems) {
  const std::vector<std::string> common = common_keys();
  std::set<std::string> known(common.begin(), common.end());
  for (const FieldInfo& option : find_method(method).options()) known.insert(option.name);
  const Json values = given.all();
  for (const MethodSpec* spec : method_table()) {
    for (const FieldInfo& option : spec->options()) {
      if (!values.contains(option.name) || !known.insert(option.name).second) continue;
      problems.add(Error({.id = "config.other-method",
                          .what = "'" + option.name + "' is an option of " + spec->id + ", and the method is " + method,
                          .where = given.where(),
                          .fix = "remove it or set method to " + spec->id + "; `deltaw methods " + method +
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

AdapterConfig adapter_of(const GivenKeys& given, const std::string& method) {
  // First the flags alone, so that a wrong one is said to stand among them.
  AdapterConfig checked;
  read_fields(fields_of(checked), given.flags, given.flags_name);
  find_method(method).normalized(given.flags, given.flags_name);
  Json values = given.all();
  if (values.value("method", Json()).is_null()) values["method"] = method;
  AdapterConfig adapter = adapter_config_from_json(values, given.where());
  plain_word_to_list(adapter.target_modules);
  plain_word_to_list(adapter.exclude_modules);
  return adapter;
}

/// Names that no key has, and values that their keys do not take.
void check_keys(const Json& values, const std::string& where, Problems& problems) {
  std::vector<std::string> keys = run::run_keys(), allowed = run::keys_of_other_verbs();
  allowed.insert(allowed.end(), keys.begin(), keys.end());
  RunSettings scratch;
  for (const auto& [key, value] : values.items()) {
    const Json alone = {{key, value}};
    problems.gather([&, &name = key] {
      if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
        refuse_training_key(name, where);
        refuse_unknown_keys(alone, keys, where);
      }
      for (const Fields& group : first_groups(scratch)) read_fields(group, alone, where);
      for (const Fields& group : last_groups(scratch)) read_fields(group, alone, where);
      for (const run::TaskPart part : {&TaskReader::fields, &TaskReader::training_fields}) {
        scratch.tasks->read({.file = alone, .file_name = where}, part);
      }
    });
  }
}

RunSettings settings_of(const Json& values, const std::string& where, const std::string& file) {
  if (!values.is_object()) {
    throw Error({.id = "config.wrong-type",
                 .what = "the keys of a run are one object, and this is " + values.dump().substr(0, 60),
                 .where = where,
                 .fix = "give keys with their values: {\"model_name_or_path\": ..., \"train_file\": ...}"});
  }
  const GivenKeys given{.file = values, .file_name = where};
  RunSettings settings;
  Problems problems;
  check_keys(values, where, problems);
  run::read_adapter(settings, given, problems);
  problems.settle();
  if (auto remark = run::read_rest(settings, given); remark && remark->warns) {
    settings.warnings.push_back(std::move(remark->sentence));
  }
  settings.asked.file = file;
  return settings;
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
  f.field("adopt_output_dir", adopt_output_dir, run::kAdoptHelp);
}

void RecordKeys::fields(FieldVisitor& f) {
  f.field("base_hash", base_hash, "What the weights of the base were when run.json was written; others are warned of.");
}

RunSettings::RunSettings() : tasks(std::make_shared<run::TaskKeys>()) {}

RunSettings RunSettings::from_json(const Json& values, const std::string& where) {
  return settings_of(values, where, "");
}

RunSettings RunSettings::from_file(const std::filesystem::path& file) {
  return settings_of(read_config_file(file), file.string(), file.string());
}

std::vector<std::string> RunSettings::adapters() const {
  std::vector<std::string> adapters = {from.adapter_name_or_path};
  for (const Json& entry : adapter.beside) {
    if (!entry.is_object()) continue;
    const Json folder = entry.value("adapter_name_or_path", Json());
    if (folder.is_string()) adapters.push_back(folder);
  }
  return adapters;
}

Json RunSettings::to_json() const {
  RunSettings copy = *this;
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
  for (const Json& own : copy.tasks->settings(copy.adapter.task_type)) add(own);
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

namespace run {

std::string method_of(const GivenKeys& given) {
  ContinueKeys from;
  read_into(from, given);
  if (from.adapter_name_or_path.empty()) return chosen_method(given.all(), given.where());
  return continued_method(from.adapter_name_or_path, given.all(), given.where());
}

void read_adapter(RunSettings& settings, const GivenKeys& given, Problems& problems) {
  std::string method;
  if (!problems.gather([&] { method = method_of(given); })) return;
  refuse_foreign_options(given, method, problems);
  problems.gather([&] { settings.adapter = adapter_of(given, method); });
}

std::optional<Remark> read_rest(RunSettings& settings, const GivenKeys& given) {
  read_into(settings.from, given);
  const std::string& adapter = settings.from.adapter_name_or_path;
  const GivenKeys below = inherited(adapter);
  read_into(settings.base, below);
  if (below.file.contains("task_type")) settings.model.task_type = below.file["task_type"];
  read_into(settings.base, given);
  read_into(settings.record, given);
  read_into(settings.model, given);
  forget_task_of_texts(settings.model, settings.base.model_name_or_path, given);
  auto remark = inherit_quantisation(settings.model, adapter, given);
  read_into(settings.data, given);
  settings.tasks->read(given);
  settings.tasks->read(given, &TaskReader::training_fields);
  read_into(settings.train, given);
  read_into(settings.output, given);
  settings.asked = {.keys = given.all(), .where = given.where(), .file = given.file_name};
  plain_word_to_list(settings.asked.keys["target_modules"]);
  plain_word_to_list(settings.asked.keys["exclude_modules"]);
  for (const auto& [key, value] : given.flags.items()) settings.asked.for_this_run.push_back(key);
  settings.model.seed = static_cast<uint64_t>(settings.train.seed);
  settings.adapter.base_model_name_or_path = settings.base.model_name_or_path;
  return remark;
}

std::vector<std::string> run_keys() {
  std::vector<std::string> keys = common_keys();
  for (const MethodSpec* spec : method_table()) {
    for (const auto& [key, value] : spec->peft_settings.items()) keys.push_back(key);
    for (const FieldInfo& option : spec->options()) keys.push_back(option.name);
  }
  return keys;
}

std::vector<std::string> keys_of_other_verbs() {
  return {"test_file", "with_adapters", "adapter_weights", "input_file", "output_file", "log_level"};
}

}  // namespace run
}  // namespace deltaw
