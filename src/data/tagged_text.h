// Files with a word a line and its tag in another column, as those of the CoNLL tasks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw::data {

/// Which columns are read: a number from 1, or a name that the first line of the file holds. No text column is the
/// first one, no tag column the last.
struct TaggedColumns {
  std::string text;
  std::string tag;
  bool tags = true;  // false: nobody looks for them, and no line need have one
};

/// A sentence: words and tags of equal number, or no tags.
struct TaggedSentence {
  std::vector<std::string> words;
  std::vector<std::string> tags;
  int64_t line = 0;  // of its first word; the others follow line by line
};

/// Calls `take` with every sentence of `text`. Lines are split at tabs where the first one has some, else at blanks; a
/// line of blanks ends a sentence, and so does one of -DOCSTART-. Comments before a sentence ("# text = ...") are
/// passed over. Throws data.field-count for a line with another number of fields than the first, and
/// config.missing-column.
void each_tagged_sentence(const std::filesystem::path& file, std::string_view text, const TaggedColumns& columns,
                          const std::function<void(TaggedSentence&&)>& take);

/// Whether every line that is not blank has several fields and the last of them is one of `tags`: what a text of plain
/// lines does not look like.
bool looks_tagged(std::string_view text, const std::vector<std::string>& tags);

}  // namespace deltaw::data
