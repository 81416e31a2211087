#include "tasks/question_ans/questions.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"
#include "core/json_fields.h"
#include "core/text_file.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "data/hold_out.h"
#include "data/json_rows.h"
#include "data/no_rows.h"
#include "data/row_formats.h"
#include "deltaw/error.h"
#include "tasks/common/shown.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::question_ans {
namespace {

namespace fs = std::filesystem;

// ---- one question ----

struct Keys {
  std::string question, context, answers;
};

Keys keys_of(const DataOptions& options) {
  const auto named = [](const std::string& option, const char* usual) { return option.empty() ? usual : option; };
  return {.question = named(options.text_column, "question"),
          .context = named(options.text_pair_column, "context"),
          .answers = named(options.label_column, "answers")};
}

void need_key(const Json& row, const std::string& key, const char* option, const std::string& where) {
  if (row.contains(key)) return;
  throw Error({.id = "config.missing-column",
               .what = fmt::format("the row has no key '{}'; its keys are {}", key, data::key_list(row)),
               .where = where,
               .fix = fmt::format("set {} to a key of the rows", option)});
}

[[noreturn]] void refuse_answers(const std::string& key, const std::string& what, const std::string& where) {
  throw Error({.id = "data.answers",
               .what = fmt::format("\"{}\" {}", key, what),
               .where = where,
               .fix =
                   "write {\"text\": [\"...\"], \"answer_start\": [0]}, or [{\"text\": \"...\", \"answer_start\": 0}]; "
                   "without an answer the lists are empty"});
}

Answer answer_of(const Json& text, const Json& start, const std::string& key, const std::string& where) {
  if (!text.is_string()) refuse_answers(key, "has a text that is none", where);
  if (text.get<std::string>().empty()) refuse_answers(key, "has an empty text", where);
  const std::optional<int64_t> place = json_as<int64_t>(start);
  if (!place || *place < 0) refuse_answers(key, "has an answer_start that is no whole number from 0", where);
  return {.text = text::repaired(text.get<std::string>()), .start = *place};
}

std::vector<Answer> answers_of(const Json& value, const std::string& key, const std::string& where) {
  std::vector<Answer> answers;
  if (value.is_null()) return answers;
  if (value.is_array()) {
    for (const Json& answer : value) {
      if (!answer.is_object()) refuse_answers(key, "is a list of something else than objects", where);
      answers.push_back(answer_of(answer.value("text", Json()), answer.value("answer_start", Json()), key, where));
    }
    return answers;
  }
  if (!value.is_object()) refuse_answers(key, fmt::format("is of type {}", value.type_name()), where);
  const Json texts = value.value("text", Json()), starts = value.value("answer_start", Json());
  if (!texts.is_array() || !starts.is_array()) refuse_answers(key, "lacks a list of text or of answer_start", where);
  if (texts.size() != starts.size()) {
    refuse_answers(key, fmt::format("has {} texts and {} places", texts.size(), starts.size()), where);
  }
  for (size_t i = 0; i < texts.size(); ++i) answers.push_back(answer_of(texts[i], starts[i], key, where));
  return answers;
}

/// Starts are easily counted in bytes, or before the text was cleaned: then the model would learn something else.
void check_place(const Answer& answer, const std::string& context, const std::string& where) {
  const std::string found = tasks::slice(context, answer.start, answer.start + text::count_code_points(answer.text));
  if (found == answer.text) return;
  const size_t at = context.find(answer.text);
  throw Error({.id = "data.answer-place",
               .what = fmt::format("the context has '{}' at character {}, and not the answer '{}'",
                                   data::clipped(found), answer.start, data::clipped(answer.text)),
               .where = where,
               .fix = at == std::string::npos
                          ? std::string("give an answer that the context holds, letter by letter")
                          : fmt::format("answer_start counts characters from 0; the text stands at {}",
                                        text::count_code_points(std::string_view(context).substr(0, at)))});
}

// ---- rows of files ----

class Questions {
 public:
  Questions(const DataOptions& options, Labels use, QuestionSet& into)
      : keys_(keys_of(options)), use_(use), into_(into) {}

