// axolotl: the keys of `axolotl train`.
#include <fmt/format.h>
#include <cmath>

#include <algorithm>
#include <map>
#include <set>

#include "core/foreign/tools.h"

namespace deltaw::foreign {
namespace {

/// A set of the list `datasets`.
struct Set {
  Json json;

  Json of(const char* key) const { return json.value(key, Json()); }
  std::string text(const char* key) const {
    const Json value = of(key);
    return value.is_string() ? value.get<std::string>() : std::string();
  }
  std::string path() const { return text("path"); }
};

class Sets {
 public:
  Sets(Reading& reading, std::string name, std::string key)
      : reading_(reading), name_(std::move(name)), key_(std::move(key)) {}

  void take(const Json& list) {
    if (reading_.is_elsewhere(key_)) return;
    std::vector<std::string> files;
    for (const Json& entry : list.is_array() ? list : Json::array({list})) {
      const Set set{entry};
      if (!entry.is_object() || set.path().empty()) {
        return reading_.refuse_type(name_, "a list of maps, each with path and type");
      }
      if (!takes_rows(set)) return;
      for (const std::string& file : files_of(set)) files.push_back(file);
    }
    take_data(reading_, files, key_, name_);
  }

 private:
  bool refuse(const Set& set, const std::string& what, const std::string& fix) {
    reading_.refuse(name_, fmt::format("the data set '{}' {}", set.path(), what),
                    fmt::format("{}, and give --{} FILE", fix, key_), {key_});
    return false;
  }

  static std::vector<std::string> files_of(const Set& set) {
    const Json files = set.of("data_files");
    std::vector<std::string> names;
    if (files.is_string()) names = {files.get<std::string>()};
    if (files.is_array()) {
      for (const Json& file : files) {
        if (file.is_string()) names.push_back(file.get<std::string>());
      }
    }
    static const std::set<std::string> kinds = {"json", "csv", "parquet", "arrow", "text"};
    if (names.empty() || !kinds.contains(set.path())) return {set.path()};
    return names;
  }

  /// Whether the rows are of a kind that is read here; what they are called is set.
  bool takes_rows(const Set& set) {
    const Json split = set.of("split");
    const bool part = split.is_string() && split.get<std::string>().find('[') != std::string::npos;
    if (part && is_data_file(set.path())) {
      return refuse(set, fmt::format("is cut: split {}", plain(split)), "give max_train_samples");
    }
    for (const char* key :
         {"shards", "preprocess_shards", "input_transform", "input_format", "roles_to_train", "drop_system_message",
          "split_thinking", "message_field_training_detail", "logprobs_field", "chat_template_jinja"}) {
      const Json value = set.of(key);
      if (is_off(value)) continue;
      if (std::string(key) == "roles_to_train" &&
          (value == Json::array({"assistant"}) || value == Json::array({"gpt"})))
        continue;
      return refuse(set, fmt::format("has {} {}", key, plain(value)), "prepare such rows in a file");
    }
    const Json kind = set.of("type");
    if (kind.is_object()) {
      return refuse(set, "words its prompts by a format of its own", "write them as prompt and completion");
    }
    const std::string type = set.text("type");
    if (type == "alpaca") return takes_alpaca(set);
    if (type.empty() || type == "chat_template" || type == "chat_template.default") return takes_turns(set);
    if (type == "sharegpt" || type.starts_with("sharegpt.")) return takes_turns(set);
    if (type == "completion" || type == "pretrain") return takes_texts(set, "field");
    return refuse(set, fmt::format("has the type {}", type),
                  "write its rows as messages, as instruction and output, or as prompt and completion");
  }

  bool takes_alpaca(const Set& set) {
    const std::map<std::string, std::string> usual = {
        {"field_instruction", "instruction"}, {"field_input", "input"}, {"field_output", "output"}};
    for (const auto& [key, name] : usual) {
      const std::string given = set.text(key.c_str());
      if (given.empty() || given == name) continue;
      return refuse(set, fmt::format("has its {} in the column {}", name, given), "rename it in the rows");
    }
    return true;
  }

