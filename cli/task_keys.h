// The keys of tasks as help shows them, and its words.
#pragma once

#include <string>
#include <vector>

#include "deltaw/task_reader.h"
#include "options.h"

namespace deltaw::cli {

/// The keys of all tasks, a section for each: of verbs that read rows, with those of training where `trains`; of
/// `eval`; of `predict`.
std::vector<Section> task_sections(bool trains);
std::vector<Section> evaluation_sections();
std::vector<Section> prediction_sections();

/// What help says of the tasks, one after another.
std::string all_words(std::string TaskWords::*words, const std::string& between);

}  // namespace deltaw::cli
