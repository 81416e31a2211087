#include "task_keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <utility>

#include "deltaw/family.h"
#include "overview.h"
#include "run/task_keys.h"

namespace deltaw::cli {
namespace {

Section section_of(const TaskSpec& task, const std::string& title, run::TaskPart part) {
  const auto reader = task.reader();
  return {.title = title,
          .keys = describe_fields(run::fields_of(*reader, part)),
          .listed = true,
          .checks = {[&task, part](const Json& values, const std::string& where) {
            const auto read = task.reader();
            read_fields(run::fields_of(*read, part), values, where);
          }}};
}

std::vector<Section> sections_of(std::string TaskWords::*title, run::TaskPart part) {
  std::vector<Section> sections;
  for (const TaskSpec* task : run::tasks_with_files()) sections.push_back(section_of(*task, task->words.*title, part));
  return sections;
}

}  // namespace

std::vector<Section> task_sections(bool trains) {
  std::vector<Section> sections;
  std::set<std::pair<std::string, std::string>> listed;
  for (const TaskSpec* task : run::tasks_with_files()) {
    Section section = section_of(*task, task->words.keys, &TaskReader::fields);
    if (trains) section.append(section_of(*task, "", &TaskReader::training_fields));
    // What means the same in several tasks is listed once.
    std::erase_if(section.keys, [&](const FieldInfo& key) { return !listed.emplace(key.name, key.help).second; });
    sections.push_back(std::move(section));
  }
  return sections;
}

std::vector<Section> evaluation_sections() {
  return sections_of(&TaskWords::evaluation_keys, &TaskReader::evaluation_fields);
}

std::vector<Section> prediction_sections() {
  return sections_of(&TaskWords::prediction_keys, &TaskReader::prediction_fields);
}

std::string all_words(std::string TaskWords::*words, const std::string& between) {
  std::vector<std::string> all;
  for (const TaskSpec* task : run::tasks_with_files()) {
    if (!(task->words.*words).empty()) all.push_back(task->words.*words);
  }
  return fmt::format("{}", fmt::join(all, between));
}

std::string families_by_task() {
  std::string lines;
  for (const TaskSpec* task : listed_tasks()) {
    std::vector<std::string> names;
    for (const FamilySpec* family : family_table()) {
      if (usual_task_type(*family) == task->id) names.push_back(family->model_type);
    }
    if (!names.empty()) lines += fmt::format("  {:<15}  {}\n", task->words.models, fmt::join(names, ", "));
  }
  return lines;
}

}  // namespace deltaw::cli
