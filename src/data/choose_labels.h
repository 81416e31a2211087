// Which classes a run has, and in which order.
#pragma once

#include <string>
#include <vector>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

/// The labels of one table by the rules of load_training_data.
struct ChosenLabels {
  LabelSet labels;
  bool new_head = false;
  std::vector<std::string> warnings = {};
};
ChosenLabels choose_labels(const DataOptions& options, const GlueTask* task, const Table& table, size_t column,
                           const HeadLabels& head);

}  // namespace deltaw::data