  bool takes_turns(const Set& set) {
    const Json mapped = set.of("message_property_mappings");
    std::string role = set.text("message_field_role"), content = set.text("message_field_content");
    if (mapped.is_object() && mapped.value("role", Json()).is_string()) role = mapped["role"].get<std::string>();
    if (mapped.is_object() && mapped.value("content", Json()).is_string()) {
      content = mapped["content"].get<std::string>();
    }
    const bool known = (role.empty() || role == "role" || role == "from") &&
                       (content.empty() || content == "content" || content == "value");
    if (!known) {
      return refuse(set, fmt::format("names a message's parts {} and {}", role, content),
                    "write its conversations with role and content, or with from and value");
    }
    if (!knows_roles(set)) return false;
    for (const char* key : {"train_on_eos", "train_on_eot"}) {
      const std::string when = set.text(key);
      if (when.empty() || when == "turn") continue;
      return refuse(set, fmt::format("has {} {}: here the end of each answer is trained on", key, when),
                    fmt::format("set {} to turn", key));
    }
    const std::string column = set.text("field_messages");
    if (!column.empty() && column != "messages" && column != "conversations") {
      reading_.set("text_column", column, name_);
    }
    return true;
  }

  /// The names of roles that deltaw has too.
  bool knows_roles(const Set& set) {
    static const std::map<std::string, std::set<std::string>> roles = {
        {"user", {"user", "human"}},
        {"assistant", {"assistant", "gpt", "model", "chatgpt", "bing", "bard"}},
        {"system", {"system"}},
        {"tool", {"tool", "observation", "function_response", "tool_response"}}};
    const Json given = set.of("roles");
    if (!given.is_object()) return true;
    for (const auto& [role, names] : given.items()) {
      const auto found = roles.find(role);
      for (const Json& name : names.is_array() ? names : Json::array({names})) {
        if (found != roles.end() && name.is_string() && found->second.contains(name.get<std::string>())) continue;
        return refuse(set, fmt::format("calls the role {} {}", role, plain(name)),
                      "write its conversations with the roles user, assistant, system and tool");
      }
    }
    return true;
  }

  bool takes_texts(const Set& set, const char* key) {
    const std::string column = set.text(key);
    if (!column.empty() && column != "text") reading_.set("text_column", column, name_);
    return true;
  }

