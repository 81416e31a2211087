#include "generate_input.h"

#include <fmt/format.h>

#include <iostream>
#include <iterator>

#include "core/text_file.h"
#include "data/file_formats.h"
#include "data/row_formats.h"
#include "deltaw/error.h"

namespace deltaw::cli {
namespace {

Asked asked_of(const Json& row, const std::string& where) {
  Asked asked{.where = where};
  if (row.contains(kIdColumn)) asked.id = row[kIdColumn];
  const auto prompt = row.find("prompt"), messages = row.find("messages");
  if (messages != row.end() && messages->is_array() && !messages->empty()) {
    asked.messages = *messages;
    return asked;
  }
  const bool talks = messages != row.end() && !messages->is_null();
  if (!talks && prompt != row.end() && prompt->is_string()) {
    asked.text = prompt->get<std::string>();
    return asked;
  }
  throw Error({.id = "data.no-prompt",
               .what = "the row has neither a text \"prompt\" nor a list \"messages\"",
               .where = where,
               .fix = R"(write {"prompt": "Once upon"} or {"messages": [{"role": "user", "content": "Hello"}]})"});
}

}  // namespace

std::vector<Asked> read_asked(const std::filesystem::path& file, const std::string& encoding) {
  std::vector<Asked> all;
  if (data::holds_rows(file)) {
    data::each_row(file, encoding,
                   [&](const Json& row, int64_t, const std::string& where) { all.push_back(asked_of(row, where)); });
    return all;
  }
  each_line(read_text(file, encoding), [&](std::string_view line, int64_t number) {
    all.push_back(
        {.text = std::string(line), .messages = nullptr, .where = fmt::format("{}, line {}", file.string(), number)});
  });
  return all;
}

std::string read_standard_input(const std::string& encoding) {
  std::string text =
      to_utf8({std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()}, encoding, "standard input");
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
