// How the answer is found in what a model says.
#pragma once

#include <string>
#include <string_view>

#include "deltaw/text_data.h"

namespace deltaw::eval {

/// LLM-Adapters' rules: the first of the task's words (of those of all tasks where it lists none), the first capital
/// from A to E, or the last number once commas are gone. Empty where there is none.
std::string find_answer(const TextTask& task, std::string_view text);

/// Equal, or numbers within 0.001.
bool is_right(const TextTask& task, const std::string& found, const std::string& answer);

/// lm-evaluation-harness' two filters for GSM8K: the number after the first "####" that has one, and the last thing
/// that looks like a number. Empty where there is none.
std::string strict_number(std::string_view text);
std::string flexible_number(std::string_view text);

/// Its comparison: as text, without commas, dollar signs and one full stop at the end.
bool same_number(std::string_view found, std::string_view answer);

}  // namespace deltaw::eval
