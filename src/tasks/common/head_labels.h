// The labels of a head that is there already: the checkpoint's, an adapter's.
#pragma once

#include <filesystem>
#include <string>

#include "deltaw/task_reader.h"

namespace deltaw::tasks {

/// The labels of the checkpoint's head for a task, for load_training_data and its like.
HeadLabels head_of(const std::filesystem::path& folder, const ModelOptions& options, const std::string& task_type);

/// Whether somebody named them.
bool has_names(const HeadLabels& head);

/// Takes labels and problem type from the head of the adapter that training goes on from, where they were not asked
/// for. Throws config.conflict where others were.
void inherit_head(TaskFiles& files);

/// Throws config.conflict where that head has not one output for each label of the data.
void check_head_size(const std::filesystem::path& adapter, int64_t outputs);

}  // namespace deltaw::tasks
