// LLaMA-Factory: the keys of `llamafactory-cli train`.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <cmath>

#include <algorithm>
#include <filesystem>

#include "core/foreign/tools.h"
#include "core/json_fields.h"

namespace deltaw::foreign {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> items;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string item = text.substr(begin, end - begin);
    item.erase(0, item.find_first_not_of(" \t"));
    item.erase(item.find_last_not_of(" \t") + 1);
    if (!item.empty()) items.push_back(item);
    begin = end + 1;
  }
  return items;
}

/// `dataset: a, b` or a list.
std::vector<std::string> data_sets(Reading& reading, const std::string& name) {
  const Json& value = reading.of(name);
  if (value.is_array()) {
    std::vector<std::string> names;
    for (const Json& item : value) {
      if (item.is_string()) names.push_back(item.get<std::string>());
    }
    if (names.size() == value.size()) return names;
    reading.refuse_type(name, "names of data sets with commas between them");
    return {};
  }
  const std::optional<std::string> text = reading.text_of(name);
  return text ? split_at_commas(*text) : std::vector<std::string>();
}

/// What an entry of dataset_info.json says its rows are.
struct Entry {
  std::string name;
  Json json;

  Json of(const char* group, const char* key) const {
    const Json part = json.value(group, Json());
    return part.is_object() ? part.value(key, Json()) : Json();
  }
  bool says(const char* group, const char* key, const std::string& expected) const {
    const Json value = of(group, key);
    return value.is_null() || value == expected;
  }
};

void refuse_entry(Reading& reading, const Entry& entry, const std::string& key, const std::string& what,
                  const std::string& fix) {
  reading.refuse(key == "train_file" ? "dataset" : "eval_dataset",
                 fmt::format("the data set '{}' of dataset_info.json {}", entry.name, what),
                 fmt::format("{}, and give --{} FILE", fix, key), {key});
}

/// Whether the rows are texts and single answers, all of them, in columns of the usual names; refused if not.
bool is_usual(Reading& reading, const Entry& entry, const std::string& key) {
  for (const char* media : {"images", "videos", "audios"}) {
    if (entry.of("columns", media).is_null()) continue;
    refuse_entry(reading, entry, key, fmt::format("has {}, and language models here read text alone", media),
                 "take one of text alone");
    return false;
  }
  const bool paired = !is_off(entry.json.value("ranking", Json())) || !entry.of("columns", "kto_tag").is_null();
  if (paired) {
    refuse_entry(reading, entry, key, "ranks answers, and deltaw trains on single ones", "take one of answers");
    return false;
  }
  if (const Json count = entry.json.value("num_samples", Json()); !is_off(count)) {
    refuse_entry(reading, entry, key, fmt::format("takes {} of its rows", plain(count)),
                 "write those into a file of their own");
    return false;
  }
  for (const char* column : {"system", "tools", "history"}) {
    if (entry.says("columns", column, column)) continue;
    refuse_entry(reading, entry, key,
                 fmt::format("has its {} in the column {}", column, plain(entry.of("columns", column))),
                 fmt::format("rename it to {} in the rows", column));
    return false;
  }
  return true;
}

void take_alpaca(Reading& reading, const Entry& entry, const std::string& key) {
  const Json prompt = entry.of("columns", "prompt"), answer = entry.of("columns", "response");
  const bool usual = entry.says("columns", "prompt", "instruction") && entry.says("columns", "query", "input") &&
                     entry.says("columns", "response", "output");
  const bool pretraining = reading.of("stage") == "pt";
  if (pretraining) {
    if (prompt.is_string() && prompt != "text") reading.set("text_column", prompt, "dataset");
    return;
  }
  if (usual && !(prompt.is_string() && answer.is_null() && entry.json.contains("columns"))) return;
  const Json query = entry.of("columns", "query");
  if (!prompt.is_string() || !answer.is_string() || !query.is_null()) {
    return refuse_entry(reading, entry, key, "names other columns than instruction, input and output",
                        "rename them in the rows");
  }
  reading.set("text_column", prompt, "dataset");
  reading.set("label_column", answer, "dataset");
}

