// How files of pairs become rows, and what the program says of them: with this the task of contrastive.h works in every
// verb of a `deltaw` that it is built into.
#pragma once

#include <deltaw/data.h>
#include <deltaw/task_reader.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "contrastive.h"

/// Files with the columns "first" and "second", or those that text_column and text_pair_column name.
class PairReader final : public deltaw::TextReader {
 public:
  void fields(deltaw::FieldVisitor& f) override {
    f.field("similarity_scale", scale_, "What cosine similarities are multiplied by in the loss.", deltaw::above(0));
  }
  std::vector<std::string> kept_keys() const override { return {"similarity_scale"}; }
  std::vector<deltaw::IdleKeys> idle_keys(const deltaw::DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"label_column", "label_names", "problem_type"}, "pairs have no labels"}};
  }
  std::unique_ptr<deltaw::Task> make_task(const deltaw::TaskSpec& /*spec*/) const override {
    return std::make_unique<Contrastive>(scale_);
  }

  void read(deltaw::TaskFiles& files) override {
    choose_columns(files.data);
    choose_model(files);
    train_pairs_ = split_of(files, deltaw::Split::train);
    const bool validates = !files.data.validation_file.empty() || files.data.validation_split > 0;
    if (validates) validation_pairs_ = split_of(files, deltaw::Split::validation);
  }
  bool has_validation() const override { return !validation_pairs_.rows.empty(); }
  std::vector<std::string> metrics(const deltaw::DataOptions& /*data*/) const override { return {"recall_at_1"}; }
  void check_metric(const std::string& name) const override { Contrastive::check_name(name); }

  void encode(const deltaw::Model& /*model*/, const deltaw::DataOptions& data) override {
    train_ = encoded_pairs(train_pairs_, data);
    validation_ = encoded_pairs(validation_pairs_, data);
  }
  void check(const deltaw::Model& model, const deltaw::Adapter* adapter) const override {
    for (const auto& rows : {train_, validation_}) Contrastive().check(model, adapter, *rows, "the data");
  }
  std::optional<int64_t> cut_rows(deltaw::Split split) const override {
    const auto& pairs = deltaw::as_rows<PairRows>(split == deltaw::Split::train ? *train_ : *validation_);
    return deltaw::truncated_rows(pairs.first().rows()) + deltaw::truncated_rows(pairs.second().rows());
  }
  deltaw::Json row(deltaw::Split split, int64_t position) const override {
    const auto& pairs = deltaw::as_rows<PairRows>(split == deltaw::Split::train ? *train_ : *validation_);
    const auto row = static_cast<size_t>(position);
    return {{"ids", pairs.first().rows()[row].ids}, {"pair_ids", pairs.second().rows()[row].ids}};
  }
  deltaw::ModelCard model_card() const override {
    return {.pipeline_tag = "sentence-similarity",
            .python_class = "AutoModelForSequenceClassification",
            .load_arguments = ", num_labels=" + std::to_string(kWidth),
            .command = "predict",
            .command_arguments = "--input_file pairs.tsv"};
  }

  /// The head is a projection: its outputs have no names.
  void choose_model(deltaw::TaskFiles& files) override {
    files.model.num_labels = kWidth;
    files.model.ignore_mismatched_sizes = true;
    files.model.problem_type = "single_label_classification";
  }
  std::shared_ptr<const deltaw::RowSource> rows_to_score(const deltaw::AskedModel& /*asked*/,
                                                         deltaw::TaskFiles& files) override {
    choose_columns(files.data);
    return encoded_pairs(split_of(files, deltaw::Split::validation), files.data);
  }
  std::shared_ptr<const deltaw::RowSource> rows_to_predict(const deltaw::AskedModel& /*asked*/,
                                                           deltaw::TaskFiles& files, const std::string& file,
                                                           std::vector<deltaw::Json>& ids) override {
    choose_columns(files.data);
    const deltaw::Dataset pairs = file.empty() ? split_of(files, deltaw::Split::test)
                                               : deltaw::load_file(file, files.data, {}, deltaw::Labels::ignored);
    for (const deltaw::Example& row : pairs.rows) ids.push_back(row.id);
    return encoded_pairs(pairs, files.data);
  }
  /// Sentences alone are no pairs.
  deltaw::Batch probe(const deltaw::AskedModel& asked, const deltaw::TaskFiles& files) const override {
    return TaskReader::probe(asked, files);
  }

 protected:
  deltaw::Json sample() const override {
    const deltaw::Example& first = train_pairs_.rows.front();
    const auto& ids = deltaw::as_rows<PairRows>(*train_).first().rows().front().ids;
    deltaw::Json tokens = deltaw::Json::array();
    for (const int64_t id : ids) tokens.push_back(tokenizer().id_to_token(id).value_or("?"));
    return {{"text", first.text + " | " + first.text_pair}, {"ids", ids}, {"tokens", tokens}};
  }

 private:
  static constexpr int64_t kWidth = 16;

  static void choose_columns(deltaw::DataOptions& data) {
    if (data.text_column.empty()) data.text_column = "first";
    if (data.text_pair_column.empty()) data.text_pair_column = "second";
  }
  static deltaw::Dataset split_of(const deltaw::TaskFiles& files, deltaw::Split split) {
    return deltaw::load_split(files.data, split, {}, deltaw::Labels::ignored, files.seed);
  }
  std::shared_ptr<const PairRows> encoded_pairs(const deltaw::Dataset& pairs, const deltaw::DataOptions& data) const {
    deltaw::Dataset first, second;
    for (const deltaw::Example& row : pairs.rows) {
      first.rows.push_back({.text = row.text});
      second.rows.push_back({.text = row.text_pair});
    }
    return std::make_shared<const PairRows>(deltaw::encode_rows(first, tokenizer(), data.max_length),
                                            deltaw::encode_rows(second, tokenizer(), data.max_length), pad_id_);
  }

  double scale_ = 20;
  deltaw::Dataset train_pairs_, validation_pairs_;
};

inline const deltaw::TaskSpec& task_contrastive() {
  static const deltaw::TaskSpec spec{.id = "contrastive",
                                     .title = "pairs of texts",
                                     .make = [] { return std::make_unique<Contrastive>(); },
                                     .reader = [] { return std::make_unique<PairReader>(); },
                                     .head = "SEQ_CLS",
                                     .words = {.model = "model of pairs",
                                               .models = "models of pairs",
                                               .keys = "Pairs of texts",
                                               .evaluates = "a model of pairs by the texts that find their partner",
                                               .predicts = "{\"row\": ..., \"similarity\": ...} for pairs",
                                               .tensors = "`first` and `second` [rows, width] of pairs"}};
  return spec;
}
