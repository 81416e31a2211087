// PEFT: adapter_config.json as a file of keys. Its keys are deltaw's.
#include <fmt/format.h>

#include <set>

#include "core/foreign/peft_keys.h"
#include "core/foreign/tools.h"

namespace deltaw::foreign {
namespace {

// Keys of adapter_config.json that say nothing about the update.
const std::set<std::string> kIgnored = {
    "peft_type", "method", "peft_version", "auto_mapping", "revision", "inference_mode", "base_model_name_or_path",
    "megatron_core", "qalora_group_size",
    // follows from the layer's kind
    "fan_in_fan_out",
    // of virtual tokens: they follow from the base
    "token_dim", "num_layers", "num_attention_heads", "num_transformer_submodules", "runtime_config",
    // of a start that is over
    "tokenizer_kwargs"};
// Keys whose `true` is what every method here does anyway.
const std::set<std::string> kTrueIsDefault = {"init_lora_weights", "init_weights", "init_ia3_weights"};

/// The names of the options that methods of that type have.
const std::set<std::string>* options_of(const Here& here, const std::string& type) {
  const auto found = here.methods.find(type);
  return found == here.methods.end() ? nullptr : &found->second;
}

bool is_option_of_any(const Here& here, const std::string& key) {
  for (const auto& [type, options] : here.methods) {
    if (options.contains(key)) return true;
  }
  return false;
}

/// A key that the table does not list.
void take_other(Reading& reading, const std::string& name, const Json& value) {
  const std::string type = plain(reading.of("peft_type"));
  const std::set<std::string>* own = options_of(reading.here, type);
  if (!own && !reading.here.methods.empty()) return;  // the type is refused
  const bool shared = reading.here.keys.contains(name) && !is_option_of_any(reading.here, name);
  if (value.is_null()) return;
  if (shared || (own && own->contains(name))) return reading.set(name, value, name);
  const bool is_first_rank = name == "r" && own && own->contains("init_r");  // which PEFT does not read beside it
  const bool is_of_no_network = name == "encoder_hidden_size" && is_off(reading.of("prefix_projection"));
  if (is_first_rank || is_of_no_network || asks_for_nothing(name, value)) return reading.pass_over(name);
  reading.refuse(name, fmt::format("'{}' is {}: deltaw has no such option of PEFT's {}", name, plain(value), type),
                 "remove it; what is trained is then another adapter than PEFT's");
}

void take_type(Reading& reading, const Json& value) {
  const std::string type = plain(value);
  if (!reading.here.methods.empty() && !options_of(reading.here, type)) {
    return reading.refuse("peft_type", fmt::format("PEFT's {} is none of the methods of deltaw", type),
                          "choose one of those that `deltaw methods` lists", {"method"});
  }
  reading.set("method", value, "peft_type");
}

}  // namespace

bool asks_for_nothing(const std::string& key, const Json& value) {
  if (kIgnored.contains(key)) return true;
  if (value.is_null() || value == false) return true;
  if (((value.is_object() || value.is_array()) && value.empty()) || value == "") return true;
  if (key.ends_with("_dropout") && value.is_number() && value == 0) return true;
  return value == true && kTrueIsDefault.contains(key);
}

Tool peft() {
  return {.name = "PEFT",
          .version = "0.20 (commit 5d602fd of August 2026)",
          .file = "the adapter_config.json of an adapter",
          .marks = {"inference_mode", "auto_mapping", "peft_version", "megatron_config", "megatron_core",
                    "layer_replication", "loftq_config"},
          .keys = {computed("peft_type", "method", "Any that `deltaw methods` lists.", take_type),
                   as("base_model_name_or_path", "model_name_or_path"),
                   idle("inference_mode auto_mapping peft_version revision megatron_core qalora_group_size "
                        "fan_in_fan_out token_dim num_layers num_attention_heads num_transformer_submodules "
                        "runtime_config tokenizer_kwargs tokenizer_name_or_path",
                        "it follows from the base, or says nothing about the update")},
          .take_other = take_other};
}

Tool accelerate() {
  return {.name = "accelerate",
          .version = "1.x",
          .file = "the YAML of `accelerate config`",
          .marks = {"compute_environment", "distributed_type", "num_machines", "num_processes", "rdzv_backend"},
          .keys = {idle("compute_environment distributed_type num_machines num_processes rdzv_backend debug "
                        "mixed_precision machine_rank main_training_function same_network use_cpu tpu_env",
                        "")},
          .refusal =
              "it says how processes are started and nothing of a training, and deltaw trains in one process|"
              "leave it out"};
}

Tool deepspeed() {
  return {
      .name = "DeepSpeed",
      .version = "0.x",
      .file = "its JSON",
      .marks = {"zero_optimization", "train_micro_batch_size_per_gpu", "zero_allow_untested_optimizer"},
      .keys = {idle("zero_optimization train_micro_batch_size_per_gpu zero_allow_untested_optimizer train_batch_size "
                    "gradient_accumulation_steps gradient_clipping steps_per_print wall_clock_breakdown fp16 bf16 "
                    "optimizer scheduler",
                    "")},
      .refusal = "it says how a training is spread over devices, and deltaw trains in one process|leave it out"};
}

}  // namespace deltaw::foreign
