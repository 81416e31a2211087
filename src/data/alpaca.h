// Rows of Stanford Alpaca's kind, with LLaMA-Factory's `system` and `history`.
#pragma once

#include <string>

#include "deltaw/text_data.h"

namespace deltaw::data {

/// What stands in such a row beside its instruction, input and output.
struct AlpacaContext {
  std::string system;                                        // in place of Alpaca's first sentences
  std::vector<std::pair<std::string, std::string>> history;  // earlier instructions and their outputs
};

/// Null and empty ones are absent; a table spells the history as JSON. Throws data.not-text naming `where`.
AlpacaContext alpaca_context(const Json& row, const std::string& where);

/// The text up to the output. Earlier outputs are trained on like the last one, each followed by the end token.
TextExample alpaca_example(const AlpacaContext& context, const std::string& instruction, const std::string& input);

/// The same as messages, the last of them the instruction with the input on the next line, as LLaMA-Factory has it.
Json alpaca_messages(const AlpacaContext& context, const std::string& instruction, const std::string& input);

}  // namespace deltaw::data