void take_sharegpt(Reading& reading, const Entry& entry, const std::string& key) {
  const bool openai = entry.json.value("formatting", Json()) == "openai" || entry.of("tags", "role_tag") == "role";
  const std::vector<std::pair<const char*, const char*>> tags =
      openai ? std::vector<std::pair<const char*, const char*>>{{"role_tag", "role"},
                                                                {"content_tag", "content"},
                                                                {"user_tag", "user"},
                                                                {"assistant_tag", "assistant"},
                                                                {"observation_tag", "tool"},
                                                                {"system_tag", "system"}}
             : std::vector<std::pair<const char*, const char*>>{{"role_tag", "from"},
                                                                {"content_tag", "value"},
                                                                {"user_tag", "human"},
                                                                {"assistant_tag", "gpt"},
                                                                {"system_tag", "system"},
                                                                {"function_tag", "function_call"},
                                                                {"observation_tag", "observation"}};
  for (const auto& [tag, usual] : tags) {
    if (entry.says("tags", tag, usual)) continue;
    return refuse_entry(reading, entry, key, fmt::format("has the {} {}", tag, plain(entry.of("tags", tag))),
                        "write its conversations with role and content, or with from and value");
  }
  const Json column = entry.of("columns", "messages");
  const std::string name = column.is_string() ? column.get<std::string>() : "conversations";
  if (name != "messages" && name != "conversations") reading.set("text_column", name, "dataset");
}

/// The files of the data sets that `name` (dataset, eval_dataset) lists, for `key`.
void take_sets(Reading& reading, const std::string& name, const std::string& key) {
  const std::vector<std::string> sets = data_sets(reading, name);
  const bool are_files = std::all_of(sets.begin(), sets.end(), is_data_file);
  if (sets.empty() || reading.is_elsewhere(key)) return;
  if (are_files) return take_data(reading, sets, key, name);
  const std::optional<std::string> given = reading.text_of("dataset_dir");
  const fs::path folder = given.value_or("data");
  const fs::path info = folder / "dataset_info.json";
  Json list;
  try {
    list = read_json_object(info);
  } catch (const Error& error) {
    reading.refuse(name,
                   fmt::format("'{}' is looked up in {}, and {}", sets.front(), info.string(), error.parts().what),
                   fmt::format("set dataset_dir to the folder of dataset_info.json, or give --{} FILE", key), {key});
    return;
  }
  std::vector<std::string> files;
  for (const std::string& set : sets) {
    const Entry entry{set, list.value(set, Json())};
    if (!entry.json.is_object()) {
      std::vector<std::string> known;
      for (const auto& [known_name, value] : list.items()) known.push_back(known_name);
      const std::string hint = suggest_names(set, known);
      reading.refuse(name, fmt::format("there is no data set '{}' in {}", set, info.string()),
                     hint.empty() ? fmt::format("name one that it lists, or give --{} FILE", key) : hint, {key});
      return;
    }
    const Json file = entry.json.value("file_name", Json());
    if (!file.is_string()) {
      return refuse_entry(reading, entry, key, "is one of a hub or a script",
                          "fetch one of the hub with `deltaw download NAME --repo_type dataset`");
    }
    if (!is_usual(reading, entry, key)) return;
    if (entry.json.value("formatting", Json("alpaca")) == "alpaca") {
      take_alpaca(reading, entry, key);
    } else {
      take_sharegpt(reading, entry, key);
    }
    files.push_back((folder / file.get<std::string>()).lexically_normal().string());
  }
  reading.became(fmt::format("{} {} is {} {}", name, fmt::join(sets, ", "), key, fmt::join(files, ", ")));
  take_data(reading, files, key, name);
}

void take_template(Reading& reading, const Json& value) {
  if (value == "alpaca") {
    reading.became("template alpaca is the wording of rows of instruction and output");
    return;
  }
  if (value == "empty") {
    return reading.refuse("template", "'template' is empty: answers follow prompts without any words between them",
                          "write the rows as prompt and completion, and remove template", {"chat_template"});
  }
  reading.became(fmt::format("template {} is the checkpoint's own chat template", plain(value)));
}

