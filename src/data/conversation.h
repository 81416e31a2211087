// A conversation of a data file to its text, and which of it the assistant said.
#pragma once

#include <cstddef>
#include <string>

#include "deltaw/text_data.h"

namespace deltaw::data {

/// Messages as chat templates take them, from OpenAI's {"role", "content"} or sharegpt's {"from", "value"}. Throws
/// data.messages naming `where` and the message.
Json to_messages(const Json& list, const std::string& where);

/// `tools` and chat_template_kwargs of a row, as variables of the template. Throws data.messages.
Json template_variables(const Json& row, const std::string& where);

/// Renders the whole conversation and marks what the assistant said from message `first` on, the end of its turns
/// included: the template's {% generation %} blocks, or where it has none, what find_answer finds. An answer that does
/// not stand word for word in the text is not trained on; TextExample::turns_left_out counts those. A message with
/// "weight": 0 or "train": false is not trained on.
///
/// Throws config.no-chat-template without a renderer, data.messages where the assistant says nothing,
/// data.chat-template where no answer is found, and what the renderer throws.
TextExample render_conversation(const Json& messages, size_t first, const Json& variables, const ChatRenderer& render,
                                const std::string& where);

}  // namespace deltaw::data
