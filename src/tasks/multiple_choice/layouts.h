// What a row's keys say of a question and its choices.
#pragma once

#include <string>

#include "tasks/multiple_choice/questions.h"

namespace deltaw::multiple_choice {

/// The question of a row without its answer; `label` is what the file has, null where that is not needed. Throws
/// config.missing-column where the row lacks the keys, data.not-text, data.empty-text and data.choices.
ChoiceQuestion question_of(const Json& row, const DataOptions& data, const ChoiceOptions& options, Labels use,
                           const std::string& where);

}  // namespace deltaw::multiple_choice
