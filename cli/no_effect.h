// Keys that were given and change nothing in this run.
#pragma once

#include <optional>
#include <string>

#include "deltaw/task_reader.h"
#include "deltaw/train.h"
#include "options.h"

namespace deltaw::cli {

/// What decides which keys act.
struct KeyFacts {
  const TaskSpec& task;
  const TaskReader& reader;  // of that task
  const ModelOptions& model;
  const DataOptions& data;
  std::optional<TrainOptions> train = {};  // nothing where nothing is trained
};

/// One sentence that lists these keys with the reasons; nothing where every given key acts. A key of a file counts
/// where its value is not the default, as run.json holds them all.
std::optional<std::string> keys_without_effect(const Invocation& invocation, const KeyFacts& facts);

}  // namespace deltaw::cli