  /// A question, or what SQuAD has around it.
  void add(const Json& row, const std::string& where) {
    if (list(row, "data")) return each(row["data"], "article", where);
    if (list(row, "paragraphs")) return each(row["paragraphs"], "paragraph", where);
    if (!row.is_object()) refuse_object(row, where);
    const bool paragraph = list(row, "qas");
    const std::string key = paragraph ? "context" : keys_.context;
    need_key(row, key, "text_pair_column", where);
    const auto context = std::make_shared<const std::string>(text::repaired(data::text_of(row, key, where)));
    if (!paragraph) return add_question(row, keys_, context, where);
    int64_t number = 0;
    for (const Json& question : row["qas"]) {
      const std::string place = fmt::format("{}, question {}", where, ++number);
      if (!question.is_object()) refuse_object(question, place);
      add_question(question, {.question = "question", .context = "", .answers = "answers"}, context, place);
    }
  }

 private:
  static bool list(const Json& row, const char* key) {
    return row.is_object() && row.contains(key) && row[key].is_array();
  }

  [[noreturn]] static void refuse_object(const Json& row, const std::string& where) {
    throw Error(
        {.id = "data.answers",
         .what = fmt::format("expected an object, found {}", row.type_name()),
         .where = where,
         .fix = "write {\"data\": [{\"paragraphs\": [{\"context\": \"...\", \"qas\": [...]}]}]} as SQuAD does"});
  }

  void each(const Json& items, const char* what, const std::string& where) {
    int64_t number = 0;
    for (const Json& item : items) add(item, fmt::format("{}, {} {}", where, what, ++number));
  }

  void add_question(const Json& row, const Keys& keys, const std::shared_ptr<const std::string>& context,
                    const std::string& where) {
    need_key(row, keys.question, "text_column", where);
    Question question{.question = text::repaired(data::text_of(row, keys.question, where)), .context = context};
    if (row.contains(kIdColumn)) question.id = row[kIdColumn];
    if (use_ == Labels::needed && row.value("is_impossible", Json()) != true) {
      need_key(row, keys.answers, "label_column", where);
      question.answers = answers_of(row[keys.answers], keys.answers, where);
      if (!question.answers.empty()) check_place(question.answers.front(), *context, where);
    }
    into_.rows.push_back(std::move(question));
  }

  Keys keys_;
  Labels use_;
  QuestionSet& into_;
};

/// Whether the text is one object over several lines: a line of JSON lines ends its object.
bool is_one_object(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || text[begin] != '{') return false;
  const size_t line = std::min(text.find('\n', begin), text.size());
  return text[text.find_last_not_of(" \t\r\n", line)] != '}';
}

void add_file(const fs::path& file, const DataOptions& options, Questions& questions) {
  const data::TakeRow take = [&](const Json& row, int64_t, const std::string& where) { questions.add(row, where); };
  const data::Format format = data::format_of(file);
  if (data::is_of_columns(format)) {
    data::each_column_row(file, format, take);
    return;
  }
  if (format != data::Format::json) {
    data::refuse_format(file, "Use SQuAD's .json, or .jsonl, .json, .parquet or .arrow with a question a row.");
  }
  const std::string text = read_text(file, options.encoding);
  if (is_one_object(text)) return questions.add(parse_json(text, file.string()), file.string());
  data::each_json_object(file, text, take);
}

}  // namespace

QuestionSet load_questions(const DataFiles& files, const DataOptions& options, Labels use) {
  const std::vector<fs::path> paths = data::find_files(files);
  QuestionSet set{.file = data::name_of(paths)};
  Questions questions(options, use, set);
  for (const fs::path& path : paths) add_file(path, options, questions);
  if (!set.rows.empty()) return set;
  throw Error({.id = "data.empty-file",
               .what = "the file has no questions",
               .where = set.file.string(),
               .fix = "check the path, and that the file was written to its end"});
}

QuestionSet load_question_split(const DataOptions& options, Split split, Labels use, uint64_t seed) {
  if (!options.task_name.empty()) {
    throw Error({.id = "config.unknown-task",
                 .what = fmt::format("no set of questions is known by the name {}", options.task_name),
                 .where = "key 'task_name'",
                 .fix = "leave task_name out and set train_file, or dataset_dir alone"});
  }
  const bool held_out = split == Split::validation && data::holds_out(options);
  const Split source = held_out ? Split::train : split;
  const auto files = split_file(options, source);
  if (!files) throw data::no_file(options, data::option_name(source), "");
  QuestionSet set = load_questions(*files, options, use);
  data::keep_split(set, options, split, seed);
  return set;
}

int64_t unanswerable(const QuestionSet& set) {
  return std::count_if(set.rows.begin(), set.rows.end(), [](const Question& row) { return row.answers.empty(); });
}

}  // namespace deltaw::question_ans