void take_quantisation(Reading& reading, const Json& value) {
  const std::optional<int64_t> bits = reading.whole_of("quantization_bit");
  const Json method = reading.of("quantization_method");
  if (!bits) return;
  if (!method.is_null() && method != "bnb" && method != "bitsandbytes") {
    return reading.refuse(
        "quantization_method",
        fmt::format("'quantization_method' is {}, and deltaw has the codes of bitsandbytes", plain(method)),
        "set it to bnb", {"load_in_4bit", "load_in_8bit"});
  }
  if (*bits != 4 && *bits != 8) {
    return reading.refuse("quantization_bit",
                          fmt::format("'quantization_bit' is {}, and there are 4 and 8", plain(value)),
                          "set it to 4 or 8", {"load_in_4bit", "load_in_8bit"});
  }
  reading.set(*bits == 4 ? "load_in_4bit" : "load_in_8bit", true, "quantization_bit");
  reading.became(fmt::format("quantization_bit {} is load_in_{}bit", *bits, *bits));
  if (*bits == 4) reading.set_default("bnb_4bit_use_double_quant", reading.truth_of("double_quantization", true));
}

void take_type(Reading& reading, const Json& value) {
  if (value == "freeze") {
    return reading.refuse("finetuning_type", "'finetuning_type' is freeze: some blocks train as they are",
                          "set it to lora or full", {"method"});
  }
  reading.set("method", value, "finetuning_type");
}

void take_start(Reading& reading) {
  if (!reading.truth_of("pissa_init")) return;
  const int64_t rounds = reading.whole_of("pissa_iter").value_or(16);
  const std::string start = rounds < 1 ? "pissa" : fmt::format("pissa_niter_{}", rounds);
  reading.set("init_lora_weights", start, "pissa_init");
  reading.became("pissa_init is init_lora_weights " + start);
}

void take_held_out(Reading& reading, const Json& value) {
  take_held_out_share(reading, value, "val_size");
}

void take_stage(Reading& reading, const Json& value) {
  if (value == "sft") return;
  if (value == "pt") {
    // A document stands in the prompt's column, and is trained on as a whole.
    if (reading.of("packing").is_null()) {
      reading.set_default("packing", true);
      reading.became("stage pt packs rows: packing true");
    }
    return;
  }
  reading.refuse(
      "stage",
      fmt::format("'stage' is {}: deltaw trains on texts and answers, not on preferences or rewards", plain(value)),
      "set it to sft or pt, with data of that kind");
}

bool trains(const Reading& reading) {
  return !reading.of("dataset").is_null() || !reading.of("stage").is_null() || !reading.of("do_train").is_null();
}

void take_export(Reading& reading, const Json& value) {
  if (!trains(reading)) return reading.set("output_dir", value, "export_dir");
  reading.refuse("export_dir", "'export_dir' is given, and training writes an adapter to output_dir",
                 "remove it; `deltaw merge` writes the model");
}

/// What LLaMA-Factory does where a key is missing, and deltaw does not.
void finish(Reading& reading) {
  if (!trains(reading)) return;
  finish_training_arguments(reading);
  take_sets(reading, "dataset", "train_file");
  take_sets(reading, "eval_dataset", "validation_file");
  take_start(reading);
  reading.set_default("max_length", 2048);
  if (reading.of("template") != "alpaca" && reading.of("stage") != "pt") reading.set_default("as_conversation", true);
  const bool plain_lora = !reading.is_set("method") || reading.of("finetuning_type") == "lora";
  if (!plain_lora || reading.is_elsewhere("method")) return;
  reading.set_default("target_modules", "all-linear");
  if (reading.of("lora_alpha").is_null()) {
    const int64_t rank = reading.rank("lora_rank", 8);
    reading.set_default("lora_alpha", 2 * rank);
    reading.became(fmt::format("lora_alpha is twice the rank, {}", 2 * rank));
  }
}

