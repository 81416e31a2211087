// The rows of the sets that are known by name, as evaluation reads them.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "core/ascii.h"
#include "data/row_formats.h"
#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

using Strings = std::vector<std::string>;

bool is_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool is_answer(const TextTask& task, const std::string& answer) {
  switch (task.kind) {
    case AnswerKind::word:
      return task.answers.empty() || std::find(task.answers.begin(), task.answers.end(), answer) != task.answers.end();
    case AnswerKind::letter:
      return answer.size() == 1 && answer[0] >= 'A' && answer[0] <= 'E';
    default:
      return is_number(answer);
  }
}

/// The row's key "answer"; of GSM8K's own files, the number after its mark.
std::string answer_of(const TextTask& task, const Json& row, const std::string& where) {
  std::string answer(trimmed(data::text_of(row, "answer", where)));
  if (row.contains("question")) {
    const size_t mark = answer.rfind("####");
    if (mark != std::string::npos) answer = trimmed(std::string_view(answer).substr(mark + 4));
  }
  if (task.kind == AnswerKind::number) std::erase(answer, ',');
  if (is_answer(task, answer)) return answer;
  throw Error{{.id = "data.answer",
               .what = fmt::format("'{}' is no answer of task {}", data::clipped(answer), task.name),
               .where = where,
               .fix = task.kind == AnswerKind::word ? fmt::format("The answers are {}.", fmt::join(task.answers, ", "))
                      : task.kind == AnswerKind::letter ? "The answers are the letters A to E."
                                                        : "The answers are numbers."}};
}

/// An instruction of LLM-Adapters' commonsense sets, taken apart.
struct Parts {
  std::string question;
  Strings choices;
};

[[noreturn]] void refuse_choices(const std::string& what, const std::string& where) {
  throw Error{{.id = "data.choices",
               .what = what,
               .where = where,
               .fix = "Use the files of LLM-Adapters: a sentence and a colon, the question, then Answer1: ... Answer2: "
                      "..., then Answer format: ..."}};
}

/// "answer1" names the choice that stands after "Answer1:".
std::string heading(std::string answer) {
  answer[0] = static_cast<char>(answer[0] - 'a' + 'A');
  return answer + ":";
}

Parts take_apart(const TextTask& task, const std::string& instruction, const std::string& where) {
  const size_t colon = instruction.find(": ");
  const size_t end = instruction.rfind("Answer format:");
  if (colon == std::string::npos || end == std::string::npos || end < colon) {
    refuse_choices("the instruction has no question between a colon and 'Answer format:'", where);
  }
  const std::string_view body = std::string_view(instruction).substr(colon + 2, end - colon - 2);
  Parts parts;
  size_t begin = 0;
  for (const std::string& answer : task.answers) {
    const size_t found = body.find(heading(answer), begin);
    if (found == std::string::npos) break;
    (parts.choices.empty() ? parts.question : parts.choices.back()) = trimmed(body.substr(begin, found - begin));
    parts.choices.emplace_back();
    begin = found + heading(answer).size();
  }
  (parts.choices.empty() ? parts.question : parts.choices.back()) = trimmed(body.substr(begin));
  return parts;
}

/// The choices fill the blank; what follows it is the same for all.
std::vector<Choice> fill_blank(const Parts& parts, const std::string& where) {
  const size_t blank = parts.question.find('_');
  if (blank == std::string::npos) refuse_choices("the sentence has no blank", where);
  std::vector<Choice> choices;
  for (const std::string& choice : parts.choices) {
    choices.push_back({parts.question.substr(0, blank) + choice,
                       fmt::format(" {}", trimmed(std::string_view(parts.question).substr(blank + 1)))});
  }
  return choices;
}

std::vector<Choice> word_choices(const TextTask& task, Parts parts, const std::string& where) {
  if (task.name == "winogrande") return fill_blank(parts, where);
  std::string context = data::question_prompt(parts.question);
  if (task.name == "boolq") {
    context = data::question_prompt(parts.question + (parts.question.ends_with('?') ? "" : "?"));
    parts.choices = {"yes", "no"};
  } else if (task.name == "social_i_qa") {
    context = "Q: " + parts.question + "\nA:";
  } else if (task.name == "hellaswag" || task.name == "openbookqa") {
    context = parts.question;  // the choices go on with the sentence
  }
  std::vector<Choice> choices;
  for (const std::string& choice : parts.choices) choices.push_back({context, " " + choice});
  return choices;
}

}  // namespace

std::vector<ChoiceExample> load_choices(const TextTask& task, const DataFiles& files, const std::string& encoding) {
  if (task.kind != AnswerKind::word || task.answers.empty()) {
    throw Error{{.id = "config.task-kind",
                 .what = fmt::format("the rows of task {} have no choices", task.name),
                 .where = "task_name",
                 .fix = "Score it by generating answers."}};
  }
  std::vector<ChoiceExample> examples;
  data::each_row(files, encoding, [&](Json& row, int64_t line, const std::string& where) {
    const Parts parts = take_apart(task, data::text_of(row, "instruction", where), where);
    ChoiceExample example{.choices = word_choices(task, parts, where), .line = line};
    const std::string answer = answer_of(task, row, where);
    example.answer = std::find(task.answers.begin(), task.answers.end(), answer) - task.answers.begin();
    if (example.answer >= static_cast<int64_t>(example.choices.size())) {
      refuse_choices(fmt::format("the answer is {} and there are {} choices", answer, example.choices.size()), where);
    }
    examples.push_back(std::move(example));
  });
  return examples;
}

std::vector<AnswerExample> load_answers(const TextTask& task, const DataFiles& files, const std::string& encoding) {
  std::vector<AnswerExample> examples;
  data::each_row(files, encoding, [&](Json& row, int64_t line, const std::string& where) {
    AnswerExample example;
    example.answer = answer_of(task, row, where);
    example.line = line;
    if (row.contains("question")) {
      example.prompt = data::question_prompt(data::text_of(row, "question", where));
    } else {
      const bool input = row.contains("input") && row["input"].is_string();
      example.prompt = alpaca_prompt(data::text_of(row, "instruction", where),
                                     input ? row["input"].get<std::string>() : std::string());
    }
    examples.push_back(std::move(example));
  });
  return examples;
}

}  // namespace deltaw
