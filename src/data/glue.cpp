#include "data/glue.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/ascii.h"
#include "data/labels.h"
#include "data/no_rows.h"
#include "deltaw/error.h"
#include "deltaw/text_data.h"

namespace deltaw {
namespace {

using Strings = std::vector<std::string>;

struct Entry {
  GlueTask task;
  data::GlueFiles files;
  Strings other_names = {};  // plain ones
};

Entry mnli(const std::string& name, const std::string& half, const std::string& submission, Strings other_names) {
  return {.task = {.name = name,
                   .folder = "MNLI",
                   .text_column = "sentence1",
                   .text_pair_column = "sentence2",
                   .label_column = "gold_label",
                   .columns = {},
                   .labels = {"entailment", "neutral", "contradiction"},
                   .metrics = {"accuracy"}},
          .files = {.validation = "dev_" + half + ".tsv",
                    .test = "test_" + half + ".tsv",
                    .submission = submission,
                    .numbers = false},
          .other_names = std::move(other_names)};
}

const std::vector<Entry>& entries() {
  static const std::vector<Entry> table = {
      {.task = {.name = "cola",
                .folder = "CoLA",
                .text_column = "sentence",
                .text_pair_column = "",
                .label_column = "label",
                .columns = {"source", "label", "mark", "sentence"},
                .labels = {"unacceptable", "acceptable"},
                .metrics = {"matthews_correlation"}},
       .files = {.submission = "CoLA.tsv"}},
      {.task = {.name = "sst2",
                .folder = "SST-2",
                .text_column = "sentence",
                .text_pair_column = "",
                .label_column = "label",
                .columns = {},
                .labels = {"negative", "positive"},
                .metrics = {"accuracy"}},
       .files = {.submission = "SST-2.tsv"}},
      {.task = {.name = "mrpc",
                .folder = "MRPC",
                .text_column = "#1 String",
                .text_pair_column = "#2 String",
                .label_column = "Quality",
                .columns = {},
                .labels = {"not_equivalent", "equivalent"},
                .metrics = {"accuracy", "f1"}},
       .files = {.submission = "MRPC.tsv"}},
      {.task = {.name = "stsb",
                .folder = "STS-B",
                .text_column = "sentence1",
                .text_pair_column = "sentence2",
                .label_column = "score",
                .columns = {},
                .labels = {},
                .metrics = {"pearson", "spearmanr"}},
       .files = {.submission = "STS-B.tsv", .greatest = 5}},
      {.task = {.name = "qqp",
                .folder = "QQP",
                .text_column = "question1",
                .text_pair_column = "question2",
                .label_column = "is_duplicate",
                .columns = {},
                .labels = {"not_duplicate", "duplicate"},
                .metrics = {"accuracy", "f1"}},
       .files = {.submission = "QQP.tsv"}},
      mnli("mnli", "matched", "MNLI-m.tsv", {"mnlim", "mnlimatched"}),
      mnli("mnli_mismatched", "mismatched", "MNLI-mm.tsv", {"mnlimm", "mnlimismatched"}),
      {.task = {.name = "qnli",
                .folder = "QNLI",
                .text_column = "question",
                .text_pair_column = "sentence",
                .label_column = "label",
                .columns = {},
                .labels = {"entailment", "not_entailment"},
                .metrics = {"accuracy"}},
       .files = {.submission = "QNLI.tsv", .numbers = false}},
      {.task = {.name = "rte",
                .folder = "RTE",
                .text_column = "sentence1",
                .text_pair_column = "sentence2",
                .label_column = "label",
                .columns = {},
                .labels = {"entailment", "not_entailment"},
                .metrics = {"accuracy"}},
       .files = {.submission = "RTE.tsv", .numbers = false}},
      {.task = {.name = "wnli",
                .folder = "WNLI",
                .text_column = "sentence1",
                .text_pair_column = "sentence2",
                .label_column = "label",
                .columns = {},
                .labels = {"not_entailment", "entailment"},
                .metrics = {"accuracy"}},
       .files = {.submission = "WNLI.tsv"}},
      {.task = {.name = "ax",
                .folder = "diagnostic",
                .text_column = "sentence1",
                .text_pair_column = "sentence2",
                .label_column = "label",
                .columns = {},
                .labels = {"entailment", "neutral", "contradiction"},
                .metrics = {"matthews_correlation"}},
       .files = {.train = "", .validation = "", .test = "diagnostic.tsv", .submission = "AX.tsv", .numbers = false}},
  };
  return table;
}

const Entry* find_entry(const std::string& name) {
  const std::string plain = data::bare_name(name);
  for (const Entry& entry : entries()) {
    const Strings& others = entry.other_names;
    if (entry.task.name == plain || std::find(others.begin(), others.end(), plain) != others.end()) return &entry;
  }
  return nullptr;
}

[[noreturn]] void refuse_prediction(const GlueTask& task, const Json& prediction) {
  throw Error({.id = "config.submission",
               .what = fmt::format("the model says {}, and {} are answered by {}", prediction.dump(), task.name,
                                   task.labels.empty() ? "scores" : data::listed(task.labels)),
               .where = "key 'submission_dir'",
               .fix = "predict with a model that was trained on the task"});
}

std::string answer_of(const GlueTask& task, const data::GlueFiles& files, const Json& prediction) {
  if (task.labels.empty()) {
    if (!prediction.is_number()) refuse_prediction(task, prediction);
    return fmt::format("{:.3f}", std::clamp(prediction.get<double>(), files.least, files.greatest));
  }
  for (size_t i = 0; i < task.labels.size() && prediction.is_string(); ++i) {
    if (!data::same_but_for_case(prediction.get<std::string>(), task.labels[i])) continue;
    return files.numbers ? std::to_string(i) : task.labels[i];
  }
  refuse_prediction(task, prediction);
}

}  // namespace

const std::vector<GlueTask>& glue_tasks() {
  static const std::vector<GlueTask> table = [] {
    std::vector<GlueTask> tasks;
    for (const Entry& entry : entries()) tasks.push_back(entry.task);
    return tasks;
  }();
  return table;
}

const GlueTask& find_glue_task(const std::string& name) {
  if (const Entry* entry = find_entry(name)) return entry->task;
  std::vector<std::string> known;
  for (const GlueTask& task : glue_tasks()) known.push_back(task.name);
  throw data::unknown_task(name, /*of_classifiers=*/true, find_text_task(name) != nullptr, known);
}

namespace data {

std::string bare_name(const std::string& name) {
  std::string bare = lower(name);
  std::erase_if(bare, [](char c) { return c == '-' || c == '_'; });
  return bare;
}

const GlueFiles& files_of(const GlueTask& task) {
  return find_entry(task.name)->files;
}

const std::string& file_of(const GlueTask& task, Split split) {
  const GlueFiles& files = files_of(task);
  return split == Split::train ? files.train : split == Split::validation ? files.validation : files.test;
}

std::string submission_text(const GlueTask& task, const std::vector<Json>& predictions) {
  const GlueFiles& files = files_of(task);
  std::string text = "index\tprediction\n";
  for (size_t i = 0; i < predictions.size(); ++i) {
    text += fmt::format("{}\t{}\n", i, answer_of(task, files, predictions[i]));
  }
  return text;
}

}  // namespace data
}  // namespace deltaw
