#include "tasks/seq_cls/reader.h"

#include "core/files.h"
#include "data/glue.h"
#include "deltaw/error.h"
#include "deltaw/text_rows.h"
#include "tasks/common/choose_labels.h"
#include "tasks/common/classifier_rows.h"
#include "tasks/common/metrics.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"

namespace deltaw::seq_cls {
namespace {

constexpr const char* kTask = "SEQ_CLS";

void refuse_lines_for_pairs(const DataOptions& data, const std::string& file) {
  const std::string pair = data.text_pair_column.empty() && !data.task_name.empty()
                               ? find_glue_task(data.task_name).text_pair_column
                               : data.text_pair_column;
  if (pair.empty()) return;
  throw Error({.id = "config.missing-column",
               .what = "the model reads two texts a row, and a file of lines has no column '" + pair + "'",
               .where = file,
               .fix = "give a .csv, .tsv or .jsonl file with both columns"});
}

const GlueTask& task_of_submission(const DataOptions& data) {
  if (!data.task_name.empty()) return find_glue_task(data.task_name);
  throw Error({.id = "config.submission",
               .what = "a submission is for a task of GLUE, and task_name is not given",
               .where = "key 'submission_dir'",
               .fix = "add --task_name, or leave submission_dir out: the predictions are the lines of output_file"});
}

class Reader final : public TextReader {
 public:
  void training_fields(FieldVisitor& f) override { rows_.training_fields(f); }

  void prediction_fields(FieldVisitor& f) override {
    f.field("submission_dir", submission_dir_,
            "Also write the file that GLUE's server takes for task_name into this folder: CoLA.tsv, MNLI-m.tsv.");
  }

  // ---- a run ----

  void read(TaskFiles& files) override {
    rows_.read(files, [&](const HeadLabels& head) { return load_training_data(files.data, files.seed, head); });
    if (!files.data.task_name.empty()) return;
    // Whoever reads another file later, with run.json, reads the same columns or is told that they are not there.
    files.data.text_column = rows_.data().text_column;
    files.data.text_pair_column = rows_.data().text_pair_column;
  }

  bool has_validation() const override { return !rows_.data().validation.rows.empty(); }
  bool smooths_labels() const override { return rows_.labels().one_class(); }
  std::vector<std::string> metrics(const DataOptions& data) const override {
    return metric_names(data, rows_.labels());
  }
  void check_metric(const std::string& name) const override { tasks::check_class_metric(name, rows_.labels()); }

  void encode(const Model& /*model*/, const DataOptions& data) override {
    train_ = as_rows(encode_rows(rows_.data().train, tokenizer(), data.max_length));
    validation_ = as_rows(encode_rows(rows_.data().validation, tokenizer(), data.max_length));
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "text-classification",
            .python_class = "AutoModelForSequenceClassification",
            .load_arguments = rows_.load_arguments(),
            .command = "predict",
            .command_arguments = "--input_file texts.txt"};
  }

  // ---- a model that is asked ----

  void choose_model(TaskFiles& files) override {
    tasks::choose_labels(files, kTask, [&](const HeadLabels& head) -> std::optional<TrainingData> {
      if (!split_file(files.data, Split::train)) return std::nullopt;
      return load_training_data(files.data, files.seed, head);
    });
  }

  void begin_asking(const AskedModel& asked, TaskFiles& files) override {
    rows_.begin_asking(asked, files.data);
    TextReader::begin_asking(asked, files);
  }

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    const Dataset dataset = load_split(files.data, Split::validation, rows_.labels(), Labels::needed, files.seed);
    if (!dataset.rows.empty()) return as_rows(encoded(dataset, asked, files));
    throw Error({.id = "config.no-data",
                 .what = "there are no rows to evaluate on",
                 .where = dataset.file.string(),
                 .fix = "name another validation_file"});
  }

  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files, const std::string& file,
                                                   std::vector<Json>& ids) override {
    const Dataset dataset = input_of(files, file);
    for (const Example& row : dataset.rows) ids.push_back(row.id);
    return as_rows(dataset.rows.empty() ? std::vector<EncodedRow>() : encoded(dataset, asked, files));
  }

  std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file) override {
    if (submission_dir_.empty()) return TextReader::predict(asked, files, file);
    const GlueTask& task = task_of_submission(files.data);
    data::submission_text(task,
                          {rows_.labels().names.begin(), rows_.labels().names.end()});  // refuses other labels at once
    std::unique_ptr<Predictions> predictions = TextReader::predict(asked, files, file);
    std::vector<Json> answers;
    for (int64_t row = 0; row < predictions->size(); ++row) answers.push_back(predictions->row(row)["label"]);
    const std::string text = data::submission_text(task, answers);
    std::filesystem::create_directories(submission_dir_);
    write_file(std::filesystem::path(submission_dir_) / data::files_of(task).submission, text);
    return predictions;
  }

 protected:
  std::vector<std::string> labels() const override { return rows_.labels().names; }

  Json sample() const override {
    const Example& first = rows_.data().train.rows.front();
    const std::vector<int64_t>& ids = deltaw::as_rows<TextRows>(*train_).rows().front().ids;
    Json sample = {{"text", first.text}};
    if (first.has_pair) sample["text_pair"] = first.text_pair;
    sample["label"] = rows_.label_words(first);
    sample["ids"] = ids;
    sample["tokens"] = tasks::token_names(ids, tokenizer());
    return sample;
  }

  std::string counts_text(const Json& facts) const override {
    return tasks::ClassifierRows::labels_text(facts["labels"]);
  }

  std::string sample_text(const Json& sample) const override {
    std::string lines = TextReader::sample_text(sample);
    if (sample.contains("text_pair")) lines += "   pair  " + sample["text_pair"].get<std::string>() + "\n";
    return lines + "  label  " + sample["label"].get<std::string>() + "\n";
  }

 private:
  std::shared_ptr<const TextRows> as_rows(std::vector<EncodedRow> rows) const {
    return std::make_shared<const TextRows>(std::move(rows), pad_id_, tokenizer().pads_left());
  }

  Dataset input_of(const TaskFiles& files, const std::string& file) const {
    if (file.empty()) return load_split(files.data, Split::test, rows_.labels(), Labels::ignored, files.seed);
    if (!tasks::is_lines(file)) return load_file(file, files.data, rows_.labels(), Labels::ignored);
    refuse_lines_for_pairs(files.data, file);
    return tasks::read_lines(file, files.data.encoding);
  }

  std::string submission_dir_;
  tasks::ClassifierRows rows_{kTask};
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::seq_cls
