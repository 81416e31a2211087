// Which columns of a table hold what.
#pragma once

#include <string>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

struct Columns {
  std::string text;
  std::string text_pair;  // empty: one text a row
  std::string label;
};

/// The task that the options name, or nullptr.
const GlueTask* task_of(const DataOptions& options);

/// By the options, else by the task, else by usual names. Throws config.text-column when nothing fits.
Columns choose_columns(const DataOptions& options, const GlueTask* task, const Table& table);

/// The cell as text. Throws data.not-text where it is missing or holds a list or an object.
std::string text_of(const Table& table, const Row& row, size_t column);

/// What the file calls the row, where it has the column kIdColumn; else null.
Json id_of(const Table& table, const Row& row);

}  // namespace deltaw::data
