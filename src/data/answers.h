// Where the assistant's answers stand in the text that a chat template made of a conversation.
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

/// The bytes of `full`, the whole conversation rendered, that the answer in message `i` and the end of its turn take:
/// what a rendering up to and with it adds to the prompt for it. Where the template writes the answer otherwise once
/// more turns follow, or begins a thought in its prompt that answers do not have, it is looked for word for word, what
/// it thought before "</think>" perhaps left out. Nothing where it does not stand there.
std::optional<std::pair<size_t, size_t>> find_answer(const Conversation& conversation, size_t i,
                                                     const std::string& full);

}  // namespace deltaw::data
