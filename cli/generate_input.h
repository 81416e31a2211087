// What `generate` is asked to go on from.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "verbs.h"

namespace deltaw::cli {

/// A text as it is, or a conversation for the chat template.
struct Asked {
  std::string text;
  Json messages;  // null: the text is meant
  std::string where;
  Json id = nullptr;
};

/// Rows with "prompt" or "messages" of a .jsonl, .json, .csv or .tsv file, or any other file with a prompt on each
/// line. Throws io.*, format.* and data.* with the line.
std::vector<Asked> read_asked(const std::filesystem::path& file, const std::string& encoding);

/// Standard input to its end, less its last line break.
std::string read_standard_input(const std::string& encoding);

/// Takes every `--key value` and `--key=value` out of `args`: their values, commas and all, in order. Throws
/// usage.arguments for a last one without a value.
std::vector<std::string> take_repeated(Args& args, const std::string& key);

}  // namespace deltaw::cli
