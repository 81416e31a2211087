#include "train/train_options.h"

#include <fmt/format.h>

#include "deltaw/error.h"

namespace deltaw {

void TrainOptions::fields(FieldVisitor& f) {
  const auto strategies = one_of({"no", "steps", "epoch"});
  f.field("output_dir", output_dir, "Folder of the adapter, checkpoints and results.");
  f.field("num_train_epochs", num_train_epochs, "Passes over the training rows.", above(0));
  f.field("max_steps", max_steps, "Optimiser updates; when positive it wins over num_train_epochs.", at_least(-1));
  f.field("per_device_train_batch_size", per_device_train_batch_size, "Rows of one forward pass.", at_least(1));
  f.field("per_device_eval_batch_size", per_device_eval_batch_size, "Rows of one forward pass in evaluation.",
          at_least(1));
  f.field("gradient_accumulation_steps", gradient_accumulation_steps, "Forward passes of one optimiser update.",
          at_least(1));
  f.field("learning_rate", learning_rate, "Peak learning rate of AdamW.", at_least(0));
  f.field("lr_scheduler_type", lr_scheduler_type, "How the rate changes after the warm-up; linear and cosine end at 0.",
          one_of({"linear", "cosine", "cosine_with_min_lr", "constant", "constant_with_warmup"}));
  f.field(
      "lr_scheduler_kwargs", lr_scheduler_kwargs,
      "Where cosine_with_min_lr ends: {\"min_lr\": RATE} or, as a share of learning_rate, {\"min_lr_rate\": SHARE}.");
  f.field("warmup_ratio", warmup_ratio, "Share of all steps in which the rate rises from 0.", between(0, 1));
  f.field("warmup_steps", warmup_steps,
          "Steps in which the rate rises from 0; below 1 a share of all steps. Wins over "
          "warmup_ratio.",
          at_least(0));
  f.field("weight_decay", weight_decay, "Decoupled weight decay; biases and norms are left out.", at_least(0));
  f.field("adam_beta1", adam_beta1, "Decay of AdamW's mean gradient.", fraction());
  f.field("adam_beta2", adam_beta2, "Decay of AdamW's mean squared gradient.", fraction());
  f.field("adam_epsilon", adam_epsilon, "Added to AdamW's denominator.", at_least(0));
  f.field("max_grad_norm", max_grad_norm, "Gradients are scaled down to this norm; 0 is no limit.", at_least(0));
  f.field("label_smoothing_factor", label_smoothing_factor,
          "Share of each label spread over all classes in the training loss.", fraction());
  f.field("gradient_checkpointing", gradient_checkpointing,
          "Keep only what enters each block of layers and compute the rest again in the backward pass: less memory, "
          "more time, the same numbers.");
  f.field("logging_steps", logging_steps, "Steps from one log line to the next.", at_least(1));
  f.field("eval_strategy", eval_strategy, "When the validation rows are scored.", strategies);
  f.field("eval_steps", eval_steps, "Steps from one evaluation to the next (eval_strategy steps).", at_least(1));
  f.field("eval_on_start", eval_on_start, "Also score the validation rows before the first step.");
  f.field("save_strategy", save_strategy, "When a checkpoint is written.", strategies);
  f.field("save_steps", save_steps, "Steps from one checkpoint to the next (save_strategy steps).", at_least(1));
  f.field("save_total_limit", save_total_limit,
          "Checkpoints kept; the oldest go first, the newest and the best never. 0 keeps all.", at_least(0));
  f.field("load_best_model_at_end", load_best_model_at_end,
          "End with the best checkpoint's adapter. Also saves whenever an evaluation is the best so far.");
  f.field("metric_for_best_model", metric_for_best_model,
          "Metric of the best checkpoint and of early stopping; empty: the task's first.");
  f.field("greater_is_better", greater_is_better,
          "Whether a greater metric_for_best_model is better. Losses and errors are always better when smaller.");
  f.field("early_stopping_patience", early_stopping_patience,
          "Evaluations without improvement after which training stops; 0: never.", at_least(0));
  f.field("early_stopping_threshold", early_stopping_threshold, "By how much a metric must change to count as better.",
          at_least(0));
  f.field("seed", seed, "Seed of the adapter's start, dropout and, without data_seed, the rows' order.", at_least(0));
  f.field("data_seed", data_seed, "Seed of the rows' order; -1: seed.", at_least(-1));
  f.field("resume_from_checkpoint", resume_from_checkpoint,
          "A checkpoint folder to go on from, or its name in output_dir; true: the newest there; auto or latest: that "
          "if there is one.");
}

}  // namespace deltaw

