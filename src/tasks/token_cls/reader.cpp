#include "tasks/token_cls/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/text_file.h"
#include "data/encode_words.h"
#include "data/file_formats.h"
#include "data/find_files.h"
#include "data/tagged_text.h"
#include "data/word_rows.h"
#include "deltaw/error.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/head_labels.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"
#include "tasks/token_cls/aggregate.h"
#include "tasks/token_cls/entities.h"
#include "tasks/token_cls/predictions.h"
#include "tasks/token_cls/rows.h"

namespace deltaw::token_cls {
namespace {

constexpr const char* kTask = "TOKEN_CLS";
constexpr const char* kAnyTags = "conlleval";  // a value of `scheme`: none

/// How many words nothing is known of, for messages.
std::string lost_words(int64_t words) {
  return fmt::format("the tokenizer makes nothing of {} word{}: {} neither learned nor scored", words,
                     words == 1 ? "" : "s", words == 1 ? "it is" : "they are");
}

class Reader final : public TextReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    f.field("label_all_tokens", label_all_tokens_,
            "The label of a word is that of all its tokens, I- following B-; without it, of the first one alone.");
    f.field("stride", stride_,
            "Of a token classifier's rows that are longer than max_length: tokens that neighbouring windows share, as "
            "tokenizers have it; 0: a quarter of a window.",
            at_least(0));
    std::vector<std::string> schemes = {kAnyTags};
    for (const std::string& name : scheme_names()) schemes.push_back(name);
    f.field(
        "scheme", scheme_,
        "How the tags mark entities: conlleval takes them whatever they are, a scheme counts what follows its rules "
        "alone.",
        one_of(schemes));
  }

  void prediction_fields(FieldVisitor& f) override {
    f.field("aggregation_strategy", strategy_,
            "How tokens become entities: none (every token), simple (neighbours of one type), or by whole words whose "
            "label is that of the first token, of the mean over the tokens (average) or of the surest token (max).",
            one_of(strategies()));
  }