std::vector<Key> keys() {
  std::vector<Key> keys = {
      same("model_name_or_path use_rslora use_dora lora_alpha lora_dropout loraplus_lr_ratio loraplus_lr_embedding "
           "oft_block_size add_tokens add_special_tokens early_stopping_patience"),
      computed("stage", "", "sft and pt train; pt packs its documents. Others are refused.", take_stage),
      computed("finetuning_type", "method", "lora, oft and full are methods; freeze is refused.", take_type),
      computed("adapter_name_or_path", "adapter_name_or_path", "One adapter; several with commas are refused.",
               [](Reading& r, const Json& value) {
                 if (plain(value).find(',') == std::string::npos)
                   return r.set("adapter_name_or_path", value, "adapter_name_or_path");
                 r.refuse("adapter_name_or_path", "several adapters are named, and training goes on from one",
                          "merge all but the last one into the base with `deltaw merge`");
               }),
      as("lora_rank", "r"),
      as("oft_rank", "r"),
      as("lora_target", "target_modules", {{"all", "all-linear"}}, "all is all-linear"),
      as("oft_target", "target_modules", {{"all", "all-linear"}}, "all is all-linear"),
      as("additional_target", "modules_to_save"),
      computed("export_dir", "output_dir", "In a file without data, that of `deltaw merge`.", take_export),
      computed("pissa_init", "init_lora_weights", "pissa_niter_16, or pissa where pissa_iter is -1.",
               [](Reading&, const Json&) {}),
      idle("pissa_iter", "it stands in init_lora_weights"),
      idle("pissa_convert", "`deltaw export` writes a plain LoRA of any start"),
      computed("quantization_bit", "load_in_4bit, load_in_8bit",
               "4 and 8, with double_quantization (true where it is missing).", take_quantisation),
      computed("quantization_method", "", "bnb; others are refused.", [](Reading&, const Json&) {}),
      as("quantization_type", "bnb_4bit_quant_type"),
      computed("double_quantization", "bnb_4bit_use_double_quant", "Where quantization_bit is 4.",
               [](Reading&, const Json&) {}),
      idle("quantization_device_map", "how it is computed, which deltaw decides"),
      computed("dataset", "train_file",
               "Names are looked up in dataset_info.json of dataset_dir (data where it is missing): file_name, "
               "formatting, columns and tags.",
               [](Reading&, const Json&) {}),
      computed("eval_dataset", "validation_file", "As dataset.", [](Reading&, const Json&) {}),
      computed("dataset_dir", "", "The folder of dataset_info.json.", [](Reading&, const Json&) {}),
      computed("template", "",
               "alpaca is the wording that rows of instruction and output have here. For every other "
               "one the checkpoint's own chat template stands, and such rows become turns of a conversation "
               "(as_conversation).",
               take_template),
      as("cutoff_len", "max_length", {}, "2048 where it is missing, as there"),
      as("max_samples", "max_train_samples"),
      computed("val_size", "validation_split", "A share below 1, or a number of rows.", take_held_out),
      computed("train_on_prompt", "completion_only_loss", "true is false.",
               [](Reading& r, const Json&) {
                 if (r.truth_of("train_on_prompt")) r.set("completion_only_loss", false, "train_on_prompt");
               }),
      refused("mask_history",
              "all turns of the assistant are trained on|set it to false, or mark the others with "
              "\"train\": false"),
      same("packing", "Rows of one pack never see each other, as with neat_packing."),
      computed("neat_packing", "packing", "true is packing true.",
               [](Reading& r, const Json&) {
                 if (r.truth_of("neat_packing")) r.set("packing", true, "neat_packing");
               }),
      computed("pure_bf16", "dtype", "true is bf16 for the frozen base; what trains is float32.",
               [](Reading& r, const Json&) {
                 if (r.truth_of("pure_bf16")) r.set_default("dtype", "bf16");
               }),
      computed("early_stopping_steps", "early_stopping_patience", "",
               [](Reading& r, const Json& value) { r.set("early_stopping_patience", value, "early_stopping_steps"); }),
      computed("disable_gradient_checkpointing", "gradient_checkpointing", "false is true.",
               [](Reading& r, const Json&) {
                 r.set("gradient_checkpointing", !r.truth_of("disable_gradient_checkpointing"),
                       "disable_gradient_checkpointing");
               }),
      refused("freeze_trainable_layers freeze_trainable_modules freeze_extra_modules use_llama_pro",
              "blocks do not train by themselves|set finetuning_type to lora"),
      refused("use_galore use_apollo use_badam use_muon use_adam_mini",
              "the optimiser of deltaw is AdamW|set it to false; LoRA needs no such optimiser"),
      refused("use_dft_loss use_asft_loss use_eaft_loss", "the loss is the cross entropy|set it to false"),
      refused("mixture_of_depths shift_attn rope_scaling", "the model is the checkpoint's|remove it"),
      refused("block_diag_attn", "rows of one pack never see each other|remove it", {true}),
      refused("train_from_scratch", "a checkpoint is fine-tuned|set it to false"),
      refused("fp8", "the base is float32, bf16, or held in 4 or 8 bits|set it to false"),
      refused("default_system", "a system's words stand in the rows|write them into each row as system"),
      refused("tool_format", "the checkpoint's chat template words tools|remove it"),
      refused("tokenized_path", "rows are tokenised in each run|remove it, and name the data as dataset"),
      refused("mix_strategy", "files are read one after the other|set it to concat", {"concat"}),
      refused("predict_with_generate compute_accuracy",
              "training scores by the loss|set it to false; `deltaw generate` and `deltaw eval` do the rest"),
      refused("disable_shuffling", "rows are shuffled, by data_seed|set it to false"),
      refused("split_special_tokens", "special tokens are single tokens|set it to false"),
      refused("create_new_adapter",
              "training goes on from adapter_name_or_path|set it to false, or merge that adapter "
              "into the base with `deltaw merge`"),
      refused("new_special_tokens_config init_special_tokens",
              "new tokens start as the mean of the others|give "
              "add_special_tokens",
              {"noise_init"}),
      refused("enable_thinking",
              "a row's chat_template_kwargs tell a template|write {\"enable_thinking\": false} there", {true}),
      refused("export_quantization_bit export_hub_model_id",
              "training writes an adapter|remove it; `deltaw "
              "merge` and `deltaw export` write models"),
      refused("use_megatron_bridge use_mca use_hyper_parallel", "one process trains|remove it"),
      idle("preprocessing_num_workers preprocessing_batch_size overwrite_cache streaming buffer_size "
           "data_shared_file_system ignore_pad_token_for_loss interleave_probs media_dir cache_dir",
           "rows are read before training begins"),
      idle("plot_loss include_effective_tokens_per_second use_swanlab swanlab_project swanlab_workspace "
           "swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir swanlab_lark_webhook_url swanlab_lark_secret "
           "print_param_status eval_on_each_dataset",
           "log.jsonl in output_dir holds every event, and nothing is reported elsewhere"),
      idle("flash_attn use_unsloth use_unsloth_gc enable_liger_kernel use_reentrant_gc upcast_layernorm "
           "upcast_lmhead_output low_cpu_mem_usage use_fast_tokenizer offload_folder use_kv_cache use_v1_kernels "
           "infer_backend infer_dtype compute_dtype resize_vocab moe_aux_loss_coef",
           "how it is computed, which deltaw decides"),
      idle("ray_num_workers ray_run_name ray_storage_path resources_per_worker placement_strategy ray_init_kwargs "
           "fp8_backend fp8_enable_fsdp_float8_all_gather",
           "one process trains"),
      idle("image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches video_max_pixels "
           "video_min_pixels video_fps video_maxlen use_audio_in_video audio_sampling_rate freeze_vision_tower "
           "freeze_multi_modal_projector freeze_language_model",
           "language models here read text alone"),
      idle("pref_beta pref_ftx pref_loss pref_bco_weight dpo_label_smoothing kto_chosen_weight kto_rejected_weight "
           "simpo_gamma ref_model ref_model_adapters ref_model_quantization_bit reward_model reward_model_adapters "
           "reward_model_quantization_bit reward_model_type ppo_buffer_size ppo_epochs ppo_score_norm ppo_target "
           "ppo_whiten_rewards ld_alpha",
           "of stages that are refused"),
      idle("galore_target galore_rank galore_update_interval galore_scale galore_proj_type galore_layerwise "
           "apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj apollo_proj_type "
           "apollo_scale_type apollo_layerwise apollo_scale_front badam_mode badam_start_block badam_switch_mode "
           "badam_switch_interval badam_update_ratio badam_mask_mode badam_verbose asft_alpha eaft_alpha",
           "of optimisers and losses that are refused"),
      idle("use_kt kt_cpu_activation kt_weight_path kt_non_expert_weight_path kt_expert_checkpoint_path "
           "kt_use_lora_experts "
           "kt_lora_expert_num kt_lora_expert_intermediate_size kt_config tensor_model_parallel_size "
           "pipeline_model_parallel_size expert_model_parallel_size context_parallel_size sequence_parallel "
           "use_distributed_optimizer overlap_param_gather overlap_grad_reduce bias_activation_fusion "
           "apply_rope_fusion mixed_precision moe_grouped_gemm moe_token_dispatcher_type recompute_granularity "
           "use_packed_sequences "
           "export_hf_on_finish",
           "how it is computed, which deltaw decides"),
      idle("export_size export_device export_legacy_format export_quantization_dataset export_quantization_nsamples "
           "export_quantization_maxlen vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config "
           "sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend max_new_tokens top_p "
           "temperature top_k do_sample repetition_penalty",
           "of other commands"),
      idle("hf_hub_token ms_hub_token om_hub_token", "nothing is downloaded or uploaded"),
      computed("model_revision", "", "main; others are refused.",
               [](Reading& r, const Json& value) {
                 if (value == "main") return;
                 r.refuse("model_revision", "'model_revision' is not main",
                          "give the folder of that revision as --model_name_or_path", {"model_name_or_path"});
               }),
  };
  return with_shared(std::move(keys), training_arguments());
}

