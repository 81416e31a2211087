// One row of a data file to its text, by what its keys say it is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/json_rows.h"
#include "deltaw/text_data.h"

namespace deltaw::data {

/// What a kind of row is made of. The first key is what the model reads, the second what it learns to say.
struct RowFormat {
  enum class Kind { conversation, completion, chat_completion, instruction, question, text };
  Kind kind = Kind::text;
  std::string first;
  std::string second = {};

  bool operator==(const RowFormat&) const = default;
  std::string name() const;  // "prompt, completion"
};

/// The format of a row, where its keys are those of one; null counts as absent. The options may name others.
std::optional<RowFormat> format_of(const Json& row, const DataOptions& options);

/// Throws data.not-text, data.empty-text, data.messages and what rendering a conversation throws, naming `where`.
TextExample to_example(const Json& row, const RowFormat& format, const TextOptions& options, const ChatRenderer& render,
                       const std::string& where, Blank blank = Blank::refused);

/// The text of a key. Throws data.not-text, and data.empty-text where it is blank and that is refused.
std::string text_of(const Json& row, const std::string& key, const std::string& where, Blank blank = Blank::refused);

/// The same where the key may be missing, null or blank, which is then empty. Throws data.not-text.
std::string optional_text(const Json& row, const std::string& key, const std::string& where);

/// "Question: ...\nAnswer:"
std::string question_prompt(const std::string& question);

/// The keys that some format has.
const std::vector<std::string>& known_keys();

/// "a, b, c"
std::string key_list(const Json& row);

/// Takes a file whose rows were taken, and what their numbers count.
using TookFile = std::function<void(const std::filesystem::path& file, const std::string& unit)>;

/// Calls `take` with every row of files of rows; those of text have that encoding. Throws config.file-format,
/// config.no-files, data.empty-file, io.not-found, and what reading the format throws.
void each_row(const DataFiles& files, const std::string& encoding, const TakeRow& take, const TookFile& took = {});

}  // namespace deltaw::data
