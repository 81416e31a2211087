#include "tasks/feature_extraction/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/hold_out.h"
#include "deltaw/error.h"
#include "deltaw/text_rows.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"
#include "tasks/feature_extraction/losses.h"
#include "tasks/feature_extraction/modules.h"
#include "tasks/feature_extraction/rows.h"
#include "tasks/feature_extraction/scorer.h"
#include "tasks/feature_extraction/task.h"
#include "tasks/feature_extraction/tuples.h"

namespace deltaw::feature_extraction {
namespace {

constexpr const char* kAuto = "auto";  // a value of `loss`, `pooling` and `prompt_name`
constexpr const char* kNone = "none";  // of `prompt_name`

std::vector<std::string> with_auto(std::vector<std::string> names) {
  names.insert(names.begin(), kAuto);
  return names;
}

/// The loss that the rows allow. Throws config.conflict for another one.
std::string chosen_loss(const std::string& asked, const Tuples& rows) {
  if (asked == kAuto) return rows.scored() ? kCosine : kRanking;
  const bool needs_scores = asked != kRanking;
  if (needs_scores == rows.scored()) return asked;
  throw Error({.id = "config.conflict",
               .what = needs_scores ? fmt::format("the loss {} needs scores, and the rows have none", asked)
                                    : fmt::format("the loss {} takes every pair for one that belongs together, and "
                                                  "column '{}' holds scores",
                                                  asked, rows.score_column),
               .where = rows.file.string(),
               .fix = needs_scores ? "name the column of the scores in label_column, or leave loss out"
                                   : "leave loss out, or give a file without scores"});
}

/// What the cosine is to be must be one.
void check_scores(const Tuples& rows, double highest) {
  for (const Tuple& row : rows.rows) {
    if (std::abs(row.score) <= highest) continue;
    throw Error(
        {.id = "data.score-range",
         .what = fmt::format("the score {:g} is beyond {:g}, which stands for a cosine of 1", row.score, highest),
         .where = fmt::format("{}, line {}", rows.file.string(), row.line),
         .fix = "set max_score to the highest score, or loss to cosent, which reads their order alone"});
  }
}

class Reader final : public TextReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    f.field("pooling", pooling_,
            "What becomes the embedding of a text: the mean of its tokens, the first one (cls) or the maximum; auto is "
            "what the model's 1_Pooling/config.json says, else mean.",
            one_of(with_auto(poolings())));
    f.field("loss", loss_,
            "auto is cosine_similarity (the square of what cosine and score differ by) of rows with scores, else "
            "multiple_negatives_ranking (the other rows of a step are what a text does not belong to); cosent reads "
            "the order of the scores.",
            one_of(with_auto({kRanking, kCosine, kCoSent})));
    f.field("cosine_scale", scale_, "What cosines are multiplied by in multiple_negatives_ranking and cosent.",
            above(0));
    f.field(
        "prompt_name", prompt_name_,
        "Which of the prompts in the model's config_sentence_transformers.json stands before each text; auto is its "
        "default_prompt_name; none.");
    f.field("max_score", max_score_, "The score that stands for a cosine of 1; 0: 5 for stsb, else 1.", at_least(0));
  }