namespace deltaw::train {
namespace {

[[noreturn]] void refuse(const char* key, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.training", .what = what, .where = fmt::format("key \"{}\"", key), .fix = fix});
}

void check_best(const TrainOptions& options) {
  if (options.save_strategy != options.eval_strategy) {
    refuse("load_best_model_at_end",
           fmt::format("the best checkpoint needs equal strategies, but eval_strategy is {} and save_strategy is {}",
                       options.eval_strategy, options.save_strategy),
           "set both to steps or both to epoch");
  }
  if (options.eval_strategy == "no") {
    refuse("load_best_model_at_end", "without evaluations no checkpoint is the best",
           "set eval_strategy and save_strategy to steps or epoch");
  }
  if (options.eval_strategy == "steps" && options.save_steps % options.eval_steps != 0) {
    refuse("save_steps",
           fmt::format("load_best_model_at_end needs save_steps ({}) to be a multiple of eval_steps ({})",
                       options.save_steps, options.eval_steps),
           fmt::format("set save_steps to {}", options.eval_steps));
  }
}

void check_scheduler(const TrainOptions& options) {
  constexpr const char* kKey = "lr_scheduler_kwargs";
  constexpr const char* kFix = "give {\"min_lr_rate\": a share of learning_rate} or {\"min_lr\": a rate}";
  const Json& given = options.lr_scheduler_kwargs;
  const bool empty = given.is_null() || (given.is_object() && given.empty());
  if (options.lr_scheduler_type != "cosine_with_min_lr") {
    if (!empty) {
      refuse(kKey, fmt::format("lr_scheduler_type {} takes none", options.lr_scheduler_type),
             "leave them out, or set lr_scheduler_type to cosine_with_min_lr");
    }
    return;
  }
  if (empty) refuse(kKey, "cosine_with_min_lr must know where it ends", kFix);
  if (!given.is_object() || given.size() != 1) refuse(kKey, fmt::format("{} is not one key", given.dump()), kFix);
  const std::string& name = given.begin().key();
  const Json& value = given.begin().value();
  if (name != "min_lr" && name != "min_lr_rate") refuse(kKey, fmt::format("there is no '{}'", name), kFix);
  const double most = name == "min_lr" ? options.learning_rate : 1;
  if (!value.is_number() || !(value.get<double>() >= 0 && value.get<double>() <= most)) {
    refuse(kKey, fmt::format("{} is {}, and may be a number from 0 to {:g}", name, value.dump(), most), kFix);
  }
}

}  // namespace

double min_lr_rate(const TrainOptions& options) {
  if (options.lr_scheduler_type != "cosine_with_min_lr") return 0;
  const Json& given = options.lr_scheduler_kwargs;
  if (given.contains("min_lr_rate")) return given["min_lr_rate"].get<double>();
  const double rate = given["min_lr"].get<double>();
  return rate == 0 ? 0 : rate / options.learning_rate;
}

void check_options(const TrainOptions& options, bool has_validation, bool smooths_labels) {
  if (options.max_steps == 0) refuse("max_steps", "no step would be trained", "a positive number, or -1 for epochs");
  check_scheduler(options);
  if (options.load_best_model_at_end) check_best(options);
  if (options.early_stopping_patience > 0 && options.eval_strategy == "no") {
    refuse("early_stopping_patience", "early stopping needs evaluations, but eval_strategy is no",
           "set eval_strategy to steps or epoch");
  }
  if ((options.eval_strategy != "no" || options.eval_on_start) && !has_validation) {
    refuse(options.eval_on_start ? "eval_on_start" : "eval_strategy", "there are no validation rows to score",
           "give validation_file or validation_split, or leave evaluation out");
  }
  if (options.label_smoothing_factor > 0 && !smooths_labels) {
    refuse("label_smoothing_factor", "only labels of which a row has one can be smoothed", "set it to 0");
  }
}

uint64_t data_seed(const TrainOptions& options) {
  return static_cast<uint64_t>(options.data_seed >= 0 ? options.data_seed : options.seed);
}

}  // namespace deltaw::train
