// Conversations with sharegpt's names: {"from": "human", "value": "..."}.
#pragma once

#include <string>

#include "deltaw/text_data.h"

namespace deltaw::data {

/// The message with the names that chat templates know. A "function_call" stays marked by its "from" until
/// settle_calls has seen it. Throws data.messages naming `where`.
Json from_sharegpt(const Json& message, const std::string& where);

/// Makes tool_calls of the assistant's messages that are marked as function calls and hold the JSON of one or several,
/// where the template writes tool_calls; elsewhere the text is what the assistant says.
void settle_calls(Json& messages, const Json& variables, const ChatRenderer& render);

}  // namespace deltaw::data
