#include "tasks/feature_extraction/tuples.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "data/columns.h"
#include "data/find_files.h"
#include "data/glue.h"
#include "data/hold_out.h"
#include "data/labels.h"
#include "data/no_rows.h"
#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw::feature_extraction {
namespace {

using Strings = std::vector<std::string>;

/// The task that the options name, or null. One without scores is refused.
const GlueTask* task_of(const DataOptions& data) {
  const GlueTask* task = data::task_of(data);
  if (!task || (task->labels.empty() && !task->text_pair_column.empty())) return task;
  throw Error({.id = "config.unknown-task",
               .what = fmt::format("the rows of task {} have classes and no scores of likeness", task->name),
               .where = "key \"task_name\"",
               .fix = "stsb has scores; of other files, give train_file with the columns anchor and positive"});
}

Strings with_negatives(const data::Table& table) {
  Strings names = {"anchor", "positive"};
  if (table.has("negative")) names.emplace_back("negative");
  for (int64_t i = 1; table.has(fmt::format("negative_{}", i)); ++i) names.push_back(fmt::format("negative_{}", i));
  return names;
}

Strings usual_texts(const data::Table& table, Wanted wanted) {
  if (table.has("anchor") && table.has("positive")) return with_negatives(table);
  constexpr std::pair<const char*, const char*> kPairs[] = {
      {"sentence1", "sentence2"}, {"sentence_A", "sentence_B"}, {"text1", "text2"}, {"question", "answer"}};
  for (const auto& [first, second] : kPairs) {
    if (table.has(first) && table.has(second)) return {first, second};
  }
  if (wanted == Wanted::texts) {
    for (const char* name : {"sentence", "text"}) {
      if (table.has(name)) return {name};
    }
  }
  throw Error({.id = "config.text-column",
               .what = fmt::format("it is not clear which columns are the texts; the columns are {}",
                                   fmt::join(table.columns, ", ")),
               .where = table.file.string(),
               .fix = "name them anchor and positive or sentence1 and sentence2, or set text_column and "
                      "text_pair_column"});
}

Strings text_columns(const data::Table& table, const DataOptions& data, const GlueTask* task, Wanted wanted) {
  if (!data.text_column.empty()) {
    Strings names = {data.text_column};
    if (!data.text_pair_column.empty()) names.push_back(data.text_pair_column);
    if (names.size() > 1 || wanted == Wanted::texts) return names;
    throw Error({.id = "config.text-column",
                 .what = "text_column names the first text of a row, and nothing the second",
                 .where = "key \"text_pair_column\"",
                 .fix = "name the column of the second text"});
  }
  if (task) return {task->text_column, task->text_pair_column};
  return usual_texts(table, wanted);
}

/// Empty: there is none.
std::string score_column(const data::Table& table, const DataOptions& data, const GlueTask* task, size_t texts) {
  if (!data.label_column.empty()) return data.label_column;
  if (task) return task->label_column;
  if (texts != 2) return {};
  for (const char* name : {"score", "scores", "label", "labels"}) {
    if (table.has(name)) return name;
  }
  return {};
}

double score_of(const data::Table& table, const data::Row& row, size_t column) {
  const data::Cell& cell = data::label_cell(table, row, column);
  if (const auto score = data::is_nested(cell) ? std::nullopt : data::parse_number(cell.text)) return *score;
  throw Error({.id = "data.not-a-number",
               .what = fmt::format("the score '{}' in column '{}' is no number", data::clipped(cell.text),
                                   table.columns[column]),
               .where = table.where(row),
               .fix = "make it a number, or name another label_column"});
}

Tuples tuples_of(const data::Table& table, const DataOptions& data, const GlueTask* task, Wanted wanted) {
  Tuples tuples{.file = table.file, .columns = text_columns(table, data, task, wanted)};
  std::vector<size_t> texts;
  for (const std::string& name : tuples.columns) {
    texts.push_back(table.column(name, texts.empty() ? "text_column" : "text_pair_column"));
  }
  if (wanted == Wanted::tuples) tuples.score_column = score_column(table, data, task, texts.size());
  const size_t score = tuples.scored() ? table.column(tuples.score_column, "label_column") : 0;
  for (const data::Row& row : table.rows) {
    Tuple tuple{.texts = {}, .line = row.line, .id = data::id_of(table, row)};
    for (const size_t column : texts) tuple.texts.push_back(data::text_of(table, row, column));
    if (tuples.scored()) tuple.score = score_of(table, row, score);
    tuples.rows.push_back(std::move(tuple));
  }
  return tuples;
}

}  // namespace

Tuples read_tuples(const DataFiles& files, const DataOptions& data, Wanted wanted) {
  const GlueTask* task = task_of(data);
  return tuples_of(data::read_table(files, task ? task->columns : Strings(), data.encoding), data, task, wanted);
}

Tuples read_split(const DataOptions& data, Split split, uint64_t seed, Wanted wanted) {
  const GlueTask* task = task_of(data);
  const bool held_out = split == Split::validation && data::holds_out(data);
  const Split source = held_out ? Split::train : split;
  const auto files = split_file(data, source);
  if (!files) {
    throw data::no_file(data, data::option_name(source),
                        task ? fmt::format("{}/{} as GLUE ships it", task->folder, data::file_of(*task, source)) : "");
  }
  Tuples tuples = read_tuples(*files, data, wanted);
  data::keep_split(tuples, data, split, seed);
  return tuples;
}

double highest_score(const DataOptions& data, double asked) {
  if (asked > 0) return asked;
  const GlueTask* task = task_of(data);
  return task ? data::files_of(*task).greatest : 1;
}

}  // namespace deltaw::feature_extraction
