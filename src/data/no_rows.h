// Errors of data that is not named, or named by a task that there is not.
#pragma once

#include <string>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/error.h"

namespace deltaw::data {

/// config.no-data: no file is named by `key` ("train_file"), nor, where there is a task, the folder of its files, which
/// would hold `task_file` ("MRPC/train.tsv").
Error no_file(const DataOptions& options, const std::string& key, const std::string& task_file);

/// The same for texts; `split` is the one that a task would give.
Error no_text_file(const DataOptions& options, const std::string& key, Split split);

/// config.unknown-task: `name` is none of the tasks of such models (`known`); perhaps one of the others.
Error unknown_task(const std::string& name, bool of_classifiers, bool is_other, const std::vector<std::string>& known);

}  // namespace deltaw::data
