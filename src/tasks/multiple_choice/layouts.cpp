#include "tasks/multiple_choice/layouts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "core/json.h"
#include "data/row_formats.h"
#include "deltaw/error.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::multiple_choice {
namespace {

/// A question is one text, or a context and a text that every choice goes on.
struct PromptKeys {
  std::string first, second = {};
};

const std::vector<PromptKeys>& usual_prompts() {
  static const std::vector<PromptKeys> keys = {{"sent1", "sent2"},
                                               {"ctx"},
                                               {"article", "question"},
                                               {"passage", "question"},
                                               {"context", "question"},
                                               {"premise", "question"},
                                               {"context", "query"},
                                               {"question"},
                                               {"question_stem"},
                                               {"query"},
                                               {"prompt"},
                                               {"context"},
                                               {"premise"},
                                               {"goal"},
                                               {"sentence"},
                                               {"text"}};
  return keys;
}

constexpr std::array kListKeys = {"choices", "endings", "options"};
constexpr std::array kColumnNames = {"ending", "choice", "option", "answer", "sol", ""};  // ending0, ending1, ...
constexpr std::array kLabelKeys = {"label", "answerKey", "answer"};

[[noreturn]] void refuse_keys(const Json& row, const char* what, const char* usual, const char* option,
                              const std::string& named, const std::string& where) {
  throw Error(
      {.id = "config.missing-column",
       .what = named.empty()
                   ? fmt::format("the row has no key for {} ({}); its keys are {}", what, usual, data::key_list(row))
                   : fmt::format("the row has no key '{}'; its keys are {}", named, data::key_list(row)),
       .where = where,
       .fix = fmt::format("set {} to a key of the rows", option)});
}

[[noreturn]] void refuse_choices(const std::string& what, const std::string& where) {
  throw Error({.id = "data.choices",
               .what = what,
               .where = where,
               .fix =
                   "give two choices or more: {\"choices\": [\"...\", \"...\"]}, {\"choices\": {\"text\": [\"...\"], "
                   "\"label\": [\"A\"]}}, or a column for each (ending0, ending1)"});
}

/// The raw files of the Allen Institute have the question as an object, with the choices in it.
Json flattened(const Json& row) {
  const auto question = row.find("question");
  if (question == row.end() || !question->is_object() || !question->contains("stem")) return row;
  Json flat = row;
  flat["question"] = question->at("stem");
  if (!flat.contains("choices") && question->contains("choices")) flat["choices"] = question->at("choices");
  return flat;
}

// ---- the question ----

PromptKeys prompt_keys(const Json& row, const DataOptions& data, const std::string& where) {
  const std::string &first = data.text_column, &second = data.text_pair_column;
  if (!first.empty() && !row.contains(first)) refuse_keys(row, "", "", "text_column", first, where);
  if (!second.empty() && !row.contains(second)) refuse_keys(row, "", "", "text_pair_column", second, where);
  if (!first.empty()) return {first, second};
  for (const PromptKeys& keys : usual_prompts()) {
    if (!row.contains(keys.first) || keys.first == second) continue;
    if (keys.second.empty() || row.contains(keys.second)) return {keys.first, second.empty() ? keys.second : second};
  }
  refuse_keys(row, "the question", "question, context, sent1 with sent2 and others", "text_column", "", where);
}

/// The choice in the blank that a question may have ("The cat is _ ."), else behind it.
std::string worded(const std::string& question, const std::string& choice) {
  const size_t begin = question.find('_');
  if (begin == std::string::npos) return question.empty() ? choice : question + " " + choice;
  const size_t end = std::min(question.find_first_not_of('_', begin), question.size());
  return question.substr(0, begin) + choice + question.substr(end);
}

// ---- the choices ----

std::string text_of_choice(const Json& value, const std::string& where) {
  if (value.is_number()) return value.dump();
  if (!value.is_string()) refuse_choices(fmt::format("a choice is of type {} and no text", value.type_name()), where);
  return value.get<std::string>();
}

void add_choice(const Json& text, const Json& name, const std::string& where, ChoiceQuestion& question) {
  question.choices.push_back(text_of_choice(text, where));
  if (name.is_null()) return;
  question.names.push_back(name.is_string() ? name.get<std::string>() : name.dump());
}

void take_list(const Json& value, const std::string& key, const std::string& where, ChoiceQuestion& question) {
  if (value.is_string()) {  // in a file whose cells have no types
    const std::string text = value.get<std::string>();
    if (!text.starts_with('[') && !text.starts_with('{')) {
      refuse_choices(fmt::format("\"{}\" is a text and no list", key), where);
    }
    return take_list(parse_json(text, where + ", " + key), key, where, question);
  }
  if (value.is_array()) {
    for (const Json& choice : value) {
      if (choice.is_object()) {
        add_choice(choice.value("text", Json()), choice.value("label", Json()), where, question);
      } else {
        add_choice(choice, Json(), where, question);
      }
    }
    return;
  }
  if (!value.is_object()) refuse_choices(fmt::format("\"{}\" is {} and no list", key, value.type_name()), where);
  const Json texts = value.value("text", Json()), names = value.value("label", Json());
  if (!texts.is_array()) refuse_choices(fmt::format("\"{}\" has no list \"text\"", key), where);
  if (!names.is_null() && (!names.is_array() || names.size() != texts.size())) {
    refuse_choices(fmt::format("\"{}\" has not as many labels as texts", key), where);
  }
  for (size_t i = 0; i < texts.size(); ++i) add_choice(texts[i], names.is_null() ? Json() : names[i], where, question);
}

bool is_blank(const Json& value) {
  return value.is_null() ||
         (value.is_string() && value.get<std::string>().find_first_not_of(" \t\r\n") == std::string::npos);
}

/// The names of columns with a choice each, from `first` ('0', '1' or 'A') on.
std::vector<std::string> numbered_columns(const Json& row, const std::string& name, char first) {
  constexpr int kMost = 26;
  std::vector<std::string> columns;
  for (int i = 0; i < kMost; ++i) {
    const std::string number =
        first == 'A' ? std::string(1, static_cast<char>('A' + i)) : std::to_string(first - '0' + i);
    if (!row.contains(name + number)) break;
    columns.push_back(name + number);
  }
  return columns;
}

bool take_columns(const Json& row, const std::string& where, ChoiceQuestion& question) {
  for (const char* name : kColumnNames) {
    for (const char first : {'0', '1', 'A'}) {
      if (*name == 0 && first != 'A') continue;
      std::vector<std::string> columns = numbered_columns(row, name, first);
      if (columns.size() < 2) continue;
      while (!columns.empty() && is_blank(row[columns.back()])) columns.pop_back();  // of rows with fewer choices
      for (const std::string& column : columns) {
        add_choice(row[column], column.substr(std::char_traits<char>::length(name)), where, question);
      }
      return true;
    }
  }
  return false;
}

void take_choices(const Json& row, const std::string& named, const std::string& where, ChoiceQuestion& question) {
  if (!named.empty()) {
    if (!row.contains(named)) refuse_keys(row, "", "", "choices_column", named, where);
    return take_list(row[named], named, where, question);
  }
  for (const char* key : kListKeys) {
    if (row.contains(key)) return take_list(row[key], key, where, question);
  }
  if (take_columns(row, where, question)) return;
  refuse_keys(row, "the choices", "choices, endings, options, or ending0, ending1 and so on", "choices_column", "",
              where);
}

void check_choices(const ChoiceQuestion& question, const std::string& where) {
  if (question.choices.size() < 2) {
    refuse_choices(
        fmt::format("the row has {} choice{}", question.choices.size(), question.choices.size() == 1 ? "" : "s"),
        where);
  }
  for (size_t i = 0; i < question.choices.size(); ++i) {
    if (is_blank(question.choices[i])) refuse_choices(fmt::format("choice {} is empty", i + 1), where);
  }
  if (!question.names.empty() && question.names.size() != question.choices.size()) {
    refuse_choices("some choices have a label and others none", where);
  }
}

// ---- the label ----

Json label_of(const Json& row, const std::string& named, const std::string& where) {
  if (!named.empty()) {
    if (!row.contains(named)) refuse_keys(row, "", "", "label_column", named, where);
    return row[named];
  }
  for (const char* key : kLabelKeys) {
    if (row.contains(key)) return row[key];
  }
  refuse_keys(row, "the right choice", "label, answerKey, answer", "label_column", "", where);
}

}  // namespace

ChoiceQuestion question_of(const Json& row, const DataOptions& data, const ChoiceOptions& options, Labels use,
                           const std::string& where) {
  const Json flat = flattened(row);
  const PromptKeys keys = prompt_keys(flat, data, where);
  ChoiceQuestion question;
  if (flat.contains(kIdColumn)) question.id = flat[kIdColumn];
  take_choices(flat, options.choices_column, where, question);
  check_choices(question, where);
  std::string header = keys.second.empty() ? std::string() : data::optional_text(flat, keys.second, where);
  // A question may stand by itself where the file has room for a context.
  const bool alone = !header.empty() && is_blank(flat[keys.first]);
  question.context = text::repaired(alone ? std::exchange(header, {}) : data::text_of(flat, keys.first, where));
  for (const std::string& choice : question.choices) question.texts.push_back(text::repaired(worded(header, choice)));
  if (use == Labels::needed) question.label = label_of(flat, data.label_column, where);
  return question;
}

}  // namespace deltaw::multiple_choice
