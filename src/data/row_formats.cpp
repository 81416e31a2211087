#include "data/row_formats.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/text_file.h"
#include "data/alpaca.h"
#include "data/content_parts.h"
#include "data/conversation.h"
#include "data/find_files.h"
#include "data/sharegpt.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

using Kind = RowFormat::Kind;

bool has(const Json& row, const std::string& key) {
  return row.contains(key) && !row[key].is_null();
}

std::optional<RowFormat> pair_of(const Json& row, const std::string& first, const std::string& second) {
  if (!has(row, first) || !has(row, second)) return std::nullopt;
  const bool chat = row[first].is_array() && row[second].is_array();
  return RowFormat{chat ? Kind::chat_completion : Kind::completion, first, second};
}

std::optional<RowFormat> named_columns(const Json& row, const DataOptions& options) {
  const std::string first = options.text_column.empty() ? "prompt" : options.text_column;
  if (!options.label_column.empty()) return pair_of(row, first, options.label_column);
  if (!has(row, first)) return std::nullopt;
  return RowFormat{row[first].is_array() ? Kind::conversation : Kind::text, first};
}

/// What stands before, and `answer` after it, which ends the text.
TextExample answered(TextExample example, const std::string& answer, bool answers_only) {
  example.end = true;
  example.answers = answers_only;
  if (!answers_only) example.trained.clear();
  const size_t begin = answers_only ? example.text.size() : 0;
  example.text += answer;
  example.trained.emplace_back(begin, example.text.size());
  return example;
}

TextExample answered(std::string before, const std::string& answer, bool answers_only) {
  return answered(TextExample{.text = std::move(before)}, answer, answers_only);
}

bool is_answered(const Json& messages, size_t first) {
  return std::any_of(messages.begin() + static_cast<std::ptrdiff_t>(first), messages.end(),
                     [](const Json& message) { return message["role"] == "assistant"; });
}

TextExample conversation(Json messages, size_t first, const Json& row, const TextOptions& options,
                         const ChatRenderer& render, const std::string& where, Blank blank) {
  const Json variables = template_variables(row, where);
  settle_calls(messages, variables, render);
  settle_parts(messages, variables, render, where);
  TextExample example;
  if (render && blank == Blank::kept && !is_answered(messages, first)) {
    example = {.text = render(messages, false, variables).text, .add_special_tokens = false};
  } else {
    example = render_conversation(messages, first, variables, render, where);
  }
  if (!options.completion_only_loss) {
    example.trained = {{0, example.text.size()}};
    example.turns_left_out = 0;
  }
  return example;
}

// Sharegpt's files may hold the system's words beside the conversation.
Json conversation_of(const Json& row, const std::string& key, const std::string& where) {
  Json messages = to_messages(row[key], where);
  const std::string system = optional_text(row, "system", where);
  if (system.empty() || messages[0]["role"] == "system") return messages;
  messages.insert(messages.begin(), Json{{"role", "system"}, {"content", system}});
  return messages;
}

bool is_pair(Kind kind) {
  return kind == Kind::completion || kind == Kind::instruction || kind == Kind::question;
}

/// The turns of a row that has a prompt and an answer.
Json turns_of(const Json& row, const RowFormat& format, const std::string& where, Blank blank) {
  const bool instructed = format.kind == Kind::instruction;
  const AlpacaContext context = instructed ? alpaca_context(row, where) : AlpacaContext();
  const std::string input = instructed ? optional_text(row, "input", where) : std::string();
  Json messages = alpaca_messages(context, text_of(row, format.first, where, blank), input);
  const std::string answer = text_of(row, format.second, where, blank);
  if (!answer.empty() || blank == Blank::refused) messages.push_back({{"role", "assistant"}, {"content", answer}});
  return messages;
}

[[noreturn]] void refuse_no_rows(const std::filesystem::path& file) {
  throw Error{{.id = "data.empty-file",
               .what = "the file has no rows",
               .where = file.string(),
               .fix = "Check the path, and that the file was written to its end."}};
}

void each_table_row(const std::filesystem::path& file, const std::string& encoding, const TakeRow& take) {
  const Table table = read_table(file, {}, encoding);
  for (const Row& row : table.rows) {
    Json object = Json::object();
    for (size_t column = 0; column < table.columns.size(); ++column) {
      object[table.columns[column]] = row.cell(column).text;
    }
    take(object, row.line, table.where(row));
  }
}

/// Leaves out the fields of lists and structs that are null: in a column all structs have the fields of any of them,
/// and a template would find a "tool_calls" or write an argument that the row never had.
void leave_out_null_fields(Json& value) {
  if (value.is_object()) {
    Json kept = Json::object();
    for (auto& [key, field] : value.items()) {
      if (!field.is_null()) kept[key] = std::move(field);
    }
    value = std::move(kept);
  }
  if (!value.is_structured()) return;
  for (Json& item : value) leave_out_null_fields(item);
}

