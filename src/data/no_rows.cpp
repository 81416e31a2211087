#include "data/no_rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/suggest.h"
#include "deltaw/text_data.h"

namespace deltaw::data {

Error no_file(const DataOptions& options, const std::string& key, const std::string& task_file) {
  if (options.task_name.empty()) {
    return Error({.id = "config.no-data",
                  .what = fmt::format("no file is named: {} is not given", key),
                  .where = fmt::format("key '{}'", key),
                  .fix = fmt::format("Set {}, or task_name and dataset_dir.", key)});
  }
  if (task_file.empty()) {
    return Error({.id = "config.no-data",
                  .what = fmt::format("task {} has no such rows, and {} is not given", options.task_name, key),
                  .where = fmt::format("key '{}'", key),
                  .fix = fmt::format("Set {}.", key)});
  }
  return Error({.id = "config.no-data",
                .what = fmt::format("task_name is {}, and dataset_dir, the folder of its files, is not given",
                                    options.task_name),
                .where = "key 'dataset_dir'",
                .fix = fmt::format("Set dataset_dir to the folder that holds {}, or set {}.", task_file, key)});
}

Error no_text_file(const DataOptions& options, const std::string& key, Split split) {
  const TextTask* task = find_text_task(options.task_name);
  if (task == nullptr) return no_file(options, key, "");
  const std::vector<std::string>& names = split == Split::train ? task->train : task->test;
  return no_file(options, key, names.empty() ? "" : task->folder + "/" + names.front());
}

Error unknown_task(const std::string& name, bool of_classifiers, bool is_other, const std::vector<std::string>& known) {
  const char* kinds[] = {"causal language model", "classifier"};
  const std::string tasks = fmt::format(
      "The tasks are {}, each with dataset_dir, the folder of its files. For your own data leave task_name "
      "out and set train_file.",
      fmt::join(known, ", "));
  const bool is_near = !is_other && !nearest_names(name, known).empty();
  return Error({.id = "config.unknown-task",
                .what = is_other ? fmt::format("task {} is for {}s, and this model is a {}", name,
                                               kinds[!of_classifiers], kinds[of_classifiers])
                                 : fmt::format("there is no task '{}' for {}s", name, kinds[of_classifiers]),
                .where = "key 'task_name'",
                .fix = is_near ? suggest_names(name, known, tasks) : tasks});
}

}  // namespace deltaw::data
