// What the author of a task writes beside its Task, so that the program trains it from files.
//
// A TaskReader knows the task's own keys, how files become rows, and what is said of them. The verbs ask it in this
// order and know no task:
//
//   train, validate         load_preprocessors, read, the model, begin_training, the adapter, encode, check
//   eval, predict, merge    choose_model, the model, the adapter, begin_asking, then evaluate, predict or probe
//
// One reader serves one run, or one model that is asked. TextReader has what tasks of text share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/batch.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"
#include "deltaw/task.h"
#include "deltaw/tokenizer.h"

namespace deltaw {

/// What rows are read from. A reader settles in `data` and `model` what the files decide.
struct TaskFiles {
  DataOptions& data;
  ModelOptions& model;
  std::filesystem::path base;                         // the checkpoint's folder
  std::vector<std::filesystem::path> adapters = {};   // that act, or the one that training goes on from
  uint64_t seed = 0;                                  // of rows that are held out
  bool length_given = false;                          // max_length was asked for, or trained with
  bool length_asked = false;                          // max_length was asked for
  Json asked = Json::object();                        // every key that the run was given
  std::string asked_where = {};                       // who gave them: a file, or the command line
  std::function<void(const std::string&)> warn = {};  // takes one sentence

  /// The folders whose files are read beside the model: the first adapter's, then the checkpoint's.
  std::vector<std::filesystem::path> folders() const;
};

/// A model that is asked.
struct AskedModel {
  const Task& task;
  const Model& model;
  const Adapter* adapter = nullptr;  // null: the base alone
  int64_t batch_size = 8;
  Progress progress = {};  // by rows
};

/// What a model says of the rows of a file.
class Predictions {
 public:
  virtual ~Predictions() = default;
  virtual int64_t size() const = 0;
  /// The id that the file gives a row; null where it has none.
  virtual Json id(int64_t row) const = 0;
  /// As Scorer's.
  virtual Json row(int64_t row) = 0;
  virtual std::vector<std::pair<std::string, Tensor>> tensors() = 0;
};

/// What the page beside an adapter says of its use.
struct ModelCard {
  std::string pipeline_tag;         // the Hub's: "text-generation"
  std::string python_class;         // transformers' "AutoModelForCausalLM"
  std::string load_arguments = {};  // of its from_pretrained, behind the model: ", num_labels=3"
  std::string command;              // of deltaw: "generate"
  std::string command_arguments;    // "--prompt \"...\""
};

/// Keys that change nothing, and why: "the model has no classes".
struct IdleKeys {
  std::vector<std::string> keys;
  std::string reason;
};

class TaskReader {
 public:
  virtual ~TaskReader() = default;

  // ---- keys of its own ----

  /// Those of every verb that reads rows, those of training beside them, and those of `eval` and of `predict`.
  virtual void fields(FieldVisitor& /*f*/) {}
  virtual void training_fields(FieldVisitor& /*f*/) {}
  virtual void evaluation_fields(FieldVisitor& /*f*/) {}
  virtual void prediction_fields(FieldVisitor& /*f*/) {}
  /// Which of fields() an adapter keeps: what a run was given acts again when its model is asked.
  virtual std::vector<std::string> kept_keys() const { return {}; }
  /// Key and path of the files that its keys name.
  virtual std::vector<std::pair<std::string, std::string>> named_files() const { return {}; }
  /// Keys of all tasks that are idle in this one. Keys of other tasks are idle without being listed.
  virtual std::vector<IdleKeys> idle_keys(const DataOptions& /*data*/, bool /*trains*/) const { return {}; }
  /// Throws where one of its keys was given, another task is trained, and the run would not be what was asked for.
  virtual void refuse_keys(const TaskSpec& /*trained*/, const std::filesystem::path& /*base*/) const {}
  /// The task as its keys have it; by default as the table makes it.
  virtual std::unique_ptr<Task> make_task(const TaskSpec& spec) const { return spec.make(); }

  // ---- a run ----

  /// The tokenizer, an image processor: what rows are made with.
  virtual void load_preprocessors(const TaskFiles& /*files*/) {}
  /// The rows of training and validation as their files have them, before a model is there, and what follows from them:
  /// labels, their meaning, the vocabulary.
  virtual void read(TaskFiles& files) = 0;
  virtual bool has_validation() const = 0;
  virtual bool smooths_labels() const { return false; }
  /// The scores of what was read; the first one chooses the best checkpoint.
  virtual std::vector<std::string> metrics(const DataOptions& data) const = 0;
  /// Throws config.unknown-metric.
  virtual void check_metric(const std::string& name) const = 0;
  virtual void begin_training(const Model& /*model*/, TaskFiles& /*files*/) {}
  /// What of the base must train: rows of new tokens. Not asked where training goes on from an adapter.
  virtual void settle_adapter(const Model& /*model*/, AdapterConfig& /*config*/) const {}
  /// Makes train() and validation().
  virtual void encode(const Model& model, const DataOptions& data) = 0;
  /// Throws data.* for rows that the model cannot take. `adapter` may be null.
  virtual void check(const Model& /*model*/, const Adapter* /*adapter*/) const {}

