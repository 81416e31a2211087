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
};

/// A .jsonl file of objects with "prompt" or "messages", or any other file with a prompt on each line. Throws io.*,
/// format.json and data.* with the line.
std::vector<Asked> read_asked(const std::filesystem::path& file);

/// Standard input to its end, less its last line break.
std::string read_standard_input();

/// Takes every `--key value` and `--key=value` out of `args`: their values, commas and all, in order. Throws
/// usage.arguments for a last one without a value.
std::vector<std::string> take_repeated(Args& args, const std::string& key);

}  // namespace deltaw::cli
