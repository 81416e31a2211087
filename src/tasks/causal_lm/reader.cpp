#include "tasks/causal_lm/reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/file_formats.h"
#include "deltaw/error.h"
#include "deltaw/evaluate.h"
#include "deltaw/generate.h"
#include "deltaw/text_rows.h"
#include "tasks/causal_lm/evaluation.h"
#include "tasks/causal_lm/predictions.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"

namespace deltaw::causal_lm {
namespace {

namespace fs = std::filesystem;

/// Tokens that the model is to learn, with the names of LLaMA-Factory.
struct VocabularyKeys {
  std::vector<std::string> add_tokens;
  std::vector<std::string> add_special_tokens;

  void fields(FieldVisitor& f) {
    f.field("add_tokens", add_tokens,
            "New tokens of a language model. Embeddings and head get rows for them where the checkpoint has none to "
            "spare, which start as the mean of its rows, and these rows train.");
    f.field("add_special_tokens", add_special_tokens,
            "The same for tokens that are left out of decoded text, such as the marks of a chat template.");
  }
};

/// The end-of-text token that rows get: the tokenizer's, else the first of end_token_ids().
std::optional<int64_t> end_id_of(const Tokenizer& tokenizer, const Model& model) {
  if (const auto id = tokenizer.eos_id()) return id;
  const std::vector<int64_t> ids = end_token_ids(model, tokenizer);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

/// The model's options with the vocabulary that these adapters were made for.
void take_vocabularies(TaskFiles& files) {
  for (const fs::path& folder : files.adapters) files.model = with_adapter_vocabulary(std::move(files.model), folder);
}

class Reader final : public TextReader {
 public:
  // ---- keys of its own ----

  void fields(FieldVisitor& f) override { text_.fields(f); }
  void training_fields(FieldVisitor& f) override { vocabulary_.fields(f); }
  void evaluation_fields(FieldVisitor& f) override { evaluation_.fields(f); }

  std::vector<std::string> kept_keys() const override {
    return {"completion_only_loss", "as_conversation", "max_bad_rows"};
  }

  std::vector<std::pair<std::string, std::string>> named_files() const override {
    return {{"chat_template", text_.chat_template}};
  }

  std::vector<IdleKeys> idle_keys(const DataOptions& data, bool trains) const override {
    std::vector<IdleKeys> idle = {{{"text_pair_column", "label_names", "problem_type", "ignore_mismatched_sizes"},
                                   "the model is a causal language model and has no classes"}};
    const std::vector<std::string>& names = data.train_file.names();
    if (trains && names.size() == 1 && data::ending_of(names[0]) == ".txt") {
      idle.push_back(
          {{"text_column", "label_column", "completion_only_loss", "as_conversation", "max_bad_rows", "chat_template"},
           "a .txt file is one running text"});
    }
    return idle;
  }

  void refuse_keys(const TaskSpec& trained, const fs::path& base) const override {
    if (vocabulary_.add_tokens.empty() && vocabulary_.add_special_tokens.empty()) return;
    throw Error(
        {.id = "config.unsupported",
         .what = fmt::format("new tokens are for causal language models, and this checkpoint is trained as a {}",
                             trained.words.model),
         .where = base.string() + ", keys 'add_tokens', 'add_special_tokens'",
         .fix = "leave the keys out, or name a causal language model"});
  }

  // ---- a run ----

  void read(TaskFiles& files) override {
    take_vocabularies(files);
    add_vocabulary(files);
    const auto chat_template = tasks::find_chat_template(text_, folders_);
    texts_ = load_text_data(files.data, text_, tasks::renderer_of(chat_template), files.seed);
  }

  bool has_validation() const override { return !texts_.validation.rows.empty(); }
  bool smooths_labels() const override { return true; }
  std::vector<std::string> metrics(const DataOptions& /*data*/) const override { return {"loss"}; }
  void check_metric(const std::string& name) const override { causal_lm::check_metric(name); }

  void settle_adapter(const Model& model, AdapterConfig& config) const override {
    train_new_tokens(model, config, new_tokens_);
  }

  void encode(const Model& model, const DataOptions& data) override {
    train_ = encoded(texts_.train, model, data, train_facts_);
    std::vector<int64_t> ends = taught_ends();
    ends.insert(ends.end(), train_facts_.turn_ends.begin(), train_facts_.turn_ends.end());
    turn_ends_ = std::move(ends);
    validation_ = encoded(texts_.validation, model, data, validation_facts_);
  }

  Json facts(const DataOptions& data) const override {
    Json facts = TextReader::facts(data);
    int64_t tokens = 0;
    for (const int64_t length : costs_of(*train_)) tokens += length;
    facts["tokens"] = tokens;
    facts["trained_tokens"] = train_facts_.trained;
    facts["bad_rows"] = train_facts_.left_out;
    facts["validation_bad_rows"] = validation_facts_.left_out;
    facts["packed"] = text_.packing;
    return facts;
  }

  std::vector<std::string> warnings(const Model& model, const Adapter* adapter,
                                    const DataOptions& data) const override {
    const int64_t readable = tasks::readable_length(model, adapter, tokenizer());
    std::vector<std::string> found = deltaw::warnings(train_facts_, data.max_length, readable);
    TextFacts facts = validation_facts_;
    facts.without_end = 0;  // how rows end is said of those that are trained on
    for (const std::string& sentence : deltaw::warnings(facts, data.max_length, readable)) {
      found.push_back("validation: " + sentence);
    }
    return found;
  }

  Json results(Split split) const override {
    return {{"bad_rows", (split == Split::train ? train_facts_ : validation_facts_).left_out}};
  }

  ModelCard model_card() const override {
    return {.pipeline_tag = "text-generation",
            .python_class = "AutoModelForCausalLM",
            .command = "generate",
            .command_arguments = "--prompt \"...\""};
  }

  void write_companions(const Model& model, const fs::path& folder) const override {
    TextReader::write_companions(model, folder);
    if (!tokenizer_) return;
    write_generation_config(model, tokenizer(), turn_ends_ ? *turn_ends_ : taught_ends(), folder);
  }

  // ---- a model that is asked ----

  void choose_model(TaskFiles& files) override { take_vocabularies(files); }

  void begin_asking(const AskedModel& asked, TaskFiles& files) override {
    TextReader::begin_asking(asked, files);
    end_id_ = end_id_of(tokenizer(), asked.model);
    chat_template_ = tasks::find_chat_template(text_, folders_);
  }

  Json evaluate(const AskedModel& asked, TaskFiles& files) override { return of_evaluation(evaluated, asked, files); }

  /// By perplexity, whatever the protocol.
  std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files) override {
    return of_evaluation(scored_rows, asked, files);
  }

  std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file) override {
    TextDataset texts = input_of(files, file);
    std::vector<EncodedRow> rows =
        encode_texts(texts, tokenizer(), files.data.max_length, end_id_, Untrained::kept).rows;
    tasks::check_rows(asked.model, asked.adapter, rows, &tokenizer());
    warn_of_cut_rows(truncated_rows(rows), static_cast<int64_t>(rows.size()), files);
    return predictions_of(asked, std::move(texts), std::move(rows), pad_id_, tokenizer().pads_left());
  }