  std::vector<std::string> kept_keys() const override {
    return {"pooling", "loss", "cosine_scale", "max_score", "prompt_name"};
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"label_names", "problem_type", "ignore_mismatched_sizes"}, "a sentence encoder has no classes"}};
  }

  std::unique_ptr<Task> make_task(const TaskSpec& /*spec*/) const override {
    return feature_extraction::make_task({.loss = loss_ == kAuto ? std::string() : loss_,
                                          .scale = scale_,
                                          .modules = modules_,
                                          .scored = judged().scored()});
  }

  // ---- a run ----

  void read(TaskFiles& files) override {
    settle_modules(files);
    if (!files.length_given && modules_.max_seq_length > 0) files.data.max_length = modules_.max_seq_length;
    tuples_ = read_split(files.data, Split::train, files.seed);
    loss_ = chosen_loss(loss_, tuples_);
    highest_ = highest_score(files.data, max_score_);
    if (loss_ == kCosine) check_scores(tuples_, highest_);
    if (!data::has_validation(files.data)) return;
    validation_tuples_ = read_split(files.data, Split::validation, files.seed);
  }

  bool has_validation() const override { return !validation_tuples_.rows.empty(); }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override {
    return metric_names(judged().scored());
  }
  void check_metric(const std::string& name) const override {
    feature_extraction::check_metric(name, judged().scored());
  }

  void begin_training(const Model& model, TaskFiles& files) override {
    TextReader::begin_training(model, files);
    modules_.max_seq_length = files.data.max_length;
  }

  void encode(const Model& /*model*/, const DataOptions& data) override {
    train_ = encoded_rows(tuples_, data.max_length);
    validation_ = encoded_rows(validation_tuples_, data.max_length);
  }

  void check(const Model& model, const Adapter* adapter) const override {
    for (const auto& rows : {train_, validation_}) {
      tasks::check_rows(model, adapter, as_rows<TupleRows>(*rows).texts(), &tokenizer());
    }
  }

  Json facts(const DataOptions& data) const override {
    Json facts = TextReader::facts(data);
    int64_t full = 0;
    for (const EncodedRow& text : as_rows<TupleRows>(*train_).texts()) {
      full += static_cast<int64_t>(text.ids.size()) >= data.max_length;
    }
    facts["full_rows"] = full;
    facts["columns"] = tuples_.columns;
    facts["loss"] = loss_;
    facts["pooling"] = modules_.pooling;
    return facts;
  }

  std::optional<int64_t> cut_rows(Split split) const override {
    const auto& rows = split == Split::train ? train_ : validation_;
    return rows ? truncated_rows(as_rows<TupleRows>(*rows).texts()) : 0;
  }

  Json row(Split split, int64_t position) const override {
    const auto& rows = as_rows<TupleRows>(split == Split::train ? *train_ : *validation_);
    const int64_t texts = rows.texts_of_a_row();
    Json line = {{"ids", Json::array()}};
    for (int64_t i = 0; i < texts; ++i)
      line["ids"].push_back(rows.texts()[static_cast<size_t>(position * texts + i)].ids);
    if (!rows.scores().empty()) line["score"] = rows.scores()[static_cast<size_t>(position)];
    return line;
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "sentence-similarity",
            .python_class = "AutoModel",
            .command = "predict",
            .command_arguments = "--input_file texts.txt"};
  }

  void write_companions(const Model& model, const std::filesystem::path& folder) const override {
    TextReader::write_companions(model, folder);
    write_modules(modules_, model.shape().hidden, folder);
  }

  // ---- a model that is asked ----

  void choose_model(TaskFiles& files) override { settle_modules(files); }

  void begin_asking(const AskedModel& asked, TaskFiles& files) override {
    TextReader::begin_asking(asked, files);
    int64_t& length = files.data.max_length;
    if (!files.length_given && modules_.max_seq_length > 0) length = std::min(length, modules_.max_seq_length);
    modules_.max_seq_length = length;
    highest_ = highest_score(files.data, max_score_);
  }

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    validation_tuples_ = read_split(files.data, Split::validation, files.seed);
    return asked_rows(validation_tuples_, asked, files);
  }

  std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files, const std::string& file,
                                                   std::vector<Json>& ids) override {
    const Tuples tuples = input_of(files, file);
    for (const Tuple& row : tuples.rows) ids.push_back(row.id);
    return asked_rows(tuples, asked, files);
  }

 protected:
  Json sample() const override {
    const Tuple& first = tuples_.rows.front();
    const std::vector<int64_t>& ids = as_rows<TupleRows>(*train_).texts().front().ids;
    Json sample = {{"text", first.texts.front()}, {"texts", first.texts}};
    if (tuples_.scored()) sample["score"] = first.score;
    sample["ids"] = ids;
    sample["tokens"] = tasks::token_names(ids, tokenizer());
    return sample;
  }

  std::string counts_text(const Json& facts) const override {
    return fmt::format("         {} a row{}, loss {}, pooling {}\n", tasks::first_words(facts["columns"], 8),
                       tuples_.scored() ? " with a score" : "", loss_, modules_.pooling);
  }

  std::string sample_text(const Json& sample) const override {
    std::string lines;
    for (const Json& text : sample["texts"]) {
      lines += (lines.empty() ? "input    " : "   with  ") + tasks::shortened(text.get<std::string>(), 300) + "\n";
    }
    if (sample.contains("score")) lines += fmt::format("  score  {:g}\n", sample["score"].get<double>());
    return lines;
  }

 private:
  /// The rows that scores are of: those of validation where there are any.
  const Tuples& judged() const { return validation_tuples_.rows.empty() ? tuples_ : validation_tuples_; }

  void settle_modules(const TaskFiles& files) {
    const std::string asked = pooling_ == kAuto ? std::string() : pooling_;
    modules_ = read_modules(files.folders(), asked).value_or(Modules());
    if (!asked.empty()) modules_.pooling = asked;
    if (prompt_name_ != kAuto) modules_.prompt_name = prompt_name_ == kNone ? "" : prompt_name_;
    prompt_ = modules_.prompt();
  }

  std::shared_ptr<const TupleRows> encoded_rows(const Tuples& tuples, int64_t max_length) const {
    std::vector<EncodedRow> texts;
    std::vector<double> scores;
    for (const Tuple& row : tuples.rows) {
      for (const std::string& text : row.texts) {
        Encoding encoding = tokenizer().encode(prompt_ + text, {.max_length = max_length});
        texts.push_back(
            {.ids = std::move(encoding.ids),
             .type_ids = tokenizer().gives_type_ids() ? std::move(encoding.type_ids) : std::vector<int64_t>(),
             .index = &row - tuples.rows.data(),
             .truncated = encoding.truncated ? 1 : 0});
      }
      if (tuples.scored()) scores.push_back(row.score / highest_);
    }
    const auto texts_of_a_row = static_cast<int64_t>(std::max<size_t>(1, tuples.columns.size()));
    return std::make_shared<const TupleRows>(std::move(texts), texts_of_a_row, std::move(scores), pad_id_,
                                             tokenizer().pads_left());
  }

  std::shared_ptr<const TupleRows> asked_rows(const Tuples& tuples, const AskedModel& asked,
                                              const TaskFiles& files) const {
    auto rows = encoded_rows(tuples, files.data.max_length);
    tasks::check_rows(asked.model, asked.adapter, rows->texts(), &tokenizer());
    warn_of_cut_rows(truncated_rows(rows->texts()), static_cast<int64_t>(rows->texts().size()), files);
    return rows;
  }

  static Tuples input_of(const TaskFiles& files, const std::string& file) {
    if (file.empty()) return read_split(files.data, Split::test, files.seed, Wanted::texts);
    if (!tasks::is_lines(file)) return read_tuples(file, files.data, Wanted::texts);
    Tuples lines{.file = file, .columns = {"text"}};
    for (Example& row : tasks::read_lines(file, files.data.encoding).rows) {
      lines.rows.push_back({.texts = {std::move(row.text)}, .line = row.line});
    }
    return lines;
  }

  std::string pooling_ = kAuto, loss_ = kAuto, prompt_name_ = kAuto;
  double scale_ = 20;
  double max_score_ = 0;

  Modules modules_;
  std::string prompt_;
  double highest_ = 1;  // score
  Tuples tuples_, validation_tuples_;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::feature_extraction
