// TRL: the keys of `trl sft --config`, which are those of SFTConfig, ModelConfig and ScriptArguments.
#include <fmt/format.h>

#include <algorithm>

#include "core/foreign/tools.h"

namespace deltaw::foreign {
namespace {

std::vector<std::string> texts_of(const Json& value) {
  std::vector<std::string> texts;
  for (const Json& item : value.is_array() ? value : Json::array({value})) {
    if (item.is_string()) texts.push_back(item.get<std::string>());
  }
  return texts;
}

void take_sets(Reading& reading) {
  const Json& sets = reading.of("datasets");
  if (sets.is_null()) return;
  std::vector<std::string> files;
  for (const Json& set : sets.is_array() ? sets : Json::array({sets})) {
    const Json path = set.is_object() ? set.value("path", Json()) : Json();
    if (!path.is_string()) return reading.refuse_type("datasets", "a list of maps, each with path");
    const std::vector<std::string> named = texts_of(set.value("data_files", Json()));
    if (named.empty()) files.push_back(path.get<std::string>());
    files.insert(files.end(), named.begin(), named.end());
  }
  take_data(reading, files, "train_file", "datasets");
}

void take_length(Reading& reading, const Json& value) {
  reading.set("max_length", value, reading.of("max_length").is_null() ? "max_seq_length" : "max_length");
}

/// What is learned of a row. Where nothing is said, TRL trains on completions, and on all of a conversation.
void take_loss(Reading& reading) {
  const bool assistant = reading.truth_of("assistant_only_loss");
  if (!reading.of("completion_only_loss").is_null()) {
    const bool completions = reading.truth_of("completion_only_loss");
    return reading.set("completion_only_loss", completions || assistant, "completion_only_loss");
  }
  if (assistant) return reading.set("completion_only_loss", true, "assistant_only_loss");
  if (reading.is_set("completion_only_loss")) return;
  reading.became(
      "completion_only_loss stays true: of conversations the assistant's turns are trained on, where TRL without "
      "assistant_only_loss takes all of them");
}

void finish(Reading& reading) {
  finish_training_arguments(reading);
  take_sets(reading);
  take_loss(reading);
  reading.set_default("max_length", 1024);
  reading.set_default("learning_rate", 2e-5);
  reading.set_default("logging_steps", 10);
  if (!reading.truth_of("use_peft")) {
    if (reading.is_set("method") || !reading.of("peft_type").is_null()) return;
    reading.set_default("method", reading.here.whole_model);
    return reading.became("without use_peft the whole model trains: method " + reading.here.whole_model);
  }
  if (reading.is_set("method")) return;
  reading.set_default("r", 16);
  reading.set_default("lora_alpha", 32);
  reading.set_default("lora_dropout", 0.05);
}

/// A key of LoRA, which TRL reads where use_peft is true alone.
template <const char* kName, const char* kHere>
void take_lora(Reading& reading, const Json& value) {
  if (reading.truth_of("use_peft")) return reading.set(kHere, value, kName);
  reading.pass_over(kName);
}

constexpr char kLoraR[] = "lora_r", kR[] = "r", kAlpha[] = "lora_alpha", kDropout[] = "lora_dropout",
               kTarget[] = "lora_target_modules", kModules[] = "target_modules", kSaved[] = "lora_modules_to_save",
               kSave[] = "modules_to_save", kRslora[] = "use_rslora", kDora[] = "use_dora";

std::vector<Key> keys() {
  std::vector<Key> keys = {
      same("model_name_or_path load_in_4bit load_in_8bit bnb_4bit_quant_type"),
      computed("completion_only_loss", "completion_only_loss", "true here where either of the two is true.",
               [](Reading&, const Json&) {}),
      computed("use_peft", "method", "true is lora; without it the whole model trains, as there.",
               [](Reading&, const Json&) {}),
      computed(kLoraR, kR, "16 where it is missing, as there.", take_lora<kLoraR, kR>),
      computed(kAlpha, kAlpha, "32 where it is missing, as there.", take_lora<kAlpha, kAlpha>),
      computed(kDropout, kDropout, "0.05 where it is missing, as there.", take_lora<kDropout, kDropout>),
      computed(kTarget, kModules, "", take_lora<kTarget, kModules>),
      computed(kSaved, kSave, "", take_lora<kSaved, kSave>),
      computed(kRslora, kRslora, "", take_lora<kRslora, kRslora>),
      computed(kDora, kDora, "", take_lora<kDora, kDora>),
      as("lora_task_type", "task_type"),
      refused("lora_target_parameters",
              "parameters that are no layers get no update|name layers in lora_target_modules"),
      as("use_bnb_nested_quant", "bnb_4bit_use_double_quant"),
      as("torch_dtype", "dtype", {{"bfloat16", "bf16"}}),
      as("dtype", "dtype", {{"bfloat16", "bf16"}, {"float16", Json()}}, "float16 is deltaw's auto"),
      computed("dataset_name", "train_file", "A file or folder.",
               [](Reading& r, const Json& value) {
                 if (r.of("datasets").is_null()) take_data(r, texts_of(value), "train_file", "dataset_name");
               }),
      computed("datasets", "train_file", "A list of maps: path, or data_files.", [](Reading&, const Json&) {}),
      refused("dataset_config", "a file has no configurations|remove it"),
      as("dataset_text_field", "text_column", {{"text", Json()}}),
      idle("dataset_train_split dataset_test_split",
           "a file is one split; validation_file and validation_split give "
           "another"),
      computed("test_split_size", "validation_split", "",
               [](Reading& r, const Json& value) { r.set("validation_split", value, "test_split_size"); }),
      computed("max_length", "max_length", "1024 where it is missing, as there.", take_length),
      computed("max_seq_length", "max_length", "The older name.", take_length),
      same("packing"),
      refused("packing_strategy", "rows are packed whole, best fit first|set it to bfd", {"bfd", "ffd"}),
      computed("assistant_only_loss", "completion_only_loss", "true is true.", [](Reading&, const Json&) {}),
      as("chat_template_path", "chat_template", {}, "a file"),
      refused("loss_type", "the loss is the cross entropy|remove it", {"nll", "chunked_nll"}),
      refused("model_revision", "a revision is a folder|give the folder of that revision as model_name_or_path",
              {"main"}),
      refused("model_init_kwargs dataset_kwargs", "they are for functions of Python|remove it"),
      refused("truncation_mode", "longer rows lose their end|set it to keep_start", {"keep_start"}),
      refused("eos_token",
              "what ends an answer is what its chat template writes behind it, else the tokenizer's end "
              "token|remove it; the first lines of `deltaw validate` show what is trained on"),
      idle("pad_token padding_free eval_packing pad_to_multiple_of activation_offloading use_liger "
           "router_aux_loss_coef bnb_4bit_quant_storage ignore_bias_buffers env",
           "how it is computed, which deltaw decides"),
      idle("dataset_num_proc dataset_batch_size dataset_streaming streaming shuffle_dataset",
           "rows are read before training begins, and shuffled"),
      idle("accelerate_config num_processes num_machines machine_rank main_process_ip main_process_port gpu_ids "
           "mixed_precision",
           "one process trains"),
  };
  return with_shared(std::move(keys), training_arguments());
}

std::vector<std::string> marked_by(const Json& values) {
  std::vector<std::string> marks;
  const Json name = values.value("dataset_name", Json());
  if (name.is_string() && !is_data_file(name.get<std::string>())) marks.push_back("dataset_name");
  const Json sets = values.value("datasets", Json());
  if (sets.is_array() && !sets.empty() && sets[0].is_object() && sets[0].contains("path")) marks.push_back("datasets");
  return marks;
}

}  // namespace

Tool trl() {
  return {.name = "TRL",
          .version = "1.10 (commit f2cd577 of July 2026), and TrainingArguments of transformers 5.24",
          .file = "the YAML of `trl sft --config`",
          .marks = {"use_peft", "dataset_train_split", "dataset_test_split", "dataset_config", "dataset_num_proc",
                    "lora_target_parameters", "lora_task_type", "use_bnb_nested_quant", "model_revision", "eos_token",
                    "packing_strategy", "padding_free", "eval_packing", "chat_template_path"},
          .keys = keys(),
          .marked_by = marked_by,
          .finish = finish};
}

}  // namespace deltaw::foreign
