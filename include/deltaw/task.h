// What the author of a task needs: the contract between a task and the engine.
//
// A task says what a model is trained for: what goes through the model, the loss of that, and its scores. The engine
// does the rest: batches, accumulation, the optimiser, checkpoints, evaluation. One source file in tasks/ defines one
// task and `task_<file name>()`; the build makes the table from the folder.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/batch.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"

namespace deltaw {

/// What a model makes of a batch and the loss is taken of: logits; features; two embeddings. Their first axis counts
/// the batch's rows where a task compares_rows().
using Outputs = std::vector<Tensor>;

/// How the loss of a batch counts in its step.
struct LossScale {
  double total_weight = 0;     // Task::weight() of all batches of the step
  double label_smoothing = 0;  // the share of a label that is spread over all classes
};

/// Collects what a model makes of every row and scores it.
class Scorer {
 public:
  virtual ~Scorer() = default;
  /// Batches come in any order, each row once.
  virtual void add(const Outputs& outputs, const Batch& batch) = 0;
  /// {"loss": ..., "accuracy": ...}. Throws numeric.non-finite for a loss that is no number.
  virtual Json metrics() = 0;
  /// What the model says of the row at a position: {"label": ..., "logits": [...]}. Throws numeric.non-finite.
  virtual Json row(int64_t /*position*/) { return Json::object(); }
  /// The raw numbers behind that, of all rows: name and float32 tensor. Throws numeric.non-finite.
  virtual std::vector<std::pair<std::string, Tensor>> tensors() { return {}; }
};

class Task {
 public:
  virtual ~Task() = default;

  // ---- rows ----

  /// Throws data.* for rows that the model cannot take, or that nothing can be learned from. `split` names them in the
  /// error: "training". `adapter` may be null.
  virtual void check(const Model& model, const Adapter* adapter, const RowSource& rows,
                     const std::string& split) const = 0;
  /// Rows of `cost` each, to time a step with.
  virtual std::unique_ptr<RowSource> random_rows(const Model& model, int64_t rows, int64_t cost,
                                                 uint64_t seed) const = 0;

  // ---- training ----

  virtual Outputs outputs(const Model& model, const Batch& batch, Call& call) const = 0;
  /// What a batch counts in its step: rows, or tokens that are learned.
  virtual double weight(const Batch& batch) const = 0;
  /// A scalar with a gradient: the batch's share of the mean over the step, so that the losses of all batches of a step
  /// add up to that of one large batch. In float32 or wider.
  virtual Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& call,
                      const LossScale& scale) const = 0;
  /// True: the loss of a row depends on the other rows of the step, as in contrastive training. Then the engine gives
  /// loss() the outputs of all batches of a step joined, and runs each batch a second time for the gradients, at the
  /// memory of one batch (Gao et al. 2021, arXiv:2101.06983).
  virtual bool compares_rows() const { return false; }
  /// Whether label_smoothing means something.
  virtual bool smooths_labels(const Model& /*model*/) const { return false; }
  /// The mean loss of guessing.
  virtual double chance_loss(const Model& model, const RowSource& rows) const = 0;
  /// Bytes at work while the loss of `tokens` is taken, beside the model's own.
  virtual double loss_bytes(const Model& /*model*/, double /*tokens*/) const { return 0; }

  // ---- scores ----

  /// The names of scores; the first chooses the best checkpoint unless the options name another.
  virtual std::vector<std::string> metrics(const Model& model) const = 0;
  /// Throws config.unknown-metric for a name that is none of the task's. "loss" is one of every task.
  virtual void check_metric(const Model& model, const std::string& name) const = 0;
  /// `metrics`: which of them; the loss always.
  virtual std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* adapter, const RowSource& rows,
                                         std::vector<std::string> metrics) const = 0;
  /// What two models are compared by, [n, width]: logits, without those of padding.
  virtual Tensor comparable(const Model& model, const Outputs& outputs, const Batch& batch, Call& call) const = 0;
};

class TaskReader;

/// What help and messages say of a task.
struct TaskWords {
  std::string model = {};            // what is trained for it: "classifier"
  std::string models = {};           // "classifiers"; tasks are listed in this order
  std::string keys = {};             // title of its own keys
  std::string evaluation_keys = {};  // and of those of `eval`
  std::string prediction_keys = {};  // and of those of `predict`
  std::string evaluates = {};        // what `eval` does: "a classifier by the task's metrics"
  std::string predicts = {};         // the lines of `predict`: "{\"row\": ..., \"label\": score} for regression"
  std::string tensors = {};          // what logits_file holds: "`logits` [rows, labels]"
};

/// A task as the table lists it.
struct TaskSpec {
  std::string id;     // PEFT's task_type, or the name of transformers' pipeline where PEFT has none
  std::string title;  // "sequence classification"
  std::function<std::unique_ptr<Task>()> make = {};
  /// How files become its rows (deltaw/task_reader.h). Empty: a program of its own makes them.
  std::function<std::unique_ptr<TaskReader>()> reader = {};
  std::string head = {};   // the task_type that load_model is to load; empty: `id`
  int64_t max_length = 0;  // where nobody says; 0: that of DataOptions
  TaskWords words = {};
};

/// All tasks, by id: the built-in ones and those registered from outside.
std::vector<const TaskSpec*> task_table();

/// By id. Throws config.unknown-task-type, which lists them.
const TaskSpec& find_task(const std::string& id);

/// Adds a task from outside the library; `spec` must live as long as the program. Throws config.task-exists.
void register_task(const TaskSpec& spec);

/// The tasks in the order of TaskWords::models.
std::vector<const TaskSpec*> listed_tasks();

/// The task_type that load_model is to load for a task: its TaskSpec::head, or the id itself where the table says
/// nothing of it.
std::string head_type(const std::string& id);

/// What a family's checkpoints are loaded for where neither config.json nor anybody else says.
std::string usual_task_type(const FamilySpec& family);

/// What a checkpoint is used for: the task that is asked for or, where none is, what load_model makes of it. Throws
/// what task_type_of throws.
const TaskSpec& task_for(const std::string& model_name_or_path, const std::string& asked = {});

/// The task that a model was loaded for.
std::unique_ptr<Task> task_of(const Model& model);

/// Runs every row through the model, without dropout or gradients, the costliest first, and tells `scorer`. Rows that
/// weigh nothing are passed over.
void score(const Task& task, const Model& model, const Adapter* adapter, const RowSource& rows, int64_t batch_size,
           Scorer& scorer, const Progress& progress = {});

/// The first `samples` rows that training takes, for a start from data (Adapter::create). The task must outlive them.
std::vector<CalibrationBatch> calibration_batches(const Task& task, const RowSource& rows, int64_t batch_size,
                                                  uint64_t seed, int64_t samples);

/// For merge_checkpoint and export_lora: what a model makes of `batch`. The task must outlive it.
Probe probe_of(const Task& task, Batch batch);

}  // namespace deltaw
