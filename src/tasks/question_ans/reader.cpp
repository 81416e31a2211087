#include "tasks/question_ans/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "data/hold_out.h"
#include "deltaw/error.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/shown.h"
#include "tasks/question_ans/questions.h"
#include "tasks/question_ans/scorer.h"
#include "tasks/question_ans/windows.h"

namespace deltaw::question_ans {

void AnswerOptions::fields(FieldVisitor& f) {
  f.field(
      "doc_stride", doc_stride,
      "Tokens that neighbouring windows of a context share that is longer than max_length; 0: a third of max_length.",
      at_least(0));
  f.field("version_2_with_negative", version_2_with_negative,
          "Whether a context may not hold the answer, as in SQuAD 2: then the model may say so.");
  f.field("null_score_diff_threshold", null_score_diff_threshold,
          "By how much the score of no answer must be above that of the best one for there to be none.");
  f.field("n_best_size", n_best_size, "How many of the best starts and ends of a window are paired.", at_least(1));
  f.field("max_answer_length", max_answer_length, "Tokens of an answer at most.", at_least(1));
}

std::vector<std::string> metric_names(const AnswerOptions& options) {
  std::vector<std::string> names = {"f1", "exact_match"};
  if (options.version_2_with_negative) {
    for (const char* part : {"HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"}) names.emplace_back(part);
  }
  return names;
}

void check_metric(const std::string& name, const AnswerOptions& options) {
  const std::vector<std::string> names = metric_names(options);
  if (name == "loss" || std::find(names.begin(), names.end(), name) != names.end()) return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of question answering", name),
               .where = "key \"metric_for_best_model\"",
               .fix = fmt::format("loss, {}", fmt::join(names, ", "))});
}

namespace {

class Reader final : public TextReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override { options_.fields(f); }

  std::vector<std::string> kept_keys() const override {
    return {"doc_stride", "version_2_with_negative", "null_score_diff_threshold", "n_best_size", "max_answer_length"};
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"label_names", "problem_type"}, "the head says where an answer starts and ends, and has no classes"}};
  }

  std::unique_ptr<Task> make_task(const TaskSpec& /*spec*/) const override { return question_ans::make_task(options_); }

  // ---- a run ----

  void read(TaskFiles& files) override {
    train_set_ = load_question_split(files.data, Split::train, Labels::needed, files.seed);
    validates_ = data::has_validation(files.data);
    if (validates_) validation_set_ = load_question_split(files.data, Split::validation, Labels::needed, files.seed);
  }

  bool has_validation() const override { return validates_; }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return metric_names(options_); }
  void check_metric(const std::string& name) const override { question_ans::check_metric(name, options_); }

  void encode(const Model& /*model*/, const DataOptions& data) override {
    train_ = windows(train_set_, data, train_facts_);
    validation_ = windows(validation_set_, data, validation_facts_);
  }

  Json facts(const DataOptions& data) const override {
    Json facts = TextReader::facts(data);
    facts["questions"] = train_facts_.questions;
    facts["long_contexts"] = train_facts_.long_contexts;
    facts["without_answer"] = train_facts_.unanswerable;
    return facts;
  }

  std::vector<std::string> warnings(const Model& model, const Adapter* adapter,
                                    const DataOptions& data) const override {
    std::vector<std::string> found = TextReader::warnings(model, adapter, data);
    const auto note = [&](const Facts& facts, const char* which) {
      if (const std::string said = unanswerable_warning(facts); !said.empty()) found.push_back(which + said);
    };
    note(train_facts_, "");
    note(validation_facts_, "validation: ");
    return found;
  }

  Json results(Split split) const override {
    if (split == Split::train) return {{"train_samples", train_facts_.questions}, {"windows", train_->size()}};
    return {{"samples", validation_facts_.questions}, {"windows", validation_->size()}};
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "question-answering",
            .python_class = "AutoModelForQuestionAnswering",
            .command = "predict",
            .command_arguments = "--input_file questions.jsonl"};
  }

  // ---- a model that is asked ----

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    const auto rows =
        asked_rows(load_question_split(files.data, Split::validation, Labels::needed, files.seed), asked, files);
    if (const std::string said = unanswerable_warning(validation_facts_); !said.empty()) files.warn(said);
    return rows;
  }

  Json evaluate(const AskedModel& asked, TaskFiles& files) override {
    Json results = TextReader::evaluate(asked, files);
    results["eval_samples"] = validation_facts_.questions;
    results["eval_windows"] = validation_facts_.windows;
    return results;
  }

  std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file) override {
    QuestionSet set = file.empty() ? load_question_split(files.data, Split::test, Labels::ignored, files.seed)
                                   : load_questions(file, files.data, Labels::ignored);
    return predictions_of(asked, asked_rows(std::move(set), asked, files), options_);
  }

 protected:
  Json sample() const override {
    Json sample = TextReader::sample();
    if (sample.empty()) return sample;
    const Question& first = as_rows<AnswerWindows>(*train_).questions().front();
    sample["question"] = first.question;
    sample["answers"] = Json::array();
    for (const Answer& answer : first.answers) sample["answers"].push_back(answer.text);
    return sample;
  }

  std::string counts_text(const Json& facts) const override {
    return fmt::format("         {} questions, {} of them without an answer; {} contexts are read in several windows\n",
                       tasks::count_text(facts["questions"]), tasks::count_text(facts["without_answer"]),
                       tasks::count_text(facts["long_contexts"]));
  }

  std::string sample_text(const Json& sample) const override {
    const Json& answers = sample["answers"];
    return fmt::format("question {}\n answer  {}\n", tasks::shortened(sample["question"].get<std::string>(), 300),
                       answers.empty() ? "(none)" : tasks::shortened(answers[0].get<std::string>(), 300));
  }

 private:
  struct Facts {
    int64_t questions = 0, windows = 0, long_contexts = 0, unanswerable = 0;
  };

  std::string unanswerable_warning(const Facts& facts) const {
    if (options_.version_2_with_negative || facts.unanswerable == 0) return {};
    return fmt::format(
        "{} of {} questions have no answer, and the model gives one to each: version_2_with_negative is "
        "not set",
        facts.unanswerable, facts.questions);
  }

  std::shared_ptr<const AnswerWindows> windows(QuestionSet set, const DataOptions& data, Facts& facts) const {
    EncodedQuestions encoded = encode_questions(set, tokenizer(), data.max_length, options_.doc_stride);
    facts = {.questions = static_cast<int64_t>(set.rows.size()),
             .windows = static_cast<int64_t>(encoded.rows.size()),
             .long_contexts = encoded.long_contexts,
             .unanswerable = unanswerable(set)};
    return std::make_shared<const AnswerWindows>(std::move(set), std::move(encoded), pad_id_, tokenizer().pads_left());
  }

  std::shared_ptr<const AnswerWindows> asked_rows(QuestionSet set, const AskedModel& asked, const TaskFiles& files) {
    auto rows = windows(std::move(set), files.data, validation_facts_);
    tasks::check_rows(asked.model, asked.adapter, rows->rows(), &tokenizer());
    return rows;
  }

  AnswerOptions options_;
  QuestionSet train_set_, validation_set_;
  bool validates_ = false;
  Facts train_facts_, validation_facts_;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::question_ans