std::vector<std::string> marked_by(const Json& values) {
  // A file of deltaw's names rows by a file.
  const Json data = values.value("dataset", Json());
  if (!data.is_string()) return {};
  const std::vector<std::string> names = split_at_commas(data.get<std::string>());
  if (names.empty() || std::any_of(names.begin(), names.end(), is_data_file)) return {};
  return {"dataset"};
}

}  // namespace

Tool llama_factory() {
  return {.name = "LLaMA-Factory",
          .version = "commit ff6d4d1 of August 2026",
          .file = "the YAML or JSON of `llamafactory-cli train`",
          .marks = {"template", "preprocessing_num_workers", "overwrite_cache", "plot_loss", "pissa_init",
                    "neat_packing", "pure_bf16", "flash_attn", "eval_dataset", "disable_gradient_checkpointing",
                    "enable_liger_kernel", "use_unsloth", "mask_history"},
          .keys = keys(),
          .marked_by = marked_by,
          .finish = finish};
}

Tool llama_factory_v1() {
  return {.name = "LLaMA-Factory's version 1",
          .version = "commit ff6d4d1 of August 2026",
          .file = "the YAML of its second trainer, with peft_config and dist_config",
          .marks = {"peft_config", "dist_config", "kernel_config", "model_class", "sample_backend", "init_config",
                    "quant_config", "batching_strategy", "optim_config"},
          .keys = {idle("model train_dataset micro_batch_size cutoff_len output_dir learning_rate bf16 max_new_tokens "
                        "max_steps num_train_epochs template trust_remote_code gradient_accumulation_steps "
                        "logging_steps save_steps dataset_dir peft_config dist_config kernel_config model_class "
                        "sample_backend init_config quant_config batching_strategy optim_config",
                        "")},
          .refusal =
              "its data sets and adapters are described in maps of their own, which deltaw does not read|write "
              "it in the keys of `llamafactory-cli train` (finetuning_type, dataset, template), or in deltaw's"};
}

}  // namespace deltaw::foreign
