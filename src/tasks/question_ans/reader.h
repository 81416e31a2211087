// How files become rows of question answering.
#pragma once

#include <memory>
#include <string>

#include "deltaw/task_reader.h"
#include "tasks/question_ans/options.h"

namespace deltaw::question_ans {

std::unique_ptr<Task> make_task(const AnswerOptions& options);
std::unique_ptr<TaskReader> make_reader();

/// The scores, the one that chooses the best checkpoint first.
std::vector<std::string> metric_names(const AnswerOptions& options);
/// Throws config.unknown-metric.
void check_metric(const std::string& name, const AnswerOptions& options);

}  // namespace deltaw::question_ans