 protected:
  /// `parts` are the stretches of the first row that are learned and those that are not.
  Json sample() const override {
    const EncodedRow& row = as_rows<CausalRows>(*train_).rows().front();
    Json parts = Json::array();
    std::string text;
    for (const SampleToken& token : describe_row(row, tokenizer())) {
      text += token.text;
      if (parts.empty() || parts.back()["trained"] != token.trained) {
        parts.push_back({{"text", ""}, {"trained", token.trained}});
      }
      parts.back()["text"] = parts.back()["text"].get<std::string>() + token.text;
    }
    return {{"text", text}, {"parts", parts}, {"ids", row.ids}, {"tokens", tasks::token_names(row.ids, tokenizer())}};
  }

  std::string counts_text(const Json& facts) const override {
    return fmt::format("         {} tokens, {} of them trained on\n", tasks::count_text(facts["tokens"]),
                       tasks::count_text(facts["trained_tokens"]));
  }

  /// What is read and what is learned, in turn.
  std::string sample_text(const Json& sample) const override {
    std::string lines;
    for (const Json& part : sample["parts"]) {
      lines += (part["trained"].get<bool>() ? " learns  " : "  reads  ") +
               tasks::shortened(part["text"].get<std::string>(), 300) + "\n";
    }
    return lines;
  }

  std::string chat_template_file() const override { return text_.chat_template; }