/// Returns what the rows' numbers count.
std::string each_row_of(const std::filesystem::path& file, const std::string& encoding, const TakeRow& take) {
  const Format format = format_of(file);
  if (is_of_columns(format)) {
    return each_column_row(file, format, [&](Json& row, int64_t number, const std::string& where) {
      for (Json& value : row) leave_out_null_fields(value);
      take(row, number, where);
    });
  }
  if (format == Format::csv || format == Format::tsv) {
    each_table_row(file, encoding, take);
    return "line";
  }
  if (format != Format::json) {
    refuse_format(file, "Use .txt for running text, and .jsonl, .json, .csv, .tsv, .parquet or .arrow for rows.");
  }
  return each_json_object(file, read_text(file, encoding), take);
}

}  // namespace

std::string RowFormat::name() const {
  return second.empty() ? first : first + ", " + second;
}

std::optional<RowFormat> format_of(const Json& row, const DataOptions& options) {
  if (!options.text_column.empty() || !options.label_column.empty()) return named_columns(row, options);
  for (const char* key : {"messages", "conversations"}) {
    if (has(row, key)) return RowFormat{Kind::conversation, key};
  }
  if (const auto pair = pair_of(row, "prompt", "completion")) return pair;
  if (has(row, "instruction") && has(row, "output")) return RowFormat{Kind::instruction, "instruction", "output"};
  if (has(row, "question") && has(row, "answer")) return RowFormat{Kind::question, "question", "answer"};
  if (has(row, "text")) return RowFormat{Kind::text, "text"};
  return std::nullopt;
}

TextExample to_example(const Json& row, const RowFormat& format, const TextOptions& options, const ChatRenderer& render,
                       const std::string& where, Blank blank) {
  const bool answers_only = options.completion_only_loss;
  if (options.as_conversation && is_pair(format.kind)) {
    return conversation(turns_of(row, format, where, blank), 0, row, options, render, where, blank);
  }
  switch (format.kind) {
    case Kind::conversation:
      return conversation(conversation_of(row, format.first, where), 0, row, options, render, where, blank);
    case Kind::chat_completion: {
      Json messages = to_messages(row[format.first], where + ", " + format.first);
      const size_t first = messages.size();
      for (Json& message : to_messages(row[format.second], where + ", " + format.second)) messages.push_back(message);
      return conversation(std::move(messages), first, row, options, render, where, blank);
    }
    case Kind::completion: {
      // An empty prompt is a text that begins with the answer.
      const bool no_prompt = row[format.first] == "";
      return answered(no_prompt ? std::string() : text_of(row, format.first, where, blank),
                      text_of(row, format.second, where, blank), answers_only);
    }
    case Kind::instruction:
      return answered(alpaca_example(alpaca_context(row, where), text_of(row, format.first, where, blank),
                                     optional_text(row, "input", where)),
                      text_of(row, format.second, where, blank), answers_only);
    case Kind::question:
      return answered(question_prompt(text_of(row, format.first, where, blank)),
                      " " + text_of(row, format.second, where, blank), answers_only);
    default:
      return answered(std::string(), text_of(row, format.first, where, blank), false);
  }
}

std::string text_of(const Json& row, const std::string& key, const std::string& where, Blank blank) {
  if (!has(row, key) || !row[key].is_string()) {
    throw Error{{.id = "data.not-text",
                 .what = has(row, key) ? fmt::format("\"{}\" is of type {}", key, row[key].type_name())
                                       : fmt::format("\"{}\" is {}", key, row.contains(key) ? "null" : "missing"),
                 .where = where,
                 .fix = "Make it a string."}};
  }
  auto text = row[key].get<std::string>();
  if (blank == Blank::refused && is_blank(text)) {
    throw Error{{.id = "data.empty-text",
                 .what = fmt::format("\"{}\" is empty", key),
                 .where = where,
                 .fix = "Fill it, or remove the row."}};
  }
  return text;
}

std::string optional_text(const Json& row, const std::string& key, const std::string& where) {
  if (!has(row, key)) return {};
  const bool blank = row[key].is_string() && is_blank(row[key].get<std::string>());
  return blank ? std::string() : text_of(row, key, where);
}

std::string question_prompt(const std::string& question) {
  return "Question: " + question + "\nAnswer:";
}

const std::vector<std::string>& known_keys() {
  static const std::vector<std::string> keys = {"messages", "conversations", "prompt", "completion", "instruction",
                                                "output",   "question",      "answer", "text"};
  return keys;
}

std::string key_list(const Json& row) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) keys.push_back(key);
  return fmt::format("{}", fmt::join(keys, ", "));
}

void each_row(const DataFiles& files, const std::string& encoding, const TakeRow& take, const TookFile& took) {
  const std::vector<std::filesystem::path> paths = find_files(files);
  bool any = false;
  for (const std::filesystem::path& path : paths) {
    bool holds = false;
    const std::string unit = each_row_of(path, encoding, [&](Json& row, int64_t line, const std::string& where) {
      holds = true;
      take(row, line, where);
    });
    any = any || holds;
    if (took) took(path, unit);
    if (!holds && !(paths.size() > 1 && is_of_columns(format_of(path)))) refuse_no_rows(path);
  }
  if (!any) refuse_no_rows(name_of(paths));
}

}  // namespace deltaw::data
