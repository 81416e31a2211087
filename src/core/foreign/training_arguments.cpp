// transformers' TrainingArguments (5.24), of which deltaw's own training keys are a part.
#include <fmt/format.h>

#include <cmath>

#include <algorithm>
#include <set>

#include "core/foreign/tools.h"

namespace deltaw::foreign {
namespace {

/// A step count, of which a value below 1 is a share of all steps.
void take_steps(Reading& reading, const std::string& name, const std::string& strategy) {
  const std::optional<double> steps = reading.number_of(name);
  if (!steps || *steps <= 0) return;
  if (*steps >= 1) return reading.set(name, reading.of(name), name);
  if (strategy.empty()) return reading.pass_over(name);
  reading.became(fmt::format("{} {}, a share of all steps, is {} epoch", name, plain(reading.of(name)), strategy));
  reading.set(strategy, "epoch", name);
}

/// `steps` is the count that goes with it, which may say that it is once an epoch.
void take_strategy(Reading& reading, const std::string& name, const std::string& key, const std::string& steps) {
  const std::optional<std::string> value = reading.text_of(name);
  const Json& count = reading.of(steps);
  if (!value || (*value == "steps" && count.is_number_float() && count > 0 && count < 1)) return;
  static const std::set<std::string> known = {"no", "steps", "epoch"};
  if (known.contains(*value)) return reading.set(key, *value, name);
  if (*value == "best" && reading.truth_of("load_best_model_at_end")) return reading.set(key, "no", name);
  reading.refuse(name, fmt::format("'{}' is {}, and deltaw has no, steps and epoch", name, *value),
                 "set one of these; load_best_model_at_end keeps the best checkpoint", {key});
}

}  // namespace

Key trackers() {
  return idle("report_to run_name logging_dir project trackio_space_id trackio_bucket_id trackio_static_space_id",
              "log.jsonl in output_dir holds every event, and nothing is reported elsewhere");
}

std::vector<Key> training_arguments() {
  std::vector<Key> keys = {
      same("output_dir num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size "
           "gradient_accumulation_steps learning_rate warmup_ratio warmup_steps weight_decay adam_beta1 adam_beta2 "
           "adam_epsilon max_grad_norm label_smoothing_factor gradient_checkpointing eval_on_start save_total_limit "
           "load_best_model_at_end metric_for_best_model greater_is_better seed data_seed resume_from_checkpoint "
           "overwrite_output_dir group_by_length"),
      as("activation_checkpointing", "gradient_checkpointing"),
      computed("optim", "",
               "Every AdamW is deltaw's, with its state in float32, which a paged or an 8-bit one rounds; other "
               "optimisers are refused.",
               [](Reading& r, const Json& value) { take_optimizer(r, value); }),
      computed(
          "lr_scheduler_type", "lr_scheduler_type",
          "linear, cosine, cosine_with_min_lr, constant and constant_with_warmup are the same; others are refused.",
          [](Reading& r, const Json& value) { take_scheduler(r, value, "lr_scheduler_type"); }),
      same("lr_scheduler_kwargs", "Of cosine_with_min_lr."),
      computed("train_sampling_strategy", "group_by_length", "group_by_length is that; random is the default.",
               [](Reading& r, const Json& value) {
                 if (value == "group_by_length") return r.set("group_by_length", true, "train_sampling_strategy");
                 if (value == "random") return;
                 r.refuse("train_sampling_strategy", "rows are drawn at random here", "set it to random");
               }),
      computed("bf16", "dtype", "true is bf16 for the frozen base; what trains is float32.",
               [](Reading& r, const Json& value) { take_bf16(r, value); }),
      refused("fp16 fp16_full_eval", "half precision is bf16 here|set bf16 to true and fp16 to false"),
      computed("logging_steps", "logging_steps", "A share of all steps is passed over.",
               [](Reading& r, const Json&) { take_steps(r, "logging_steps", ""); }),
      computed("eval_steps", "eval_steps", "A share of all steps is eval_strategy epoch.",
               [](Reading& r, const Json&) { take_steps(r, "eval_steps", "eval_strategy"); }),
      computed("save_steps", "save_steps", "A share of all steps is save_strategy epoch.",
               [](Reading& r, const Json&) { take_steps(r, "save_steps", "save_strategy"); }),
      computed("eval_strategy", "eval_strategy", "no, steps and epoch are the same.",
               [](Reading& r, const Json&) { take_strategy(r, "eval_strategy", "eval_strategy", "eval_steps"); }),
      computed("evaluation_strategy", "eval_strategy", "The older name.",
               [](Reading& r, const Json&) { take_strategy(r, "evaluation_strategy", "eval_strategy", "eval_steps"); }),
      computed("save_strategy", "save_strategy", "no, steps and epoch are the same.",
               [](Reading& r, const Json&) { take_strategy(r, "save_strategy", "save_strategy", "save_steps"); }),
      refused("neftune_noise_alpha", "no noise is added to embeddings here|remove it"),
      refused("optim_target_modules optim_args", "the optimiser is AdamW, without parameters of this kind|remove it"),
      refused("push_to_hub", "nothing is uploaded|set it to false; output_dir is a folder that can be uploaded"),
      refused("auto_find_batch_size",
              "the batch size is not searched for; `deltaw validate` says what memory a run takes|set it to false and "
              "give per_device_train_batch_size"),
      refused("do_predict", "training does not predict|remove it; `deltaw predict` and `deltaw generate` do"),
      refused("eval_delay", "evaluation begins with the first step|remove it"),
      trackers(),
      idle("do_train do_eval logging_strategy logging_first_step log_on_each_node logging_nan_inf_filter log_level "
           "log_level_replica disable_tqdm include_num_input_tokens_seen include_tokens_per_second skip_memory_metrics "
           "debug prediction_loss_only eval_accumulation_steps eval_do_concat_batches eval_use_gather_object "
           "include_for_metrics batch_eval_metrics label_names length_column_name remove_unused_columns",
           "what is shown and measured"),
      idle("hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision", "nothing is uploaded"),
      idle("save_only_model save_safetensors save_on_each_node enable_jit_checkpoint ignore_data_skip "
           "restore_callback_states_from_checkpoint",
           "a checkpoint here always holds the whole state, as safetensors, and a resumed run reads the same rows"),
      idle("tf32 bf16_full_eval torch_compile torch_compile_backend torch_compile_mode use_liger_kernel "
           "liger_kernel_config use_cache torch_empty_cache_steps gradient_checkpointing_kwargs "
           "activation_checkpointing_kwargs full_determinism use_cpu no_cuda attn_implementation device_map",
           "how it is computed, which deltaw decides"),
      idle("dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
           "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order",
           "rows are read before training begins"),
      idle("deepspeed fsdp fsdp_config fsdp_transformer_layer_cls_to_wrap fsdp_min_num_params accelerator_config "
           "parallelism_config ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph "
           "ddp_backend ddp_timeout local_rank average_tokens_across_devices split_batches",
           "one process trains"),
      idle("trust_remote_code", "no code of a checkpoint is run"),
  };
  return keys;
}

std::vector<Key> with_shared(std::vector<Key> own, const std::vector<Key>& shared) {
  std::set<std::string> known;
  for (const Key& key : own) known.insert(key.names.begin(), key.names.end());
  for (Key key : shared) {
    std::erase_if(key.names, [&](const std::string& name) { return known.contains(name); });
    if (!key.names.empty()) own.push_back(std::move(key));
  }
  return own;
}

void finish_training_arguments(Reading& reading) {
  if (!reading.of("save_steps").is_null()) reading.set_default("save_strategy", "steps");
}

void take_optimizer(Reading& reading, const Json& value) {
  const std::string name = reading.of("optim").is_null() ? "optimizer" : "optim";
  static const std::set<std::string> same = {"adamw",      "adamw_torch",     "adamw_torch_fused",
                                             "adamw_hf",   "adamw_torch_xla", "adamw_torch_npu_fused",
                                             "flash_adamw"};
  static const std::set<std::string> rounded = {
      "adamw_torch_4bit", "adamw_torch_8bit",   "adamw_bnb_8bit", "adamw_8bit",    "paged_adamw",  "paged_adamw_32bit",
      "paged_adamw_8bit", "adamw_anyprecision", "ao_adamw_4bit",  "ao_adamw_8bit", "ao_adamw_fp8", "optimi_adamw"};
  const std::string given = plain(value);
  if (value.is_string() && same.contains(given)) return;
  if (value.is_string() && rounded.contains(given)) {
    return reading.became(fmt::format("{} {} is AdamW with its state in float32", name, given));
  }
  reading.refuse(name, fmt::format("'{}' is {}, and the optimiser of deltaw is AdamW", name, given),
                 fmt::format("set {} to adamw_torch; its learning rate may have to be another", name),
                 {"optim", "optimizer"});
}

void take_scheduler(Reading& reading, const Json& value, const std::string& name) {
  static const std::set<std::string> known = {"linear", "cosine", "cosine_with_min_lr", "constant",
                                              "constant_with_warmup"};
  const std::string given = plain(value);
  if (value.is_string() && known.contains(given)) return reading.set("lr_scheduler_type", given, name);
  reading.refuse(name,
                 fmt::format("'{}' is {}, and the schedules of deltaw are linear, cosine, cosine_with_min_lr, constant "
                             "and constant_with_warmup",
                             name, given),
                 "set it to one of these", {"lr_scheduler_type"});
}

void take_held_out_share(Reading& reading, const Json& value, const std::string& name) {
  const std::optional<double> share = reading.number_of(name);
  if (!share || *share == 0) return;
  const bool counted = *share > 1 && *share == std::floor(*share);
  if (*share < 1 || counted) return reading.set("validation_split", value, name);
  reading.refuse(name, fmt::format("'{}' is {}, which is neither a share nor a number of rows", name, plain(value)),
                 "give a share below 1, a whole number above 1, or a file as --validation_file",
                 {"validation_split", "validation_file"});
}

void take_bf16(Reading& reading, const Json& value) {
  if (value == "auto") return reading.set_default("dtype", "auto");
  if (reading.truth_of("bf16")) reading.set_default("dtype", "bf16");
}

}  // namespace deltaw::foreign
