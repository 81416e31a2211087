#include "generate_input.h"

#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "core/json.h"
#include "deltaw/error.h"

namespace deltaw::cli {
namespace {

Asked asked_of(const std::string& line, const std::string& where) {
  const Json row = parse_json(line, where);
  Asked asked{.where = where};
  if (row.is_object()) {
    const auto prompt = row.find("prompt"), messages = row.find("messages");
    if (messages != row.end() && messages->is_array() && !messages->empty()) {
      asked.messages = *messages;
      return asked;
    }
    if (messages == row.end() && prompt != row.end() && prompt->is_string()) {
      asked.text = prompt->get<std::string>();
      return asked;
    }
  }
  throw Error({.id = "data.no-prompt",
               .what = "the row has neither a text \"prompt\" nor a list \"messages\"",
               .where = where,
               .fix = R"(write {"prompt": "Once upon"} or {"messages": [{"role": "user", "content": "Hello"}]})"});
}

}  // namespace

std::vector<Asked> read_asked(const std::filesystem::path& file) {
  std::ifstream input(file, std::ios::binary);
  if (!input || std::filesystem::is_directory(file)) {
    throw Error({.id = "io.not-found",
                 .what = "the file cannot be opened",
                 .where = fmt::format("{}, key 'input_file'", file.string()),
                 .fix = "check the path"});
  }
  const bool rows = file.extension() == ".jsonl";
  std::vector<Asked> all;
  int64_t number = 0;
  for (std::string line; std::getline(input, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const std::string where = fmt::format("{}, line {}", file.string(), ++number);
    if (!rows) {
      all.push_back({.text = line, .messages = nullptr, .where = where});
    } else if (line.find_first_not_of(" \t") != std::string::npos) {
      all.push_back(asked_of(line, where));
    }
  }
  return all;
}

std::string read_standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::vector<std::string> take_repeated(Args& args, const std::string& key) {
  std::vector<std::string> values;
  Args rest;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i].starts_with("--" + key + "=")) {
      values.push_back(args[i].substr(key.size() + 3));
    } else if (args[i] != "--" + key) {
      rest.push_back(args[i]);
    } else if (++i < args.size()) {
      values.push_back(args[i]);
    } else {
      throw Error({.id = "usage.arguments",
                   .what = fmt::format("--{} has no value", key),
                   .where = "command line",
                   .fix = fmt::format("write a text behind it: --{} \"...\"", key)});
    }
  }
  args = std::move(rest);
  return values;
}

}  // namespace deltaw::cli
