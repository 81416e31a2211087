#include "tasks/fill_mask/reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/hold_out.h"
#include "deltaw/error.h"
#include "deltaw/text_rows.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"
#include "tasks/fill_mask/masking.h"
#include "tasks/fill_mask/predictions.h"
#include "tasks/fill_mask/rows.h"
#include "tasks/fill_mask/texts.h"

namespace deltaw::fill_mask {
namespace {

class Reader final : public TextReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override {
    row_options_.fields(f);
    masking_.fields(f);
  }

  void evaluation_fields(FieldVisitor& f) override {
    f.field("mask_each", mask_each_,
            "Mask every token of a text, or with whole_word_mask every word, by itself and in turn, in place of a "
            "share of them at once: as many passes as a text has tokens.");
  }

  void prediction_fields(FieldVisitor& f) override {
    f.field("top_k", top_k_, "How many tokens are given for each mask.", at_least(1));
  }

  std::vector<std::string> kept_keys() const override {
    return {"line_by_line", "mlm_probability", "mask_replace_prob", "random_replace_prob", "whole_word_mask"};
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const override {
    return {{{"label_column", "label_names", "problem_type", "ignore_mismatched_sizes"},
             "the model is a masked language model and has no classes"}};
  }

  // ---- a run ----

  void read(TaskFiles& files) override {
    masking_.check(files.asked_where);
    mask_id_ = needed_mask(files);
    seed_ = files.seed;
    texts_ = read_split(files.data, Split::train, files.seed);
    validates_ = deltaw::data::has_validation(files.data);
    if (validates_) validation_texts_ = read_split(files.data, Split::validation, files.seed);
  }

  bool has_validation() const override { return validates_; }
  bool smooths_labels() const override { return true; }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return metric_names(); }
  void check_metric(const std::string& name) const override { fill_mask::check_metric(name); }

  void encode(const Model& model, const DataOptions& data) override {
    train_ = encoded(texts_, model, data, data.max_train_samples, left_out_);
    validation_ = encoded(validation_texts_, model, data, data.max_eval_samples, validation_left_out_);
  }

  Json facts(const DataOptions& data) const override {
    Json facts = TextReader::facts(data);
    int64_t tokens = 0;
    for (const int64_t length : costs_of(*train_)) tokens += length;
    facts["tokens"] = tokens;
    facts["bad_rows"] = left_out_;
    facts["validation_bad_rows"] = validation_left_out_;
    return facts;
  }

  std::vector<std::string> warnings(const Model& model, const Adapter* adapter,
                                    const DataOptions& data) const override {
    std::vector<std::string> found = TextReader::warnings(model, adapter, data);
    const auto note_left_out = [&](int64_t count, const char* which) {
      if (count > 0) found.push_back(fmt::format("{}{}", which, left_out_warning(count)));
    };
    note_left_out(left_out_, "");
    note_left_out(validation_left_out_, "validation: ");
    return found;
  }

  /// Masks are drawn anew in every epoch: `units` are what is chosen together, -1 what never is.
  Json row(Split split, int64_t position) const override {
    const auto& rows = as_rows<MaskedRows>(split == Split::train ? *train_ : *validation_);
    const auto at = static_cast<size_t>(position);
    return {{"ids", rows.rows()[at].ids}, {"units", rows.units()[at]}};
  }

  Json results(Split split) const override {
    return {{"bad_rows", split == Split::train ? left_out_ : validation_left_out_}};
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "fill-mask",
            .python_class = "AutoModelForMaskedLM",
            .command = "predict",
            .command_arguments = "--input_file texts.txt"};
  }

