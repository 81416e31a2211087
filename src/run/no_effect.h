// Keys that were given and change nothing in this run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "deltaw/task_reader.h"
#include "deltaw/train.h"

namespace deltaw::run {

/// What decides which keys act.
struct KeyFacts {
  const TaskSpec& task;
  const TaskReader& reader;  // of that task
  const ModelOptions& model;
  const DataOptions& data;
  std::optional<TrainOptions> train = {};  // nothing where nothing is trained
};

/// One sentence that lists these keys with the reasons; nothing where every key of `given` acts. A key counts where its
/// value is not the default, as run.json holds them all; those that are `for_this_run` always do.
std::optional<std::string> keys_without_effect(const Json& given, const std::vector<std::string>& for_this_run,
                                               const KeyFacts& facts);

}  // namespace deltaw::run