  Reading& reading_;
  std::string name_, key_;
};

void take_adapter(Reading& reading, const Json& value) {
  const std::string given = plain(value);
  if (given == "lora" || given == "qlora") {
    if (given == "qlora") reading.set_default("load_in_4bit", true);
    return reading.set("method", "lora", "adapter");
  }
  if (is_off(value)) return;
  reading.set("method", value, "adapter");  // the table of methods knows whether there is one
}

/// So many times an epoch: once is a strategy here, and more often is told as once.
void take_per_epoch(Reading& reading, const std::string& name, const std::string& strategy) {
  const std::optional<int64_t> times = reading.whole_of(name);
  if (!times || *times == 0) return;
  reading.set_default(strategy, "epoch");
  if (*times > 1) reading.became(fmt::format("{} {} is {} epoch, once each", name, *times, strategy));
}

void take_held_out(Reading& reading, const Json& value) {
  take_held_out_share(reading, value, "val_set_size");
}

void take_tokens(Reading& reading, const Json& value) {
  if (!value.is_object()) return reading.refuse_type("special_tokens", "a map of token names");
  std::vector<std::string> own;
  for (const auto& [name, token] : value.items()) {
    if (token.is_null()) continue;
    if (name == "additional_special_tokens") {
      reading.set("add_special_tokens", token, "special_tokens");
    } else if (name != "pad_token") {
      own.push_back(name);
    }
  }
  reading.pass_over("special_tokens");
  if (!own.empty()) reading.became(fmt::format("special_tokens {} are the tokenizer's own", fmt::join(own, ", ")));
}

void take_target(Reading& reading, const Json& value) {
  if (value == "all-linear") return reading.set("target_modules", "all-linear", "lora_target_modules");
  if (!is_off(value)) reading.set("target_modules", value, "lora_target_modules");
}

void take_template(Reading& reading, const Json& value) {
  if (value == "jinja") {
    return reading.refuse("chat_template", "'chat_template' is jinja, text in the file",
                          "write it into a file, and give --chat_template FILE", {"chat_template"});
  }
  reading.became(fmt::format("chat_template {} is the checkpoint's own", plain(value)));
}

void take_plugins(Reading& reading, const Json& value) {
  static const std::vector<std::string> harmless = {"liger",        "cut_cross_entropy", "kernels",           "swanlab",
                                                    "spectrum_log", "expert_parallel",   "llm_compressor_log"};
  for (const Json& plugin : value.is_array() ? value : Json::array({value})) {
    const std::string name = plain(plugin);
    const bool known = std::any_of(harmless.begin(), harmless.end(), [&](const std::string& word) {
      return name.find("integrations." + word) != std::string::npos;
    });
    if (known) continue;
    return reading.refuse("plugins", fmt::format("the plugin {} changes what is trained", name), "remove it");
  }
  reading.pass_over("plugins");
}

void take_batch(Reading& reading, const Json&) {
  const std::optional<int64_t> rows = reading.whole_of("batch_size");
  const int64_t micro = reading.whole_of("micro_batch_size").value_or(1);
  if (!rows || *rows <= 0 || micro <= 0 || !reading.of("gradient_accumulation_steps").is_null()) return;
  if (*rows % micro != 0) {
    return reading.refuse("batch_size",
                          fmt::format("batch_size {} is no multiple of micro_batch_size {}", *rows, micro),
                          "set gradient_accumulation_steps in its place", {"gradient_accumulation_steps"});
  }
  reading.set("gradient_accumulation_steps", *rows / micro, "batch_size");
  reading.became(fmt::format("batch_size {} is gradient_accumulation_steps {}", *rows, *rows / micro));
}

/// lr_scheduler, and the share of the rate at which its cosine ends.
void take_schedule(Reading& reading) {
  const Json& name = reading.of("lr_scheduler");
  const bool cosine = name.is_null() || name == "cosine";
  const std::optional<double> least = reading.number_of("cosine_min_lr_ratio");
  if (!cosine) return take_scheduler(reading, name, "lr_scheduler");
  if (!least)
    return name.is_null() ? reading.set_default("lr_scheduler_type", "cosine")
                          : reading.set("lr_scheduler_type", "cosine", "lr_scheduler");
  reading.set("lr_scheduler_type", "cosine_with_min_lr", "cosine_min_lr_ratio");
  reading.set("lr_scheduler_kwargs", {{"min_lr_rate", *least}}, "cosine_min_lr_ratio");
}

void finish(Reading& reading) {
  finish_training_arguments(reading);
  for (const char* name : {"datasets", "pretraining_dataset"}) {
    if (!reading.of(name).is_null()) Sets(reading, name, "train_file").take(reading.of(name));
  }
  if (!reading.of("test_datasets").is_null()) {
    Sets(reading, "test_datasets", "validation_file").take(reading.of("test_datasets"));
  }
  reading.set_default("per_device_train_batch_size", 1);
  reading.set_default("num_train_epochs", 1);
  reading.set_default("max_length", 512);
  take_schedule(reading);
  if (reading.truth_of("lora_target_linear") && reading.of("lora_target_modules").is_null()) {
    reading.set_default("target_modules", "all-linear");
  }
  if (is_off(reading.of("adapter")) && !reading.is_set("method")) {
    reading.set_default("method", reading.here.whole_model);
    reading.became("without adapter the whole model trains: method " + reading.here.whole_model);
  }
}

std::vector<Key> keys() {
  std::vector<Key> keys = {
      as("base_model", "model_name_or_path"),
      computed("adapter", "method",
               "lora; qlora is lora with load_in_4bit. Without it the whole model trains, as there.", take_adapter),
      as("lora_model_dir", "adapter_name_or_path"),
      as("lora_r", "r"),
      same("lora_alpha lora_dropout loraplus_lr_ratio loraplus_lr_embedding load_in_4bit load_in_8bit"),
      computed("lora_target_modules", "target_modules", "", take_target),
      computed("lora_target_linear", "target_modules", "true is all-linear.", [](Reading&, const Json&) {}),
      as("lora_modules_to_save", "modules_to_save"),
      as("lora_rank_pattern", "rank_pattern"),
      as("lora_alpha_pattern", "alpha_pattern"),
      as("peft_layers_to_transform", "layers_to_transform"),
      as("peft_layers_pattern", "layers_pattern"),
      as("peft_use_dora", "use_dora"),
      as("peft_use_rslora", "use_rslora"),
      as("peft_init_lora_weights", "init_lora_weights"),
      as("peft_trainable_token_indices", "trainable_token_indices"),
      as("peft_ensure_weight_tying", "ensure_weight_tying"),
      computed("datasets", "train_file",
               "A list of maps: path (a file or folder), type (alpaca, chat_template, sharegpt, "
               "completion), field_messages, message_property_mappings, roles, field.",
               [](Reading&, const Json&) {}),
      computed("test_datasets", "validation_file", "As datasets.", [](Reading&, const Json&) {}),
      computed("pretraining_dataset", "train_file", "As datasets, of texts.", [](Reading&, const Json&) {}),
      computed("val_set_size", "validation_split", "A share below 1, or a number of rows.", take_held_out),
      computed("chat_template", "", "The checkpoint's own stands for every name; jinja is refused.", take_template),
      as("chat_template_jinja", "chat_template", {}, "a file"),
      as("sequence_len", "max_length", {}, "512 where it is missing, as there"),
      as("sample_packing", "packing"),
      computed("train_on_inputs", "completion_only_loss", "true is false.",
               [](Reading& r, const Json&) {
                 if (r.truth_of("train_on_inputs")) r.set("completion_only_loss", false, "train_on_inputs");
               }),
      as("micro_batch_size", "per_device_train_batch_size", {}, "1 where it is missing, as there"),
      as("eval_batch_size", "per_device_eval_batch_size"),
      computed("batch_size", "gradient_accumulation_steps", "Divided by micro_batch_size.", take_batch),
      as("num_epochs", "num_train_epochs", {}, "1 where it is missing, as there"),
      as("adam_eps", "adam_epsilon"),
      computed("optimizer", "", "As optim of TRL.", take_optimizer),
      computed("lr_scheduler", "lr_scheduler_type", "cosine where it is missing, as there.",
               [](Reading&, const Json&) {}),
      computed("cosine_min_lr_ratio", "lr_scheduler_kwargs", "With cosine, which then is cosine_with_min_lr.",
               [](Reading&, const Json&) {}),
      computed("gradient_checkpointing", "gradient_checkpointing", "offload is true.",
               [](Reading& r, const Json& value) {
                 r.set("gradient_checkpointing", value.is_string() && !is_off(value) ? Json(true) : value,
                       "gradient_checkpointing");
               }),
      computed("saves_per_epoch", "save_strategy", "epoch: once each, however often.",
               [](Reading& r, const Json&) { take_per_epoch(r, "saves_per_epoch", "save_strategy"); }),
      computed("evals_per_epoch", "eval_strategy", "epoch: once each, however often.",
               [](Reading& r, const Json&) { take_per_epoch(r, "evals_per_epoch", "eval_strategy"); }),
      computed("bfloat16", "dtype", "As bf16.",
               [](Reading& r, const Json&) {
                 if (r.truth_of("bfloat16")) r.set_default("dtype", "bf16");
               }),
      computed("torch_dtype", "dtype", "", [](Reading& r, const Json& value) { r.set("dtype", value, "torch_dtype"); }),
      as("tokens", "add_tokens", {}, "their embeddings train"),
      computed("special_tokens", "add_special_tokens",
               "additional_special_tokens are new tokens; for the others the tokenizer's own stand.", take_tokens),
      computed("bnb_config_kwargs", "bnb_4bit_use_double_quant, bnb_4bit_quant_type", "Of the same names.",
               [](Reading& r, const Json& value) {
                 if (!value.is_object()) return r.refuse_type("bnb_config_kwargs", "a map");
                 for (const char* key : {"bnb_4bit_use_double_quant", "bnb_4bit_quant_type"}) {
                   if (value.contains(key)) r.set(key, value[key], "bnb_config_kwargs");
                 }
               }),
      computed("plugins", "", "Those of kernels and logs are passed over, others refused.", take_plugins),
      computed(
          "early_stopping_patience", "early_stopping_patience", "",
          [](Reading& r, const Json& value) { r.set("early_stopping_patience", value, "early_stopping_patience"); }),
      refused("rl reward_model process_reward_model",
              "deltaw trains on texts and answers, not on preferences or rewards|remove it, with data of that kind"),
      refused("num_labels",
              "axolotl's classifiers are of rewards|train a classifier by deltaw's own keys: train_file, "
              "label_column"),
      refused("unfrozen_parameters lisa_n_layers",
              "parts of the base do not train by their names|remove it; with an adapter, "
              "lora_modules_to_save trains whole modules and peft_trainable_token_indices single tokens"),
      refused("lora_target_parameters quantize_moe_experts llama4_linearized_experts",
              "experts of a mixture get no update|name layers in lora_target_modules"),
      refused("relora peft peft_layer_replication loftq",
              "this start or schedule is not there|remove it; deltaw has "
              "init_lora_weights pissa, olora, eva, corda and lora_ga"),
      refused("gptq qat quantization llmcompressor fp8 model_quantization_config use_onebitllms nvfp4_merge_aware",
              "the base is float32, bf16, or held in 4 or 8 bits of bitsandbytes|set load_in_4bit or load_in_8bit"),
      refused("float16", "half precision is bf16 here|set bf16 to true"),
      refused("use_eaft diffusion use_pose curriculum_sampling sample_packing_sequentially",
              "the loss is the cross entropy of whole rows, in a random order|remove it"),
      refused("shrink_embeddings reinit_weights scaling_softmax model_config "
              "overrides_of_model_config overrides_of_model_kwargs rope_scaling",
              "the model is the checkpoint's|remove it"),
      refused("lr_groups embedding_lr embedding_lr_scale lr_quadratic_warmup lr_div_factor",
              "all of an adapter trains with one rate; LoRA+ has two|remove it, or give loraplus_lr_ratio"),
      refused("cosine_constant_lr_ratio eta_min jagged_restart_steps",
              "cosine falls in all steps, without restarts|remove it; cosine_min_lr_ratio is there"),
      refused("adam_beta3 adam_epsilon2", "the optimiser is AdamW|remove it"),
      refused("revision_of_model", "a revision is a folder|give the folder of that revision as base_model"),
      refused("default_system_message chat_template_kwargs",
              "they stand in the rows|write them into each row, as system "
              "and chat_template_kwargs"),
      refused(
          "processor_type freeze_mm_modules image_size",
          "its data are images or sounds, and language models here read text alone|take a configuration of text alone"),
      refused("excess_length_strategy", "longer rows are cut, and counted|set it to truncate", {"truncate"}),
      refused("eval_sequence_len min_sample_len max_prompt_len", "rows have one length, max_length|remove it"),
      refused("dataset_exact_deduplication", "no row is left out for being there twice|remove it"),
      refused("do_bench_eval do_causal_lm_eval generate_samples",
              "training scores by the loss|remove it; `deltaw eval` and "
              "`deltaw generate` do the rest"),
      idle("eval_sample_packing sample_packing_group_size sample_packing_bin_size sample_packing_eff_est "
           "sample_packing_seq_len_multiplier sample_packing_mp_start_method pad_to_sequence_len pad_to_multiple_of "
           "multipack_real_batches batch_flattening total_num_tokens max_packed_sequence_len "
           "streaming_multipack_buffer_size pretrain_multipack_attn pretrain_multipack_buffer_size "
           "pretraining_sample_concatenation streaming",
           "how rows are packed, which deltaw decides"),
      idle("dataset_prepared_path dataset_processes dataset_num_proc dataset_keep_in_memory dataset_shard_num "
           "dataset_shard_idx num_dataset_shards_to_save push_dataset_to_hub shuffle_merged_datasets "
           "shuffle_before_merging_datasets",
           "rows are read before training begins"),
      idle("wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_mode wandb_log_model use_wandb "
           "use_mlflow mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts use_comet "
           "comet_api_key comet_workspace comet_project_name comet_experiment_key comet_mode comet_online "
           "comet_experiment_config use_tensorboard use_otel_metrics otel_metrics_host otel_metrics_port use_trackio "
           "trackio_project_name trackio_run_name swanlab_project swanlab_experiment_name swanlab_description "
           "swanlab_mode swanlab_log_completions swanlab_log_model swanlab_workspace use_swanlab "
           "swanlab_completion_log_interval swanlab_completion_max_buffer include_tkps eval_table_size "
           "eval_max_new_tokens eval_causal_lm_metrics profiler_steps profiler_steps_start",
           "log.jsonl in output_dir holds every event, and nothing is reported elsewhere"),
      idle("model_type tokenizer_type tokenizer_config tokenizer_use_fast tokenizer_legacy "
           "tokenizer_use_mistral_common tokenizer_save_jinja_files base_model_config cls_model_config "
           "base_model_ignore_patterns is_falcon_derived_model is_llama_derived_model is_mistral_derived_model "
           "is_qwen_derived_model lora_fan_in_fan_out eot_tokens added_tokens_overrides fix_untrained_tokens "
           "low_cpu_mem_usage hf_use_auth_token",
           "it follows from the checkpoint"),
      idle("resize_token_embeddings_to_32x flash_attention xformers_attention sdp_attention flex_attention "
           "eager_attention sage_attention "
           "flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_qkv flash_attn_fuse_mlp flash_optimum "
           "flex_attn_compile_kwargs gemma4_hybrid_attn_impl large_head_attention sdpa_varlen fused_attn_kernel "
           "lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel liger_rope liger_rms_norm "
           "liger_rms_norm_gated liger_glu_activation liger_layer_norm liger_fused_linear_cross_entropy "
           "cut_cross_entropy chunked_cross_entropy chunked_cross_entropy_num_chunks tiled_mlp tiled_mlp_num_shards "
           "activation_offloading layer_offloading selective_checkpointing use_kernels use_scattermoe use_sonicmoe "
           "use_dsv4_kernels use_glm_dsa_kernels dsv4_fp4_grouped_mode "
           "experts_implementation torch_compile_options gc_steps gc_collect_steps gpu_memory_limit max_memory "
           "lora_on_cpu experimental_skip_move_to_device qlora_sharded_model_loading peft_autocast_adapter_dtype "
           "embeddings_skip_upcast gptq_groupsize gptq_model_v1 torchdistx_path device float32 bf16_full",
           "how it is computed, which deltaw decides"),
      idle("ddp fsdp_version fsdp_final_state_dict_type dp_shard_size dp_replicate_size tensor_parallel_size "
           "context_parallel_size sequence_parallel_degree expert_parallel_size heads_k_stride ring_attn_func "
           "world_size expert_parallel_num_nvl_bytes expert_parallel_token_capacity deepcompile use_ray "
           "ray_num_workers ray_run_name resources_per_worker",
           "one process trains"),
      idle("center_rewards_coefficient orpo_alpha simpo_gamma cpo_alpha rl_beta trl vllm ebft kto_desirable_weight "
           "kto_undesirable_weight dpo_use_weighting dpo_label_smoothing dpo_loss_type dpo_loss_weights "
           "precompute_ref_log_probs relora_prune_ratio relora_prune_method relora_cpu_offload lisa_step_interval "
           "lisa_layers_attribute jagged_restart_warmup_steps jagged_restart_anneal_steps eaft_alpha eaft_k "
           "gptq_disable_exllama model_quantization_config_kwargs fp8_enable_fsdp_float8_all_gather",
           "of what is refused"),
      idle("strict skip_prepare_dataset full_finetune auto_resume_from_checkpoints save_first_step "
           "loss_watchdog_threshold loss_watchdog_patience "
           "is_preprocess hub_model_id secrets gpu gpu_count provider node_count volumes memory timeout branch "
           "merge_lora merge_method",
           "of the run, which is deltaw's own"),
  };
  return with_shared(std::move(keys), training_arguments());
}

std::vector<std::string> marked_by(const Json& values) {
  const Json sets = values.value("datasets", Json());
  const bool typed = sets.is_array() && !sets.empty() && sets[0].is_object() && sets[0].contains("path");
  return typed ? std::vector<std::string>{"datasets"} : std::vector<std::string>();
}

}  // namespace

Tool axolotl() {
  return {.name = "axolotl",
          .version = "commit 067b021 of July 2026",
          .file = "the YAML of `axolotl train`",
          .marks = {"dataset_prepared_path", "saves_per_epoch", "evals_per_epoch", "special_tokens", "tokenizer_type",
                    "wandb_project", "eval_sample_packing", "pad_to_sequence_len", "lora_fan_in_fan_out", "strict",
                    "pretraining_dataset", "test_datasets", "flash_attention", "xformers_attention", "peft_use_dora",
                    "lora_mlp_kernel", "loss_watchdog_threshold", "plugins"},
          .keys = keys(),
          .marked_by = marked_by,
          .finish = finish};
}

}  // namespace deltaw::foreign
