#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "data/find_files.h"
#include "data/glue.h"
#include "data/no_rows.h"
#include "deltaw/error.h"
#include "deltaw/text_data.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

TextTask word_task(const char* name, const char* folder, Strings answers) {
  return {.name = name,
          .folder = folder,
          .train = {"train.json"},
          .test = {"test.json"},
          .kind = AnswerKind::word,
          .answers = std::move(answers)};
}

TextTask number_task(const char* name, const char* folder) {
  return {.name = name,
          .folder = folder,
          .train = {"train.jsonl", "train.json"},
          .test = {"test.jsonl", "test.json"},
          .kind = AnswerKind::number,
          .answers = {}};
}

TextTask training_set(const char* name, AnswerKind kind) {
  return {.name = name,
          .folder = "ft-training_set",
          .train = {std::string(name) + ".json"},
          .test = {},
          .kind = kind,
          .answers = {}};
}

Strings numbered(const char* word, int count) {
  Strings names;
  for (int i = 1; i <= count; ++i) names.push_back(word + std::to_string(i));
  return names;
}

const TextTask& task_of(const DataOptions& options) {
  if (const TextTask* task = find_text_task(options.task_name)) return *task;
  Strings known;
  for (const TextTask& task : text_task_table()) known.push_back(task.name);
  const auto& others = glue_tasks();
  const bool is_other = std::any_of(others.begin(), others.end(), [&](const GlueTask& task) {
    return task.name == data::bare_name(options.task_name);
  });
  throw data::unknown_task(options.task_name, /*of_classifiers=*/false, is_other, known);
}

}  // namespace

const std::vector<TextTask>& text_task_table() {
  static const std::vector<TextTask> table = {
      word_task("boolq", "boolq", {"true", "false"}),
      word_task("piqa", "piqa", numbered("solution", 2)),
      word_task("social_i_qa", "social_i_qa", numbered("answer", 3)),
      word_task("hellaswag", "hellaswag", numbered("ending", 4)),
      word_task("winogrande", "winogrande", numbered("option", 2)),
      word_task("arc_easy", "ARC-Easy", numbered("answer", 5)),
      word_task("arc_challenge", "ARC-Challenge", numbered("answer", 5)),
      word_task("openbookqa", "openbookqa", numbered("answer", 4)),
      number_task("gsm8k", "gsm8k"),
      number_task("addsub", "AddSub"),
      number_task("multiarith", "MultiArith"),
      number_task("singleeq", "SingleEq"),
      number_task("svamp", "SVAMP"),
      number_task("mawps", "mawps"),
      {.name = "aqua",
       .folder = "AQuA",
       .train = {"train.json"},
       .test = {"test.json"},
       .kind = AnswerKind::letter,
       .answers = {}},
      training_set("commonsense_15k", AnswerKind::word),
      training_set("commonsense_170k", AnswerKind::word),
      training_set("math_10k", AnswerKind::number),
      training_set("math_data", AnswerKind::number),
  };
  return table;
}

const TextTask* find_text_task(const std::string& name) {
  const auto& table = text_task_table();
  const auto found = std::find_if(table.begin(), table.end(), [&](const TextTask& task) {
    return data::bare_name(task.name) == data::bare_name(name);
  });
  return found == table.end() ? nullptr : &*found;
}

std::optional<DataFiles> text_split_file(const DataOptions& options, Split split) {
  const DataFiles& named = data::files_option(options, split);
  if (!named.empty()) return data::found_files(named, split);
  if (options.task_name.empty() && !options.dataset_dir.empty()) {
    return data::files_of_folder(options.dataset_dir, split);
  }
  if (options.task_name.empty()) return std::nullopt;
  const TextTask& task = task_of(options);
  if (options.dataset_dir.empty() || split == Split::validation) return std::nullopt;
  const Strings& names = split == Split::train ? task.train : task.test;
  const fs::path root = options.dataset_dir;
  for (const fs::path& folder : {root / task.folder, root}) {
    for (const std::string& name : names) {
      if (fs::exists(folder / name)) return folder / name;
    }
  }
  const char* part = split == Split::train ? "train" : "test";
  throw Error{{.id = "config.dataset-dir",
               .what = names.empty() ? fmt::format("task {} has no {} set of its own", task.name, part)
                                     : fmt::format("there is no {} in {} or {}", fmt::join(names, " or "),
                                                   (root / task.folder).string(), root.string()),
               .where = fmt::format("dataset_dir: {}", root.string()),
               .fix = fmt::format("Set dataset_dir to the folder that holds {}, or set {}_file.", task.folder, part)}};
}

}  // namespace deltaw