  // ---- a model that is asked ----

  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    masking_.check(files.asked_where);
    mask_id_ = needed_mask(files);
    const Dataset texts = read_split(files.data, Split::validation, files.seed);
    auto rows = encoded(texts, asked.model, files.data, files.data.max_eval_samples, validation_left_out_);
    tasks::check_rows(asked.model, asked.adapter, rows->rows(), &tokenizer());
    warn_of_cut_rows(truncated_rows(rows->rows()), rows->size(), files);
    if (validation_left_out_ > 0) files.warn(left_out_warning(validation_left_out_));
    cut_ = truncated_rows(rows->rows());
    scored_ = rows->size();
    if (mask_each_) return std::make_shared<const UnitsInTurn>(std::move(rows));
    return rows;
  }

  Json evaluate(const AskedModel& asked, TaskFiles& files) override {
    Json results = TextReader::evaluate(asked, files);
    results["eval_samples"] = scored_;  // and not the passes that mask_each makes of them
    return results;
  }

  std::optional<int64_t> cut_rows(Split split) const override {
    return split == Split::validation && cut_ ? cut_ : TextReader::cut_rows(split);
  }

  std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file) override {
    const int64_t mask_id = needed_mask(files);
    const Dataset texts = input_of(files, file);
    std::vector<Json> ids;
    for (const Example& text : texts.rows) ids.push_back(text.id);
    std::vector<EncodedRow> rows = TextReader::encoded(texts, asked, files);
    return fillings_of(asked, std::move(rows), std::move(ids),
                       {.tokenizer = tokenizer(), .mask_id = mask_id, .pad_id = pad_id_, .top_k = top_k_});
  }

 protected:
  /// `masked` is the text as the first epoch has it.
  Json sample() const override {
    const auto& rows = as_rows<MaskedRows>(*train_);
    std::vector<int64_t> ids = rows.rows().front().ids;
    const std::string text = tokenizer().decode(ids);
    for (const Replacement& token : rows.masks_of(0, {.seed = seed_}))
      ids[static_cast<size_t>(token.position)] = token.id;
    return {{"text", text},
            {"masked", tokenizer().decode(ids, /*skip_special_tokens=*/false)},
            {"ids", ids},
            {"tokens", tasks::token_names(ids, tokenizer())}};
  }

  std::string counts_text(const Json& facts) const override {
    return fmt::format("         {} tokens, about {:g} % of them predicted in an epoch\n",
                       tasks::count_text(facts["tokens"]), 100 * masking_.mlm_probability);
  }

  std::string sample_text(const Json& sample) const override {
    return "input    " + tasks::shortened(sample["text"].get<std::string>(), 300) + "\n masked  " +
           tasks::shortened(sample["masked"].get<std::string>(), 300) + "\n";
  }

 private:
  static std::string left_out_warning(int64_t count) {
    return fmt::format("{} {} left out: no token of {} may be masked", count, count == 1 ? "text is" : "texts are",
                       count == 1 ? "it" : "them");
  }

  int64_t needed_mask(const TaskFiles& files) const {
    if (const auto id = tokenizer().mask_id()) return *id;
    throw Error({.id = "config.no-mask-token",
                 .what = "the tokenizer has no mask token, which masked language modelling is about",
                 .where = tasks::tokenizer_folder(files.base, {}).string(),
                 .fix = "set mask_token in tokenizer_config.json, or use a checkpoint that was trained with one"});
  }

  std::shared_ptr<const MaskedRows> encoded(const Dataset& texts, const Model& model, const DataOptions& data,
                                            int64_t most, int64_t& left_out) const {
    EncodedTexts found = encode_texts(texts, tokenizer(),
                                      {.max_length = data.max_length,
                                       .line_by_line = row_options_.line_by_line,
                                       .whole_words = masking_.whole_word_mask,
                                       .most = most});
    left_out = found.left_out;
    if (found.rows.empty() && !texts.rows.empty()) {
      throw Error({.id = "data.no-trained-tokens",
                   .what = fmt::format("none of {} texts has a token that may be masked within max_length {}",
                                       texts.rows.size(), data.max_length),
                   .where = texts.file.string(),
                   .fix = "raise max_length, which counts special tokens too, or give other texts"});
    }
    const Masking masking{
        .options = masking_, .mask_id = mask_id_, .vocabulary = std::min(tokenizer().vocab_size(), model.vocab_size())};
    tasks::check_ids(model, {mask_id_}, "the mask token", &tokenizer());
    return std::make_shared<const MaskedRows>(std::move(found.rows), std::move(found.units), masking, pad_id_,
                                              tokenizer().pads_left());
  }

  static Dataset input_of(const TaskFiles& files, const std::string& file) {
    if (file.empty()) return read_split(files.data, Split::test, files.seed);
    if (tasks::is_lines(file)) return tasks::read_lines(file, files.data.encoding);
    return load_file(file, files.data, {}, Labels::ignored);
  }

  RowOptions row_options_;
  MaskingOptions masking_;
  bool mask_each_ = false;
  int64_t top_k_ = 5;

  int64_t mask_id_ = 0;
  uint64_t seed_ = 0;
  Dataset texts_, validation_texts_;
  bool validates_ = false;
  int64_t left_out_ = 0, validation_left_out_ = 0;
  std::optional<int64_t> cut_;  // of the rows to score
  int64_t scored_ = 0;          // how many they are
};

}  // namespace

std::vector<std::string> metric_names() {
  return {"loss", "accuracy"};
}

void check_metric(const std::string& name) {
  if (name == "loss" || name == "accuracy" || name == "perplexity") return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of a masked language model", name),
               .where = "key \"metric_for_best_model\"",
               .fix = "loss, accuracy or perplexity"});
}

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::fill_mask
