// The training loop.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/task.h"

namespace deltaw {

/// The keys of Hugging Face's TrainingArguments that this trainer has, with their names and defaults.
struct TrainOptions {
  std::string output_dir = "output";
  double num_train_epochs = 3;
  int64_t max_steps = -1;  // wins over num_train_epochs
  int64_t per_device_train_batch_size = 8;
  int64_t per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  double learning_rate = 5e-5;
  std::string lr_scheduler_type = "linear";  // linear, cosine, cosine_with_min_lr, constant, constant_with_warmup
  Json lr_scheduler_kwargs;                  // of cosine_with_min_lr: {"min_lr": 1e-6} or {"min_lr_rate": 0.01}
  double warmup_ratio = 0;
  double warmup_steps = 0;  // below 1: a ratio
  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1;  // 0: no clipping
  double label_smoothing_factor = 0;
  bool gradient_checkpointing = false;  // keep what enters each block only, and compute it again going back
  int64_t logging_steps = 50;
  std::string eval_strategy = "no";  // no, steps, epoch
  int64_t eval_steps = 500;
  bool eval_on_start = false;
  std::string save_strategy = "no";  // no, steps, epoch
  int64_t save_steps = 500;
  int64_t save_total_limit = 0;  // 0: keep all
  bool load_best_model_at_end = false;
  std::string metric_for_best_model;    // empty: the task's own
  bool greater_is_better = true;        // losses and errors are always better when smaller
  int64_t early_stopping_patience = 0;  // evaluations without improvement; 0: off
  double early_stopping_threshold = 0;
  int64_t seed = 42;
  int64_t data_seed = -1;  // -1: seed
  std::string
      resume_from_checkpoint;  // a folder, "true" for the newest checkpoint in output_dir, "auto" if there is one

  void fields(FieldVisitor& f);
};

/// What one moment of a run reports: the console, the JSON-lines log and trainer_state.json are made from it.
struct TrainEvent {
  enum class Kind { step, log, eval, save, end } kind = Kind::step;
  int64_t step = 0;
  int64_t max_steps = 0;
  double epoch = 0;
  // step: loss, grad_norm, learning_rate; data_wait_seconds, until the batches were there, forward_seconds,
  // backward_seconds and optimizer_seconds, which together are the step (the gradient of a causal model's logits
  // belongs to the second, clipping and the rank budget to the last). log: loss as the mean since the last log,
  // grad_norm, learning_rate, epoch, tokens_per_second, data_wait_share, which is the share of the steps' time since
  // then that waited for batches, num_input_tokens_seen, and "ranks", what each layer keeps, once a rank budget has
  // pruned. eval: the metrics and eval_runtime, eval_samples_per_second, eval_steps_per_second. save: "checkpoint", its
  // path. end: train_loss, and "signal" where stop_when ended the run.
  Json values;
};

struct TrainResult {
  int64_t steps = 0;
  double seconds = 0;
  double train_loss = 0;          // mean over all steps
  double first_loss = 0;          // of the first step
  double last_loss = 0;           // the median of the last steps', that of the first where there is no other
  double chance_loss = 0;         // of one who guesses: every class or token alike, 0 for every score
  double first_step_seconds = 0;  // from process start
  Json eval_metrics;              // of the last evaluation; of the best checkpoint when it was loaded
  bool stopped_early = false;
  int signal = 0;  // nonzero: what stop_when answered; a checkpoint was written
};

/// Whether the run ended far above both its first loss and that of guessing, by the last steps or by the eval_loss of
/// `metrics`. Overfitting and noise stay below that. A loss that is no number ends a run with an error.
bool has_diverged(const TrainResult& result, const Json& metrics);

/// Trains `adapter` for `task`. Throws numeric.non-finite naming step and tensor, config.* for a schedule that cannot
/// be. Checkpoints go to output_dir/checkpoint-<step>, whole or not at all, with the whole state: resuming gives the
/// adapter of an undisturbed run byte for byte. Of output_dir only what its manifest lists as deltaw's is replaced or
/// removed. `model`, `adapter` and `task` must outlive the trainer.
class Trainer {
 public:
  Trainer(const Model& model, Adapter& adapter, const Task& task, TrainOptions options);
  ~Trainer();

  /// `validation` may be null. `group_by_length`: batches hold rows of similar cost (see plan_batches).
  void set_data(std::shared_ptr<const RowSource> train, std::shared_ptr<const RowSource> validation = nullptr,
                bool group_by_length = false);
  /// The metrics of evaluate(), in place of the task's own; the first chooses the best checkpoint unless the options
  /// name another.
  void set_metrics(std::vector<std::string> names);
  /// Called in each checkpoint folder before it takes its name, to add tokenizer, model card and configuration.
  void set_companions(std::function<void(const std::filesystem::path&)> write);
  void on_event(std::function<void(const TrainEvent&)> callback);
  /// Asked after every step: anything but 0 ends the run there with a checkpoint and is TrainResult::signal. The
  /// trainer itself handles no signals; a program that does can answer with the number of the one that it has caught.
  void stop_when(std::function<int()> asked);

  TrainResult train();
  Json evaluate();              // metrics on the validation rows, "eval_" before each name
  int64_t total_steps() const;  // optimiser updates; needs the data

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltaw
