#include "aliases.h"

#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"

namespace deltaw::cli {
namespace {

struct Alias {
  const char* other;
  const char* key;
};

constexpr Alias kAliases[] = {
    {"peft_type", "method"},
    {"finetuning_type", "method"},
    {"base_model", "model_name_or_path"},
    {"model", "model_name_or_path"},
    {"base_model_name_or_path", "model_name_or_path"},
    {"pretrained_model_name_or_path", "model_name_or_path"},
    {"adapter", "adapter_name_or_path"},
    {"lora_model_dir", "adapter_name_or_path"},
    {"torch_dtype", "dtype"},
    {"bnb_4bit_compute_dtype", "dtype"},
    {"lora_rank", "r"},
    {"lora_r", "r"},
    {"rank", "r"},
    {"network_dim", "r"},
    {"network_alpha", "lora_alpha"},
    {"lora_target", "target_modules"},
    {"lora_target_modules", "target_modules"},
    {"lora_modules", "target_modules"},
    {"additional_target", "modules_to_save"},
    {"lora_modules_to_save", "modules_to_save"},
    {"micro_batch_size", "per_device_train_batch_size"},
    {"train_batch_size", "per_device_train_batch_size"},
    {"batch_size", "per_device_train_batch_size"},
    {"eval_batch_size", "per_device_eval_batch_size"},
    {"grad_accumulation_steps", "gradient_accumulation_steps"},
    {"cutoff_len", "max_length"},
    {"max_seq_length", "max_length"},
    {"sequence_len", "max_length"},
    {"num_epochs", "num_train_epochs"},
    {"epochs", "num_train_epochs"},
    {"iters", "max_steps"},
    {"max_train_steps", "max_steps"},
    {"lr", "learning_rate"},
    {"lr_scheduler", "lr_scheduler_type"},
    {"lr_warmup_steps", "warmup_steps"},
    {"adam_weight_decay", "weight_decay"},
    {"checkpointing_steps", "save_steps"},
    {"checkpoints_total_limit", "save_total_limit"},
    {"evaluation_strategy", "eval_strategy"},
    {"eval_file", "validation_file"},
    {"dataset", "train_file"},
    {"datasets", "train_file"},
    {"dataset_name", "train_file"},
    {"train_dataset", "train_file"},
    {"train_data_dir", "train_file"},
    {"data", "train_file"},
    {"dataset_text_field", "text_column"},
    {"dev_file", "validation_file"},
    {"val_size", "validation_split"},
    {"val_set_size", "validation_split"},
    {"max_samples", "max_train_samples"},
    {"max_val_samples", "max_eval_samples"},
    {"resume", "resume_from_checkpoint"},
    {"assistant_only_loss", "completion_only_loss"},
    {"mask_prompt", "completion_only_loss"},
    {"sample_packing", "packing"},
    {"max_tokens", "max_new_tokens"},
    {"temp", "temperature"},
    {"system_prompt", "system"},
};

constexpr const char* kAny = "*";

/// A setting that is accepted with the values that change nothing here, or with kAny.
struct Fixed {
  const char* key;
  std::vector<std::string> accepted;
  const char* reason;
};

const std::vector<Fixed>& fixed_settings() {
  static const std::vector<Fixed> table = {
      {"fp16", {"false"}, "half precision is bf16 here: set dtype to bf16 or float32"},
      {"tf32", {"false"}, "set dtype to bf16 or float32"},
      {"quantization_bit", {"null"}, "set load_in_4bit or load_in_8bit to true"},
      {"bnb_4bit_quant_storage", {"uint8"}, "two codes of 4 bits are stored as one uint8"},
      {"train_on_inputs", {"false"}, "set completion_only_loss to false"},
      {"train_on_prompt", {"false"}, "set completion_only_loss to false"},
      {"report_to", {"none", "[]", "null", "[\"none\"]"}, "set it to none; log.jsonl in output_dir holds every event"},
      {"push_to_hub", {"false"}, "remove it: nothing is uploaded; output_dir is a folder that can be"},
      {"optim", {"adamw", "adamw_torch", "adamw_torch_fused"}, "remove it: the optimiser is adamw_torch"},
      {"trust_remote_code", {"false"}, "remove it: no code of a checkpoint is run"},
      {"revision", {"main", "null"}, "give the folder of that revision as model_name_or_path"},
      {"full_determinism", {"true", "false"}, ""},
      {"resize_vocab", {"true", "false"}, ""},
      {"use_cpu", {"true"}, "remove it: this build computes on the CPU"},
      {"no_cuda", {"true"}, "remove it: this build computes on the CPU"},
      {"device", {"cpu", "auto"}, "remove it: this build computes on the CPU"},
      {"device_map", {"cpu", "auto"}, "remove it: this build computes on the CPU"},
      {"do_train", {"true"}, "use the verb eval or predict"},
      {"do_eval", {"true", "false"}, ""},
      {"stage",
       {"sft", "pt"},
       "remove it: classifiers are trained, and language models on texts and answers (sft, pt)"},
      {"deepspeed", {"null"}, "remove it: one process trains"},
      {"fsdp", {"", "[]"}, "remove it: one process trains"},
      {"ddp_timeout", {kAny}, ""},
      {"run_name", {kAny}, ""},
      {"attn_implementation", {kAny}, ""},
      {"logging_dir", {"null"}, "remove it: log.jsonl in output_dir holds every event"},
      {"fan_in_fan_out", {"false"}, "weights lie as [d_out, d_in] in every model that is read"},
      // of diffusers' scripts
      {"variant", {"null"}, "remove it: what is read is the file without a variant, and fp16 where there is no other"},
      {"tokenizer_name", {"null"}, "remove it: the tokenizer is the model's own"},
      {"tokenizer_max_length", {"null"}, "remove it: as many tokens are read as the text encoder has places"},
      {"text_encoder_use_attention_mask", {"false"}, "remove it: the text encoder reads what fills a caption too"},
      {"dataset_config_name", {"null"}, "remove it, and give the folder of its files as train_file"},
      {"cache_dir", {"null"}, "set HF_HUB_CACHE to that folder"},
      {"prediction_type", {"null"}, "write it into the pipeline's scheduler/scheduler_config.json"},
      {"validation_images", {"null"}, "remove it: pictures are drawn of texts alone"},
      {"class_labels_conditioning", {"null"}, "remove it: such a model is not implemented"},
      {"prior_generation_precision", {"null"}, "remove it: pictures of the class are made in dtype"},
      {"sample_batch_size", {kAny}, ""},  // pictures are made one by one
      {"cache_latents", {"true", "false"}, ""},
      {"pre_compute_text_embeddings", {"true", "false"}, ""},
      {"scale_lr", {"false"}, "give the learning_rate times the rows of a step"},
      {"use_8bit_adam", {"false"}, "remove it: the state of AdamW is float32"},
      {"lr_num_cycles", {"1"}, "remove it: no schedule here starts again"},
      {"lr_power", {"1", "1.0"}, "remove it: no schedule here is a polynomial"},
      {"enable_xformers_memory_efficient_attention", {"true", "false"}, ""},
      {"allow_tf32", {"true", "false"}, ""},
      {"local_rank", {kAny}, ""},
      {"hub_token", {kAny}, ""},  // of push_to_hub, as the next one
      {"hub_model_id", {kAny}, ""},
  };
  return table;
}

std::string plain(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (text.size() > 5 || text.empty()) return text;
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return lower == "true" || lower == "false" || lower == "none" ? lower : text;
}

const char* key_of(const std::string& other) {
  for (const Alias& alias : kAliases) {
    if (other == alias.other) return alias.key;
  }
  return nullptr;
}

/// True when the setting is known and asks for nothing.
bool drop_fixed(const std::string& key, const Json& value, const std::string& where) {
  for (const Fixed& fixed : fixed_settings()) {
    if (key != fixed.key) continue;
    const std::string given = plain(value);
    const auto accepts = [&](const std::string& text) {
      return std::find(fixed.accepted.begin(), fixed.accepted.end(), text) != fixed.accepted.end();
    };
    if (value.is_null() || accepts(given) || accepts(kAny)) return true;
    throw Error({.id = "config.not-implemented",
                 .what = fmt::format("'{}' is {}, which deltaw does not implement", key, given),
                 .where = fmt::format("{}, key \"{}\"", where, key),
                 .fix = fixed.reason});
  }
  return false;
}

/// The dtype that mixed_precision means. Throws config.not-implemented for fp16.
Json dtype_of(const Json& mixed_precision, const std::string& where) {
  const std::string given = plain(mixed_precision);
  if (given == "no" || given == "false") return "float32";  // false: "no" of a YAML file
  if (mixed_precision.is_null() || given == "bf16") return mixed_precision;
  throw Error({.id = "config.not-implemented",
               .what = fmt::format("'mixed_precision' is {}, which deltaw does not implement", given),
               .where = fmt::format("{}, key \"mixed_precision\"", where),
               .fix = "set it to bf16 or no"});
}

void set(Json& result, const std::string& key, const Json& value, const std::string& name, const std::string& where) {
  if (result.contains(key) && result[key] != value) {
    throw Error({.id = "config.two-names",
                 .what = fmt::format("'{}' is another name of '{}', and the two disagree: {} and {}", name, key,
                                     plain(value), plain(result[key])),
                 .where = where,
                 .fix = fmt::format("keep '{}' alone", key)});
  }
  result[key] = value;
}

}  // namespace

std::vector<std::string> other_names(const std::set<std::string>& known) {
  std::vector<std::string> names;
  for (const Alias& alias : kAliases) {
    if (known.contains(alias.key) && !known.contains(alias.other)) names.push_back(alias.other);
  }
  if (known.contains("dtype")) {
    for (const char* name : {"bf16", "mixed_precision"}) {
      if (!known.contains(name)) names.emplace_back(name);
    }
  }
  if (known.contains("target_modules")) names.push_back("lora_target_linear");
  if (known.contains("learning_rate")) {
    for (const Fixed& fixed : fixed_settings()) {
      if (!known.contains(fixed.key)) names.push_back(fixed.key);
    }
  }
  return names;
}

bool stands_for(const std::string& name, const std::set<std::string>& keys) {
  const char* key = key_of(name);
  return key && keys.contains(key);
}

bool is_switch(const std::string& name, const std::set<std::string>& switches) {
  if (name == "bf16" || name == "lora_target_linear") return true;
  if (const char* key = key_of(name)) return switches.contains(key);
  for (const Fixed& fixed : fixed_settings()) {
    if (name == fixed.key) {
      return std::any_of(fixed.accepted.begin(), fixed.accepted.end(),
                         [](const std::string& value) { return value == "true" || value == "false"; });
    }
  }
  return false;
}

Json translate(const Json& values, const std::set<std::string>& known, const std::string& where, Problems& problems) {
  Json result = Json::object();
  const std::vector<std::string> others = other_names(known);
  bool counts_steps = false;  // of checkpoints, as diffusers' scripts always do
  const auto take = [&](const std::string& given, const Json& value) {
    std::string name = given;
    std::replace(name.begin(), name.end(), '-', '_');
    if (known.contains(name) || std::find(others.begin(), others.end(), name) == others.end()) {
      set(result, name, value, given, where);
    } else if (name == "bf16") {
      if (plain(value) == "true" || plain(value) == "auto") {
        set(result, "dtype", plain(value) == "true" ? "bf16" : "auto", given, where);
      }
    } else if (name == "mixed_precision") {
      if (const Json dtype = dtype_of(value, where); !dtype.is_null()) set(result, "dtype", dtype, given, where);
    } else if (name == "lora_target_linear") {
      if (plain(value) == "true") set(result, "target_modules", "all-linear", given, where);
    } else if (const char* key = key_of(name)) {
      const bool all_linear = name == "lora_target" && value == "all";
      set(result, key, all_linear ? Json("all-linear") : value, given, where);
      counts_steps |= name == "checkpointing_steps";
    } else {
      drop_fixed(name, value, where);
    }
  };
  for (const auto& [given, value] : values.items()) {
    problems.gather([&, name = given, &value = value] { take(name, value); });
  }
  if (counts_steps && !result.contains("save_strategy")) result["save_strategy"] = "steps";
  return result;
}

}  // namespace deltaw::cli
