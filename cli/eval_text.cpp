#include "eval_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "counter.h"
#include "data/no_rows.h"
#include "deltaw/error.h"
#include "output.h"
#include "texts.h"

namespace deltaw::cli {
namespace {

const TextTask* task_of(const DataOptions& data) {
  if (data.task_name.empty()) return nullptr;
  const TextTask* task = find_text_task(data.task_name);
  if (!task) text_split_file({.task_name = data.task_name}, Split::test);  // its error names the tasks there are
  return task;
}

std::string protocol_of(const EvaluationOptions& options, const TextTask* task) {
  if (options.protocol == "auto") {
    if (!task) return "perplexity";
    return task->kind == AnswerKind::word && !task->answers.empty() ? "likelihood" : "generate";
  }
  if (!task && options.protocol != "perplexity") {
    throw Error({.id = "config.no-task",
                 .what = "the protocol '" + options.protocol + "' needs to know the task's answers",
                 .where = "key 'protocol'",
                 .fix = "set task_name, or score by perplexity"});
  }
  return options.protocol;
}

/// The validation files, else the test set of the task or of the data set's folder.
std::optional<DataFiles> evaluation_files(const DataOptions& data) {
  if (auto files = text_split_file(data, Split::validation)) return files;
  return data.task_name.empty() && data.dataset_dir.empty() ? std::nullopt : text_split_file(data, Split::test);
}

DataFiles needed_files(const DataOptions& data) {
  if (auto files = evaluation_files(data)) return *files;
  throw data::no_text_file(data, "validation_file", Split::test);
}

template <class Row>
std::vector<Row> first_rows(std::vector<Row> rows, int64_t most) {
  if (most > 0 && rows.size() > static_cast<size_t>(most)) rows.resize(static_cast<size_t>(most));
  return rows;
}

/// Texts as training holds them out, where no file is named.
TextDataset texts_of(const Served& served, const ChatRenderer& render) {
  const DataOptions& data = served.data;
  if (text_split_file(data, Split::validation) || data.validation_split == 0) {
    TextDataset dataset = load_texts(needed_files(data), data, served.text, render);
    dataset.most_blocks = data.max_eval_samples;
    if (!dataset.continuous) dataset.rows = first_rows(std::move(dataset.rows), data.max_eval_samples);
    return dataset;
  }
  return load_text_data(data, served.text, render, static_cast<uint64_t>(served.batch.seed)).validation;
}

Json score_texts(const Served& served, const LanguageModel& lm, const EvaluationOptions& options,
                 const ChatRenderer& render) {
  const int64_t max_length = served.data.max_length;
  const TextDataset dataset = texts_of(served, render);
  if (dataset.continuous) {
    const int64_t window = served.length_given ? max_length : std::min(max_length, kTextLength);
    return score_running_text(lm, dataset.rows.at(0).text, window, options.stride, dataset.most_blocks);
  }
  const EncodedTexts encoded = encode_texts(dataset, lm.tokenizer, max_length, served.end_id);
  for (const std::string& sentence : warnings(encoded.facts, max_length, served.readable)) warning(sentence);
  Json results = score_rows(lm, encoded.rows);
  results["truncated_rows"] = truncated_rows(encoded.rows);
  results["bad_rows"] = encoded.facts.left_out;
  return results;
}

}  // namespace

Json score_text(const Served& served, const EvaluationOptions& options, const ChatRenderer& render) {
  Counter counter("rows");
  const LanguageModel lm{.model = *served.model,
                         .adapter = served.acting(),
                         .tokenizer = *served.tokenizer,
                         .pad_id = served.pad_id,
                         .batch_size = served.batch.per_device_eval_batch_size,
                         .progress = counter.progress(),

                         .taught_ends = taught_ends(served.keys)};
  const TextTask* task = task_of(served.data);
  const std::string protocol = protocol_of(options, task);
  if (protocol == "perplexity") return score_texts(served, lm, options, render);
  const DataFiles files = needed_files(served.data);
  const int64_t most = served.data.max_eval_samples;
  Json results = protocol == "likelihood"
                     ? score_choices(lm, first_rows(load_choices(*task, files, served.data.encoding), most))
                     : score_answers(lm, *task, first_rows(load_answers(*task, files, served.data.encoding), most),
                                     options.max_new_tokens);
  const int64_t cut = results.value("eval_truncated", int64_t{0}), rows = results.value("eval_samples", int64_t{0});
  if (cut > 0)
    warning(fmt::format("{} of {} prompts were longer than the model reads and lost their beginning", cut, rows));
  results["truncated_rows"] = cut;
  return results;
}

}  // namespace deltaw::cli
