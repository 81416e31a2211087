// Finds the assistant's answers in the text that a chat template makes of a conversation.
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

/// The range of bytes in `full`, the whole conversation rendered, of the answer in message `i` and the end of its turn:
/// what rendering the messages up to `i` adds to the prompt before it. Some templates write an answer differently once
/// more turns follow, or open a thought in the prompt that answers lack. Then the answer is searched for word for word,
/// with its thought (up to "</think>") or without. Returns nothing if it is not found.
std::optional<std::pair<size_t, size_t>> find_answer(const Conversation& conversation, size_t i,
                                                     const std::string& full);

}  // namespace deltaw::data