 private:
  template <class Result>
  Result of_evaluation(Result (*function)(const Evaluation&), const AskedModel& asked, const TaskFiles& files) const {
    const LanguageModel lm{.model = asked.model,
                           .adapter = asked.adapter,
                           .tokenizer = tokenizer(),
                           .pad_id = pad_id_,
                           .batch_size = asked.batch_size,
                           .progress = asked.progress,
                           .taught_ends = taught_ends()};
    const ChatRenderer render = tasks::renderer_of(chat_template_);
    return function({.lm = lm,
                     .options = evaluation_,
                     .files = files,
                     .text = text_,
                     .render = render,
                     .end_id = end_id_,
                     .readable = readable_});
  }

  /// The tokenizer and the model's size with the tokens that were asked for.
  void add_vocabulary(TaskFiles& files) {
    for (const bool special : {false, true}) {
      for (const std::string& token : special ? vocabulary_.add_special_tokens : vocabulary_.add_tokens) {
        if (tokenizer_->add_tokens({token}, special) > 0) new_tokens_.push_back(*tokenizer_->token_to_id(token));
      }
    }
    if (new_tokens_.empty()) return;
    tokens_added_ = true;
    const int64_t last = *std::max_element(new_tokens_.begin(), new_tokens_.end());
    files.model.vocab_size = std::max(tokenizer_->vocab_size(), last + 1);
    if (!files.adapters.empty()) refuse_new_tokens(files);
  }

  /// The rows of an adapter that has some are settled.
  [[noreturn]] void refuse_new_tokens(const TaskFiles& files) const {
    throw Error({.id = "config.conflict",
                 .what = fmt::format("'{}' is no token of the adapter that training goes on from",
                                     tokenizer_->id_to_token(new_tokens_.front()).value_or("?")),
                 .where = files.asked_where + ", keys 'add_tokens', 'add_special_tokens'",
                 .fix = "leave it out, or train a new adapter with it"});
  }

  /// What training taught these adapters as the end of a turn.
  std::vector<int64_t> taught_ends() const {
    std::vector<int64_t> ids;
    for (const fs::path& folder : adapters_) {
      for (const int64_t id : taught_end_ids(folder)) ids.push_back(id);
    }
    return ids;
  }

  std::shared_ptr<const CausalRows> encoded(const TextDataset& texts, const Model& model, const DataOptions& data,
                                            TextFacts& facts) const {
    std::vector<EncodedRow> rows;
    if (!texts.rows.empty()) {
      EncodedTexts encoded = encode_texts(texts, tokenizer(), data.max_length, end_id_of(tokenizer(), model));
      facts = encoded.facts;
      rows = text_.packing ? pack_rows(encoded.rows, data.max_length) : std::move(encoded.rows);
    }
    return std::make_shared<const CausalRows>(std::move(rows), pad_id_, tokenizer().pads_left());
  }

  /// The texts as they stand: only an answer is followed by an end-of-text token.
  TextDataset input_of(const TaskFiles& files, const fs::path& file) const {
    DataFiles input = file;
    if (input.empty()) {
      const auto test = text_split_file(files.data, Split::test);
      if (!test) {
        throw Error({.id = "config.no-data",
                     .what = "there is nothing to predict",
                     .where = "keys 'input_file' and 'test_file'",
                     .fix = "--input_file texts.txt"});
      }
      input = *test;
    }
    TextDataset texts;
    if (!tasks::is_lines(input)) {
      texts = load_texts(input, files.data, text_, tasks::renderer_of(chat_template_), Blank::kept);
    } else {
      for (Example& row : tasks::read_lines(input.names()[0], files.data.encoding).rows) {
        const size_t size = row.text.size();
        texts.rows.push_back(
            {.text = std::move(row.text), .trained = {{0, size}}, .line = row.line, .record = row.line});
      }
      texts.ids.resize(texts.rows.size());
    }
    for (TextExample& row : texts.rows) row.end &= row.answers;
    return texts;
  }

  TextOptions text_;
  VocabularyKeys vocabulary_;
  EvaluationOptions evaluation_;

  TextData texts_;
  std::vector<int64_t> new_tokens_;  // ids that add_tokens and add_special_tokens gave the tokenizer
  TextFacts train_facts_, validation_facts_;
  std::optional<std::vector<int64_t>> turn_ends_;  // what training teaches, and taught before, as the end of a turn

  std::optional<ChatTemplate> chat_template_;
  std::optional<int64_t> end_id_;
};

}  // namespace

void check_metric(const std::string& name) {
  if (name == "loss" || name == "perplexity") return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of a causal language model", name),
               .where = "key \"metric_for_best_model\"",
               .fix = "loss or perplexity"});
}

std::unique_ptr<TaskReader> make_reader() {
  return std::make_unique<Reader>();
}

}  // namespace deltaw::causal_lm
