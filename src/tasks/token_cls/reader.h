// How files become rows of token classification.
#pragma once

#include <memory>
#include <string>

#include "deltaw/task_reader.h"

namespace deltaw::token_cls {

/// The task with the scheme that entities are counted by; empty: whatever the tags are (entities.h).
std::unique_ptr<Task> make_task(const std::string& scheme);

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::token_cls
