// What a classifier's labels follow from besides its files: the checkpoint's head, an adapter's.
#pragma once

#include "deltaw/task_reader.h"

namespace deltaw::seq_cls {

/// Labels by name for a model that is asked: those that were asked for or trained with, the task's, the checkpoint's
/// own, or those of the training rows.
void choose_labels(TaskFiles& files);

}  // namespace deltaw::seq_cls