  std::vector<std::string> kept_keys() const override { return {"label_all_tokens", "stride", "scheme"}; }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"text_pair_column", "problem_type"}, "each token of a row has one class"}};
  }

  std::unique_ptr<Task> make_task(const TaskSpec& /*spec*/) const override { return token_cls::make_task(scheme()); }

  // ---- a run ----

  void read(TaskFiles& files) override {
    const bool goes_on = !files.adapters.empty();
    files.data.problem_type = "auto";
    if (goes_on) tasks::inherit_head(files);
    rows_ = data::load_word_data(files.data, files.seed,
                                 goes_on ? HeadLabels() : tasks::head_of(files.base, files.model, kTask));
    labels_ = rows_.labels;
    if (goes_on) tasks::check_head_size(files.adapters.front(), labels_.outputs());
    check_scheme(scheme(), labels_.names);
    for (const std::string& sentence : rows_.warnings) files.warn(sentence);
    files.model.new_head = rows_.new_head;
    files.data.label_names = labels_.names;
    files.model.num_labels = labels_.outputs();
    files.model.label_names = labels_.names;
  }

  bool has_validation() const override { return !rows_.validation.rows.empty(); }
  bool smooths_labels() const override { return true; }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return metric_names(labels_.names); }
  void check_metric(const std::string& name) const override { token_cls::check_metric(name, labels_.names); }

  void encode(const Model& /*model*/, const DataOptions& data) override {
    train_ = windows(rows_.train, data, /*learned=*/true, train_facts_);
    validation_ = windows(rows_.validation, data, /*learned=*/false, validation_facts_);
  }

  Json facts(const DataOptions& data) const override {
    Json facts = TextReader::facts(data);
    facts["rows"] = train_facts_.rows;
    facts["long_rows"] = train_facts_.long_rows;
    return facts;
  }

  std::vector<std::string> warnings(const Model& model, const Adapter* adapter,
                                    const DataOptions& data) const override {
    std::vector<std::string> found = TextReader::warnings(model, adapter, data);
    if (train_facts_.without_tokens > 0) found.push_back(lost_words(train_facts_.without_tokens));
    if (validation_facts_.without_tokens > 0) {
      found.push_back("validation: " + lost_words(validation_facts_.without_tokens));
    }
    if (are_entity_tags(labels_.names)) return found;
    found.push_back(
        fmt::format("the labels are no tags of entities (B-PER, I-PER, O), so accuracy is the only score: {}",
                    tasks::first_words(labels_.names, 6)));
    return found;
  }

  /// The program counts the windows that a model reads; samples are the rows of the files.
  Json results(Split split) const override {
    if (split == Split::train) return {{"train_samples", train_facts_.rows}, {"windows", train_->size()}};
    return {{"samples", validation_facts_.rows}, {"windows", validation_->size()}};
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "token-classification",
            .python_class = "AutoModelForTokenClassification",
            .load_arguments = fmt::format(", num_labels={}", labels_.names.size()),
            .command = "predict",
            .command_arguments = "--input_file texts.txt"};
  }

  // ---- a model that is asked ----

  void choose_model(TaskFiles& files) override {
    ModelOptions& options = files.model;
    if (!files.adapters.empty()) options = with_adapter_head(options, files.adapters.front());
    const HeadLabels base = tasks::head_of(files.base, options, kTask);
    const HeadLabels head =
        options.label_names.empty() ? base : HeadLabels{.names = options.label_names, .stored = true};
    if (!files.data.label_names.empty()) {
      if (const auto sentence = order_warning(files.data.label_names, head)) files.warn(*sentence);
      options.label_names = files.data.label_names;
    }
    if (!options.label_names.empty() || !files.adapters.empty() || tasks::has_names(base)) return;
    if (!split_file(files.data, Split::train)) return;
    const data::WordData rows = data::load_word_data(files.data, files.seed, base);
    for (const std::string& sentence : rows.warnings) files.warn(sentence);
    options.label_names = rows.labels.names;
    options.num_labels = rows.labels.outputs();
  }

  void begin_asking(const AskedModel& asked, TaskFiles& files) override {
    labels_ = {.names = asked.model.label_names()};
    check_scheme(scheme(), labels_.names);
    TextReader::begin_asking(asked, files);
  }

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    const data::WordDataset dataset =
        data::load_word_split(files.data, Split::validation, labels_, Labels::needed, files.seed);
    const auto rows = asked_rows(dataset, asked, files);
    if (validation_facts_.without_tokens > 0) files.warn(lost_words(validation_facts_.without_tokens));
    asked.task.check(asked.model, asked.adapter, *rows, "validation");
    return rows;
  }

  Json evaluate(const AskedModel& asked, TaskFiles& files) override {
    validation_ = rows_to_score(asked, files);
    TokenScorer scorer(asked.model, *validation_, scheme(), metrics(files.data));
    score(asked.task, asked.model, asked.adapter, *validation_, asked.batch_size, scorer, asked.progress);
    Json results = Json::object();
    const Json scores = scorer.metrics();
    for (const auto& [name, value] : scores.items()) results["eval_" + name] = value;
    if (are_entity_tags(labels_.names)) results["eval_types"] = scorer.by_type();
    results["eval_samples"] = validation_facts_.rows;
    results["eval_windows"] = validation_->size();
    return results;
  }

  std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file) override {
    const data::WordDataset dataset = input_of(files, file);
    std::vector<Json> ids;
    for (const data::WordRow& row : dataset.rows) ids.push_back(row.id);
    return predictions_of(asked, asked_rows(dataset, asked, files), std::move(ids), tokenizer(), strategy_);
  }

 protected:
  std::vector<std::string> labels() const override { return labels_.names; }

  Json sample() const override {
    const data::WordRow& first = rows_.train.rows.front();
    Json sample = TextReader::sample();
    if (sample.empty()) return sample;
    sample["words"] = first.words;
    sample["tags"] = Json::array();
    for (const int64_t label : first.labels) sample["tags"].push_back(labels_.names[static_cast<size_t>(label)]);
    return sample;
  }

  std::string counts_text(const Json& facts) const override {
    std::string lines = fmt::format("         labels: {}\n", tasks::first_words(facts["labels"], 12));
    if (facts["long_rows"] > 0) {
      lines += fmt::format("         {} of {} rows are longer than max_length and read in several windows\n",
                           tasks::count_text(facts["long_rows"]), tasks::count_text(facts["rows"]));
    }
    return lines;
  }

  std::string sample_text(const Json& sample) const override {
    return fmt::format("  words  {}\n   tags  {}\n", tasks::first_words(sample["words"], 64),
                       tasks::first_words(sample["tags"], 64));
  }

 private:
  struct Facts {
    int64_t rows = 0, long_rows = 0, without_tokens = 0;
  };

  std::string scheme() const { return scheme_ == kAnyTags ? std::string() : scheme_; }

  std::shared_ptr<const WordWindows> windows(const data::WordDataset& dataset, const DataOptions& data, bool learned,
                                             Facts& facts) const {
    data::EncodedWords words = data::encode_words(
        dataset, tokenizer(), labels_,
        {.max_length = data.max_length, .stride = stride_, .label_all_tokens = label_all_tokens_, .learned = learned});
    facts = {static_cast<int64_t>(words.rows.size()), words.long_rows, words.without_tokens};
    return std::make_shared<const WordWindows>(std::move(words), pad_id_, tokenizer().pads_left());
  }

  std::shared_ptr<const WordWindows> asked_rows(const data::WordDataset& dataset, const AskedModel& asked,
                                                const TaskFiles& files) {
    for (const std::string& sentence : dataset.warnings) files.warn(sentence);
    auto rows = windows(dataset, files.data, /*learned=*/false, validation_facts_);
    tasks::check_rows(asked.model, asked.adapter, rows->rows(), &tokenizer());
    return rows;
  }

  /// A .txt file holds texts, one a line, unless each of its lines ends in a tag of the model.
  data::WordDataset input_of(const TaskFiles& files, const std::string& file) const {
    if (file.empty()) return data::load_word_split(files.data, Split::test, labels_, Labels::ignored, files.seed);
    const bool lines = tasks::is_lines(file) &&
                       !data::looks_tagged(read_text(data::find_files(file)[0], files.data.encoding), labels_.names);
    if (!lines) return data::load_words(file, files.data, labels_, Labels::ignored);
    data::WordDataset dataset{.file = file};
    for (Example& row : tasks::read_lines(file, files.data.encoding).rows) {
      dataset.rows.push_back({.text = std::move(row.text), .is_text = true, .line = row.line});
    }
    return dataset;
  }

  bool label_all_tokens_ = false;
  int64_t stride_ = 0;
  std::string scheme_ = kAnyTags;
  std::string strategy_ = "simple";

  data::WordData rows_;
  LabelSet labels_;
  Facts train_facts_, validation_facts_;
};

}  // namespace

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::token_cls
