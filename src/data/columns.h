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

}  // namespace deltaw::data
