#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "deltaw/data.h"
#include "deltaw/error.h"

namespace deltaw {

const std::vector<Task>& task_table() {
  static const std::vector<Task> table = {
      {.name = "rte",
       .folder = "RTE",
       .text_column = "sentence1",
       .text_pair_column = "sentence2",
       .label_column = "label",
       .columns = {},
       .labels = {"entailment", "not_entailment"},
       .metrics = {"accuracy"}},
      {.name = "mrpc",
       .folder = "MRPC",
       .text_column = "#1 String",
       .text_pair_column = "#2 String",
       .label_column = "Quality",
       .columns = {},
       .labels = {"not_equivalent", "equivalent"},
       .metrics = {"accuracy", "f1"}},
      {.name = "cola",
       .folder = "CoLA",
       .text_column = "sentence",
       .text_pair_column = "",
       .label_column = "label",
       .columns = {"source", "label", "mark", "sentence"},
       .labels = {"unacceptable", "acceptable"},
       .metrics = {"matthews_correlation"}},
      {.name = "sst2",
       .folder = "SST-2",
       .text_column = "sentence",
       .text_pair_column = "",
       .label_column = "label",
       .columns = {},
       .labels = {"negative", "positive"},
       .metrics = {"accuracy"}},
      {.name = "stsb",
       .folder = "STS-B",
       .text_column = "sentence1",
       .text_pair_column = "sentence2",
       .label_column = "score",
       .columns = {},
       .labels = {},
       .metrics = {"pearson", "spearmanr"}},
  };
  return table;
}

const Task& find_task(const std::string& name) {
  std::string plain;
  for (const char c : name) {
    if (c != '-' && c != '_') plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  const auto& table = task_table();
  const auto found = std::find_if(table.begin(), table.end(), [&](const Task& task) { return task.name == plain; });
  if (found != table.end()) return *found;
  std::vector<std::string> known;
  for (const Task& task : table) known.push_back(task.name);
  throw Error{{.id = "config.unknown-task",
               .what = fmt::format("there is no task '{}'", name),
               .where = "task_name",
               .fix = fmt::format("Use one of {}; {} For your own data leave task_name out and set train_file.",
                                  fmt::join(known, ", "), suggest_names(plain, known))}};
}

}  // namespace deltaw
