#include "data/columns.h"

#include <fmt/format.h>

#include "deltaw/error.h"

namespace deltaw::data {
namespace {

// Hugging Face's scripts fall back to the first two columns, which are often an id and a text; this does not guess
// among several.
void guess_text_columns(const Table& table, Columns& columns) {
  if (table.has("sentence1")) {
    columns.text = "sentence1";
    if (columns.text_pair.empty() && table.has("sentence2")) columns.text_pair = "sentence2";
    return;
  }
  for (const char* usual : {"sentence", "text"}) {
    if (!table.has(usual)) continue;
    columns.text = usual;
    return;
  }
  std::vector<std::string> others;
  for (const std::string& name : table.columns) {
    if (name != columns.label && name != columns.text_pair && !is_unnamed(name)) others.push_back(name);
  }
  if (others.size() == 1) {
    columns.text = others[0];
    return;
  }
  throw Error{{.id = "config.text-column",
               .what = fmt::format("it is not clear which column is the text; the columns are {}",
                                   fmt::join(table.columns, ", ")),
               .where = table.file.string(),
               .fix = "Set text_column, and text_pair_column where a row holds two texts."}};
}

}  // namespace

const GlueTask* task_of(const DataOptions& options) {
  return options.task_name.empty() ? nullptr : &find_glue_task(options.task_name);
}

Columns choose_columns(const DataOptions& options, const GlueTask* task, const Table& table) {
  Columns columns{options.text_column, options.text_pair_column, options.label_column};
  if (columns.label.empty()) columns.label = task != nullptr ? task->label_column : "label";
  if (!columns.text.empty()) return columns;
  if (task != nullptr) {
    columns.text = task->text_column;
    if (columns.text_pair.empty()) columns.text_pair = task->text_pair_column;
  } else {
    guess_text_columns(table, columns);
  }
  return columns;
}

std::string text_of(const Table& table, const Row& row, size_t column) {
  const Cell& cell = row.cell(column);
  if (cell.kind != Cell::Kind::missing && !is_nested(cell)) return cell.text;
  throw Error{{.id = "data.not-text",
               .what = fmt::format("column '{}' {}", table.columns[column],
                                   is_nested(cell) ? "holds " + cell.text
                                   : is_null(cell) ? "is null"
                                                   : "is missing"),
               .where = table.where(row),
               .fix = "Make it a string."}};
}

Json id_of(const Table& table, const Row& row) {
  if (!table.has(kIdColumn)) return nullptr;
  const Cell& cell = row.cell(table.column(kIdColumn, "id"));
  if (cell.kind == Cell::Kind::missing || is_nested(cell)) return nullptr;
  return cell.kind == Cell::Kind::number ? Json::parse(cell.text) : Json(cell.text);
}

}  // namespace deltaw::data
