// Pieces of what people are shown before a run begins.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "deltaw/tokenizer.h"

namespace deltaw::tasks {

/// "12,345"
std::string count_text(const Json& value);

/// The first so many words of a list, and how many there are where that is not all.
std::string first_words(const Json& list, size_t most);

/// `most` bytes at the beginning and the end of a long text, cut between characters, line breaks as \n.
std::string shortened(const std::string& text, size_t most);

/// Characters [begin, end) of a UTF-8 text.
std::string slice(const std::string& text, int64_t begin, int64_t end);

/// The tokens of these ids, as in the vocabulary.
Json token_names(const std::vector<int64_t>& ids, const Tokenizer& tokenizer);

}  // namespace deltaw::tasks
