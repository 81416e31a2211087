#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/registry.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/task.h"

namespace deltaw {

// Written by the build from the files in tasks/.
const std::vector<const TaskSpec*>& built_in_tasks();

namespace {

Registry<TaskSpec>& registry() {
  static Registry<TaskSpec> tasks(built_in_tasks(), &TaskSpec::id);
  return tasks;
}

}  // namespace

std::vector<const TaskSpec*> task_table() {
  return registry().all();
}

const TaskSpec& find_task(const std::string& id) {
  if (const TaskSpec* spec = registry().find(id)) return *spec;
  std::vector<std::string> known;
  for (const TaskSpec* spec : task_table()) known.push_back(fmt::format("{} ({})", spec->id, spec->title));
  throw Error({.id = "config.unknown-task-type",
               .what = fmt::format("there is no task '{}'", id),
               .where = "key \"task_type\"",
               .fix = fmt::format("one of: {}", fmt::join(known, ", "))});
}

void register_task(const TaskSpec& spec) {
  if (registry().add(spec)) return;
  throw Error({.id = "config.task-exists",
               .what = fmt::format("a task '{}' is registered already", spec.id),
               .where = "register_task",
               .fix = "give the new task another id"});
}

std::vector<const TaskSpec*> listed_tasks() {
  std::vector<const TaskSpec*> tasks = task_table();
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const TaskSpec* a, const TaskSpec* b) { return a->words.models < b->words.models; });
  return tasks;
}

std::string head_type(const std::string& id) {
  const TaskSpec* spec = registry().find(id);
  return spec && !spec->head.empty() ? spec->head : id;
}

std::string usual_task_type(const FamilySpec& family) {
  return family.heads.at(0).task_type;
}

const TaskSpec& task_for(const std::string& model_name_or_path, const std::string& asked) {
  const std::string loaded = task_type_of(model_name_or_path, head_type(asked));
  return find_task(head_type(asked) == asked ? loaded : asked);
}

std::unique_ptr<Task> task_of(const Model& model) {
  return find_task(model.task_type()).make();
}

}  // namespace deltaw
