// Labels by name for a model that is asked.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "deltaw/task_reader.h"

namespace deltaw::tasks {

/// The rows that training would read, for a head with these labels; nothing where no file of them is named.
using RowsOfTraining = std::function<std::optional<TrainingData>(const HeadLabels& head)>;

/// Settles in `files.model` the labels that were asked for or trained with, the task's, the checkpoint's own, or those
/// of the training rows.
void choose_labels(TaskFiles& files, const std::string& task_type, const RowsOfTraining& rows_of_training);

}  // namespace deltaw::tasks
