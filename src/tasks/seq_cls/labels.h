// What a classifier's labels follow from besides its files: the checkpoint's head, an adapter's.
#pragma once

#include "deltaw/task_reader.h"

namespace deltaw::seq_cls {

/// The labels of the checkpoint's head, for load_training_data.
HeadLabels head_of(const std::filesystem::path& folder, const ModelOptions& options);

/// Takes labels and problem type from the head of the adapter that training goes on from, where they were not asked
/// for. Throws config.conflict where others were.
void inherit_head(TaskFiles& files);

/// Throws config.conflict where that head has not one output for each label of the data.
void check_head_size(const std::filesystem::path& adapter, int64_t outputs);

/// Labels by name for a model that is asked: those that were asked for or trained with, the task's, the checkpoint's
/// own, or those of the training rows.
void choose_labels(TaskFiles& files);

}  // namespace deltaw::seq_cls
