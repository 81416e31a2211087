#include "tasks/multiple_choice/reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/bad_rows.h"
#include "data/hold_out.h"
#include "deltaw/error.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/shown.h"
#include "tasks/multiple_choice/questions.h"
#include "tasks/multiple_choice/rows.h"

namespace deltaw::multiple_choice {
namespace {

/// What is said of the rows of a split.
struct Facts {
  int64_t left_out = 0, cut_questions = 0, cut_choices = 0;
  std::vector<std::string> warnings = {};
};

class Reader final : public TextReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override { options_.fields(f); }
  std::vector<std::string> kept_keys() const override { return {"choices_column", "max_bad_rows"}; }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"label_names", "problem_type"}, "the head scores one choice at a time, and has no classes"}};
  }

  // ---- a run ----

  void read(TaskFiles& files) override {
    train_set_ = load_question_split(files.data, options_, Split::train, Labels::needed, files.seed);
    validates_ = data::has_validation(files.data);
    if (!validates_) return;
    validation_set_ = load_question_split(files.data, options_, Split::validation, Labels::needed, files.seed);
  }

  bool has_validation() const override { return validates_; }
  bool smooths_labels() const override { return true; }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return {"accuracy"}; }
  void check_metric(const std::string& name) const override { multiple_choice::check_metric(name); }

  void encode(const Model& /*model*/, const DataOptions& data) override {
    train_ = choices(train_set_, data, train_facts_);
    validation_ = choices(validation_set_, data, validation_facts_);
  }

  void check(const Model& model, const Adapter* adapter) const override {
    for (const auto& rows : {train_, validation_}) {
      tasks::check_rows(model, adapter, as_rows<ChoiceRows>(*rows).texts(), &tokenizer());
    }
  }

  /// Tokens are counted by texts, of which a model reads one for each choice.
  Json facts(const DataOptions& data) const override {
    Json facts = TextReader::facts(data);
    const auto& rows = as_rows<ChoiceRows>(*train_);
    int64_t sum = 0, longest = 0, full = 0, least = 0, most = 0;
    for (const EncodedRow& text : rows.texts()) {
      const auto length = static_cast<int64_t>(text.ids.size());
      sum += length;
      longest = std::max(longest, length);
      full += length >= data.max_length;
    }
    for (int64_t row = 0; row < rows.size(); ++row) {
      least = row == 0 ? rows.count(row) : std::min(least, rows.count(row));
      most = std::max(most, rows.count(row));
    }
    facts["mean_tokens"] = static_cast<double>(sum) / static_cast<double>(std::max<size_t>(1, rows.texts().size()));
    facts["longest_row"] = longest;
    facts["full_rows"] = full;
    facts["questions"] = rows.size();
    facts["fewest_choices"] = least;
    facts["most_choices"] = most;
    facts["bad_rows"] = train_facts_.left_out;
    facts["validation_bad_rows"] = validation_facts_.left_out;
    return facts;
  }

  std::vector<std::string> warnings(const Model& model, const Adapter* adapter,
                                    const DataOptions& data) const override {
    std::vector<std::string> found = TextReader::warnings(model, adapter, data);
    const auto note = [&](const Facts& facts, const char* which) {
      for (const std::string& sentence : facts.warnings) found.push_back(which + sentence);
    };
    note(train_facts_, "");
    note(validation_facts_, "validation: ");
    return found;
  }

  Json row(Split split, int64_t position) const override {
    const auto& rows = as_rows<ChoiceRows>(split == Split::train ? *train_ : *validation_);
    Json ids = Json::array();
    for (int64_t text = rows.begin(position); text < rows.end(position); ++text) {
      ids.push_back(rows.texts()[static_cast<size_t>(text)].ids);
    }
    return {{"ids", std::move(ids)}, {"label", rows.label(position)}};
  }

  std::optional<int64_t> cut_rows(Split split) const override {
    return (split == Split::train ? train_facts_ : validation_facts_).cut_questions;
  }

  Json results(Split split) const override {
    return {{"bad_rows", (split == Split::train ? train_facts_ : validation_facts_).left_out}};
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "multiple-choice",
            .python_class = "AutoModelForMultipleChoice",
            .command = "predict",
            .command_arguments = "--input_file questions.jsonl"};
  }

  // ---- a model that is asked ----

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    return asked_rows(load_question_split(files.data, options_, Split::validation, Labels::needed, files.seed), asked,
                      files);
  }

  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files, const std::string& file,
                                                   std::vector<Json>& ids) override {
    ChoiceSet set = file.empty() ? load_question_split(files.data, options_, Split::test, Labels::ignored, files.seed)
                                 : load_questions(file, files.data, options_, Labels::ignored);
    for (const ChoiceQuestion& question : set.rows) ids.push_back(question.id);
    return asked_rows(std::move(set), asked, files);
  }

 protected:
  /// The first row, and of its texts that of the right choice.
  Json sample() const override {
    const auto& rows = as_rows<ChoiceRows>(*train_);
    const ChoiceQuestion& question = rows.questions().front();
    const auto answer = static_cast<size_t>(question.answer);
    const std::vector<int64_t>& ids = rows.texts()[answer].ids;
    return {{"text", question.context},
            {"choices", question.choices},
            {"label", question.name(answer)},
            {"answer", question.choices[answer]},
            {"ids", ids},
            {"tokens", tasks::token_names(ids, tokenizer())}};
  }

  std::string counts_text(const Json& facts) const override {
    const auto least = facts["fewest_choices"].get<int64_t>(), most = facts["most_choices"].get<int64_t>();
    return fmt::format("         {} questions of {} choices; each choice is a row behind its question\n",
                       tasks::count_text(facts["questions"]),
                       least == most ? std::to_string(most) : fmt::format("{} to {}", least, most));
  }

  std::string sample_text(const Json& sample) const override {
    std::string lines = "question " + tasks::shortened(sample["text"].get<std::string>(), 300) + "\n";
    for (const Json& choice : sample["choices"]) {
      lines += fmt::format(" choice  {}{}\n", tasks::shortened(choice.get<std::string>(), 300),
                           choice == sample["answer"] ? "  (right)" : "");
    }
    return lines;
  }

 private:
  std::shared_ptr<const ChoiceRows> choices(ChoiceSet set, const DataOptions& data, Facts& facts) const {
    EncodedChoices encoded = encode_choices(set.rows, tokenizer(), data.max_length);
    facts = {.left_out = set.left_out,
             .cut_questions = encoded.cut_questions,
             .cut_choices = encoded.cut_choices,
             .warnings = std::move(set.warnings)};
    if (set.left_out > 0) {
      facts.warnings.push_back(fmt::format("{} {} left out: {}", set.left_out,
                                           set.left_out == 1 ? "row is" : "rows are",
                                           data::reasons_text(set.reasons, set.left_out)));
    }
    if (encoded.cut_choices > 0) {
      facts.warnings.push_back(
          fmt::format("{} of {} questions have a choice that is longer than max_length {} by "
                      "itself, and lost its end",
                      encoded.cut_choices, set.rows.size(), data.max_length));
    }
    std::vector<int64_t> labels;
    for (const ChoiceQuestion& question : set.rows) labels.push_back(question.answer);
    return std::make_shared<const ChoiceRows>(std::move(set.rows), std::move(encoded), std::move(labels), pad_id_,
                                              tokenizer().pads_left());
  }

  std::shared_ptr<const ChoiceRows> asked_rows(ChoiceSet set, const AskedModel& asked, const TaskFiles& files) {
    auto rows = choices(std::move(set), files.data, validation_facts_);
    tasks::check_rows(asked.model, asked.adapter, rows->texts(), &tokenizer());
    warn_of_cut_rows(validation_facts_.cut_questions, rows->size(), files);
    for (const std::string& sentence : validation_facts_.warnings) files.warn(sentence);
    return rows;
  }

  ChoiceOptions options_;
  ChoiceSet train_set_, validation_set_;
  bool validates_ = false;
  Facts train_facts_, validation_facts_;
};

}  // namespace

void check_metric(const std::string& name) {
  if (name == "loss" || name == "accuracy") return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of multiple choice", name),
               .where = "key \"metric_for_best_model\"",
               .fix = "loss or accuracy"});
}

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::multiple_choice
