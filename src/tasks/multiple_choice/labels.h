// From what files call the right choice to its number.
#pragma once

#include <string>
#include <vector>

#include "data/bad_rows.h"
#include "tasks/multiple_choice/questions.h"

namespace deltaw::multiple_choice {

/// Sets `answer` of every question by its label: a name that the file gives the choices, a number from 0, a letter from
/// A, the text of a choice, or a number from 1. All rows spell it in one way, the one that fits the most of them; a row
/// that it does not fit goes to `bad` and leaves the set (data.missing-label, data.unknown-label). `where`: of each
/// question.
void settle_answers(ChoiceSet& set, const std::vector<std::string>& where, data::BadRows& bad);

}  // namespace deltaw::multiple_choice
