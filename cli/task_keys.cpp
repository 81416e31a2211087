#include "task_keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "deltaw/error.h"
#include "deltaw/family.h"
#include "overview.h"

namespace deltaw::cli {
namespace {

using Part = void (TaskReader::*)(FieldVisitor&);

Fields fields_of(TaskReader& reader, Part part) {
  return [&reader, part](FieldVisitor& visitor) { (reader.*part)(visitor); };
}

void read_part(TaskReader& reader, Part part, const Invocation& invocation) {
  read_fields(fields_of(reader, part), invocation.file, invocation.file_name);
  read_fields(fields_of(reader, part), invocation.flags, "command line");
}

Section section_of(const TaskSpec& task, const std::string& title, Part part) {
  const auto reader = task.reader();
  return {.title = title,
          .keys = describe_fields(fields_of(*reader, part)),
          .listed = true,
          .checks = {[&task, part](const Json& values, const std::string& where) {
            const auto read = task.reader();
            read_fields(fields_of(*read, part), values, where);
          }}};
}

std::vector<const TaskSpec*> tasks_with_files() {
  std::vector<const TaskSpec*> tasks = listed_tasks();
  std::erase_if(tasks, [](const TaskSpec* task) { return !task->reader; });
  return tasks;
}

std::vector<Section> sections_of(std::string TaskWords::*title, Part part) {
  std::vector<Section> sections;
  for (const TaskSpec* task : tasks_with_files()) sections.push_back(section_of(*task, task->words.*title, part));
  return sections;
}

}  // namespace

TaskKeys::TaskKeys() {
  for (const TaskSpec* task : tasks_with_files()) readers_[task->id] = task->reader();
}

void TaskKeys::read(const Invocation& invocation) {
  for (const auto& [task, reader] : readers_) read_part(*reader, &TaskReader::fields, invocation);
}

void TaskKeys::read_training(const Invocation& invocation) {
  for (const auto& [task, reader] : readers_) read_part(*reader, &TaskReader::training_fields, invocation);
}

void TaskKeys::read_evaluation(const Invocation& invocation) {
  for (const auto& [task, reader] : readers_) read_part(*reader, &TaskReader::evaluation_fields, invocation);
}

void TaskKeys::read_prediction(const Invocation& invocation) {
  for (const auto& [task, reader] : readers_) read_part(*reader, &TaskReader::prediction_fields, invocation);
}

std::shared_ptr<TaskReader> TaskKeys::reader_of(const TaskSpec& task) const {
  const auto found = readers_.find(task.id);
  if (found != readers_.end()) return found->second;
  throw Error({.id = "config.no-files",
               .what = fmt::format("the task {} ({}) has no files to read: a program of its own gives its rows",
                                   task.id, task.title),
               .where = "key \"task_type\"",
               .fix = "name another task, or run the program that has this one"});
}

std::vector<Json> TaskKeys::settings(const std::string& task) const {
  const auto found = readers_.find(task);
  if (found == readers_.end()) return {};
  return {write_fields(fields_of(*found->second, &TaskReader::fields)),
          write_fields(fields_of(*found->second, &TaskReader::training_fields))};
}

std::vector<std::pair<std::string, std::string>> TaskKeys::named_files() const {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& [task, reader] : readers_) {
    for (auto& file : reader->named_files()) files.push_back(std::move(file));
  }
  return files;
}

void TaskKeys::refuse_others(const TaskSpec& task, const std::filesystem::path& base) const {
  for (const auto& [other, reader] : readers_) {
    if (other != task.id) reader->refuse_keys(task, base);
  }
}

std::vector<Section> task_sections(bool trains) {
  std::vector<Section> sections;
  for (const TaskSpec* task : tasks_with_files()) {
    Section section = section_of(*task, task->words.keys, &TaskReader::fields);
    if (trains) section.append(section_of(*task, "", &TaskReader::training_fields));
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

std::vector<std::string> own_keys(const TaskSpec& task) {
  std::vector<std::string> keys;
  if (!task.reader) return keys;
  for (const Part part : {&TaskReader::fields, &TaskReader::evaluation_fields, &TaskReader::prediction_fields}) {
    for (const FieldInfo& key : section_of(task, "", part).keys) keys.push_back(key.name);
  }
  return keys;
}

std::vector<std::string> kept_task_keys() {
  std::vector<std::string> keys;
  for (const TaskSpec* task : tasks_with_files()) {
    for (std::string& key : task->reader()->kept_keys()) keys.push_back(std::move(key));
  }
  return keys;
}

std::string all_words(std::string TaskWords::*words, const std::string& between) {
  std::vector<std::string> all;
  for (const TaskSpec* task : tasks_with_files()) {
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
