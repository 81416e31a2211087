#include "tasks/causal_lm/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "data/no_rows.h"
#include "deltaw/error.h"
#include "deltaw/text_rows.h"
#include "tasks/causal_lm/reader.h"
#include "tasks/common/check_rows.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::causal_lm {
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
DataFiles needed_files(const DataOptions& data) {
  if (auto files = text_split_file(data, Split::validation)) return *files;
  if (!data.task_name.empty() || !data.dataset_dir.empty()) {
    if (auto files = text_split_file(data, Split::test)) return *files;
  }
  throw data::no_text_file(data, "validation_file", Split::test);
}

template <class Row>
std::vector<Row> first_rows(std::vector<Row> rows, int64_t most) {
  if (most > 0 && rows.size() > static_cast<size_t>(most)) rows.resize(static_cast<size_t>(most));
  return rows;
}

/// Texts as training holds them out, where no file is named.
TextDataset texts_of(const Evaluation& evaluation) {
  const DataOptions& data = evaluation.files.data;
  if (text_split_file(data, Split::validation) || data.validation_split == 0) {
    TextDataset dataset = load_texts(needed_files(data), data, evaluation.text, evaluation.render);
    dataset.most_blocks = data.max_eval_samples;
    if (!dataset.continuous) dataset.rows = first_rows(std::move(dataset.rows), data.max_eval_samples);
    return dataset;
  }
  return load_text_data(data, evaluation.text, evaluation.render, evaluation.files.seed).validation;
}

/// Tokens of a window of running text.
int64_t window_of(const TaskFiles& files) {
  return files.length_given ? files.data.max_length : std::min(files.data.max_length, kMaxLength);
}

EncodedTexts encoded_texts(const Evaluation& evaluation, const TextDataset& dataset) {
  const int64_t max_length = evaluation.files.data.max_length;
  EncodedTexts encoded = encode_texts(dataset, evaluation.lm.tokenizer, max_length, evaluation.end_id);
  for (const std::string& sentence : warnings(encoded.facts, max_length, evaluation.readable)) {
    evaluation.files.warn(sentence);
  }
  return encoded;
}

Json score_texts(const Evaluation& evaluation) {
  const LanguageModel& lm = evaluation.lm;
  const TextDataset dataset = texts_of(evaluation);
  if (dataset.continuous) {
    return score_running_text(lm, dataset.rows.at(0).text, window_of(evaluation.files), evaluation.options.stride,
                              dataset.most_blocks);
  }
  const EncodedTexts encoded = encoded_texts(evaluation, dataset);
  Json results = score_rows(lm, encoded.rows);
  results["truncated_rows"] = truncated_rows(encoded.rows);
  results["bad_rows"] = encoded.facts.left_out;
  return results;
}

}  // namespace

Json evaluated(const Evaluation& evaluation) {
  const DataOptions& data = evaluation.files.data;
  const TextTask* task = task_of(data);
  const std::string protocol = protocol_of(evaluation.options, task);
  if (protocol == "perplexity") return score_texts(evaluation);
  const DataFiles files = needed_files(data);
  const int64_t most = data.max_eval_samples;
  const LanguageModel& lm = evaluation.lm;
  Json results = protocol == "likelihood"
                     ? score_choices(lm, first_rows(load_choices(*task, files, data.encoding), most))
                     : score_answers(lm, *task, first_rows(load_answers(*task, files, data.encoding), most),
                                     evaluation.options.max_new_tokens);
  const int64_t cut = results.value("eval_truncated", int64_t{0}), rows = results.value("eval_samples", int64_t{0});
  if (cut > 0) {
    evaluation.files.warn(
        fmt::format("{} of {} prompts were longer than the model reads and lost their beginning", cut, rows));
  }
  results["truncated_rows"] = cut;
  return results;
}

std::shared_ptr<const RowSource> scored_rows(const Evaluation& evaluation) {
  const LanguageModel& lm = evaluation.lm;
  const TextDataset dataset = texts_of(evaluation);
  std::vector<EncodedRow> rows;
  if (dataset.continuous) {
    const Encoding encoding = encode_row(lm.tokenizer, text::repaired(dataset.rows.at(0).text));
    rows = first_rows(sliding_windows(encoding.ids, window_of(evaluation.files), evaluation.options.stride),
                      dataset.most_blocks);
  } else {
    rows = encoded_texts(evaluation, dataset).rows;
  }
  tasks::check_rows(lm.model, lm.adapter, rows, &lm.tokenizer);
  return std::make_shared<const CausalRows>(std::move(rows), lm.pad_id, lm.tokenizer.pads_left());
}

}  // namespace deltaw::causal_lm
