// Where the assistant's turns stand in the text that a chat template makes of a conversation.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "deltaw/text_data.h"

namespace deltaw::data {

struct Conversation {
  const Json& messages;
  const Json& variables;
  const ChatRenderer& render;

  /// The first `count` messages.
  std::string text(size_t count, bool prompt) const;
};

/// The range of bytes in `full`, the whole conversation rendered, of the turn that message `i` is, with its end:
/// what rendering the messages up to `i` adds to the prompt before it. Some templates rewrite a turn when more follow,
/// and some open a thought ("<think>") in the prompt. Then the turn's words are searched for in `full`, with the
/// thought (up to "</think>") or without it. Returns nothing if they are not found.
std::optional<std::pair<size_t, size_t>> find_answer(const Conversation& conversation, size_t i,
                                                     const std::string& full);

}  // namespace deltaw::data
