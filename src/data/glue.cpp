#include <algorithm>
#include <cctype>

#include "data/no_rows.h"
#include "deltaw/data.h"
#include "deltaw/text_data.h"

namespace deltaw {

const std::vector<GlueTask>& glue_tasks() {
  static const std::vector<GlueTask> table = {
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

const GlueTask& find_glue_task(const std::string& name) {
  std::string plain;
  for (const char c : name) {
    if (c != '-' && c != '_') plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  const auto& table = glue_tasks();
  const auto found = std::find_if(table.begin(), table.end(), [&](const GlueTask& task) { return task.name == plain; });
  if (found != table.end()) return *found;
  std::vector<std::string> known;
  for (const GlueTask& task : table) known.push_back(task.name);
  throw data::unknown_task(name, /*of_classifiers=*/true, find_text_task(name) != nullptr, known);
}

}  // namespace deltaw