  const std::shared_ptr<const RowSource>& train() const { return train_; }
  const std::shared_ptr<const RowSource>& validation() const { return validation_; }

  // ---- what is said of a run ----

  /// For `validate --json`, with "labels" and a "sample", and the same in lines.
  virtual Json facts(const DataOptions& /*data*/) const { return {{"labels", Json::array()}}; }
  virtual std::string facts_text(const Json& /*facts*/) const { return {}; }
  /// What is odd about the rows, one sentence each.
  virtual std::vector<std::string> warnings(const Model& /*model*/, const Adapter* /*adapter*/,
                                            const DataOptions& /*data*/) const {
    return {};
  }
  /// A row as the model gets it, for rows_file.
  virtual Json row(Split /*split*/, int64_t /*position*/) const { return Json::object(); }
  /// How many rows were cut; nothing where rows never are.
  virtual std::optional<int64_t> cut_rows(Split /*split*/) const { return std::nullopt; }
  /// What else the results say of the rows: {"bad_rows": 2}.
  virtual Json results(Split /*split*/) const { return Json::object(); }
  virtual ModelCard model_card() const = 0;
  /// Files that stand beside an adapter and a merged model.
  virtual void write_companions(const Model& /*model*/, const std::filesystem::path& /*folder*/) const {}

  // ---- a model that is asked ----

  /// Settles what the model is loaded with.
  virtual void choose_model(TaskFiles& /*files*/) {}
  virtual void begin_asking(const AskedModel& /*asked*/, TaskFiles& files) { load_preprocessors(files); }
  /// The rows of the validation set. Throws config.no-data where there are none.
  virtual std::shared_ptr<const RowSource> rows_to_score(const AskedModel& asked, TaskFiles& files);
  /// The rows of `file`, or of test_file where that is empty; they need no labels. `ids` takes the rows' ids.
  virtual std::shared_ptr<const RowSource> rows_to_predict(const AskedModel& asked, TaskFiles& files,
                                                           const std::string& file, std::vector<Json>& ids);
  /// {"eval_loss": ..., ...}: by default the scores of rows_to_score().
  virtual Json evaluate(const AskedModel& asked, TaskFiles& files);
  /// By default what the task's scorer says of rows_to_predict().
  virtual std::unique_ptr<Predictions> predict(const AskedModel& asked, TaskFiles& files, const std::string& file);
  /// A batch to compare two models on.
  virtual Batch probe(const AskedModel& asked, const TaskFiles& files) const;

 protected:
  std::shared_ptr<const RowSource> train_, validation_;
};

/// A task of text: a tokenizer, rows of at most max_length tokens, files beside the adapter.
class TextReader : public TaskReader {
 public:
  void load_preprocessors(const TaskFiles& files) override;
  /// max_length as the model allows it, and the padding token.
  void begin_training(const Model& model, TaskFiles& files) override;
  /// The same; where nobody gave a max_length, it is the longest that the model reads.
  void begin_asking(const AskedModel& asked, TaskFiles& files) override;
  void check(const Model& model, const Adapter* adapter) const override;

  Json facts(const DataOptions& data) const override;
  std::string facts_text(const Json& facts) const override;
  std::vector<std::string> warnings(const Model& model, const Adapter* adapter, const DataOptions& data) const override;
  Json row(Split split, int64_t position) const override;
  std::optional<int64_t> cut_rows(Split split) const override;
  void write_companions(const Model& model, const std::filesystem::path& folder) const override;

  /// Sentences, or tokens spread over the vocabulary where there is no tokenizer.
  Batch probe(const AskedModel& asked, const TaskFiles& files) const override;

 protected:
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Rows of a file for a model that is asked: checked, and the cut ones counted.
  std::vector<EncodedRow> encoded(const Dataset& dataset, const AskedModel& asked, const TaskFiles& files) const;
  void warn_of_cut_rows(int64_t cut, int64_t rows, const TaskFiles& files) const;

  // Pieces of facts() and facts_text().
  virtual std::vector<std::string> labels() const { return {}; }
  virtual Json sample() const;
  virtual std::string counts_text(const Json& /*facts*/) const { return {}; }
  virtual std::string sample_text(const Json& sample) const;
  /// A chat template that a key names; it is copied in place of the folders' own.
  virtual std::string chat_template_file() const { return {}; }

  std::optional<Tokenizer> tokenizer_;
  bool tokens_added_ = false;                    // to the tokenizer's files
  std::vector<std::filesystem::path> folders_;   // TaskFiles::folders()
  std::vector<std::filesystem::path> adapters_;  // TaskFiles::adapters
  int64_t pad_id_ = 0;
  int64_t readable_ = 0;  // tokens that the model reads at most, of a model that is asked; 0: not known
};

}  // namespace deltaw
