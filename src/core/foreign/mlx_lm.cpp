// mlx-lm: the keys of `mlx_lm.lora --config`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/foreign/tools.h"

namespace deltaw::foreign {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLayers = 16, kRank = 8, kBatch = 4, kIterations = 1000, kLength = 2048, kReport = 10, kEval = 200,
                  kSave = 100, kValidationBatches = 25, kMostLayers = 10'000;
constexpr double kScale = 20, kRate = 1e-5, kDecay = 0.01;

Json inside(const Reading& reading, const char* map, const std::string& key) {
  const Json& value = reading.of(map);
  return value.is_object() ? value.value(key, Json()) : Json();
}

/// A number of a map in the file; `fallback` where it is missing.
double number_in(Reading& reading, const char* map, const char* key, double fallback) {
  const Json value = inside(reading, map, key);
  if (value.is_null()) return fallback;
  if (value.is_number()) return value.get<double>();
  reading.refuse(map, fmt::format("'{}' of {} is {}, which is no number", key, map, plain(value)), "give a number");
  return fallback;
}

int64_t accumulated(Reading& reading) {
  return std::max<int64_t>(reading.whole_of("grad_accumulation_steps").value_or(1), 1);
}

/// Iterations are forward passes there and updates here.
void take_count(Reading& reading, const std::string& name, const std::string& key, int64_t fallback) {
  const int64_t count = reading.whole_of(name).value_or(fallback);
  if (count <= 0) return;
  const int64_t steps = std::max<int64_t>(count / accumulated(reading), 1);
  if (reading.of(name).is_null()) {
    reading.set_default(key, steps);
  } else {
    reading.set(key, steps, name);
  }
  if (steps != count || key == "max_steps") reading.became(fmt::format("{} {} is {} {}", name, count, key, steps));
}

void take_data_folder(Reading& reading) {
  const std::optional<std::string> data = reading.text_of("data");
  if (!is_off(reading.of("hf_dataset"))) {
    return reading.refuse("hf_dataset", "'hf_dataset' is a data set of the hub, by its columns",
                          "fetch it with `deltaw download NAME --repo_type dataset`, and give --train_file FILE",
                          {"train_file"});
  }
  if (!data) return;
  std::error_code ignored;
  if (!fs::is_directory(*data, ignored)) return take_data(reading, {*data}, "train_file", "data");
  const fs::path train = fs::path(*data) / "train.jsonl", valid = fs::path(*data) / "valid.jsonl";
  reading.set("train_file", train.string(), "data");
  reading.became(fmt::format("data {} is train_file {}", *data, train.string()));
  if (!fs::exists(valid, ignored)) return;
  reading.set("validation_file", valid.string(), "data");
  reading.set_default("eval_strategy", "steps");
  take_count(reading, "steps_per_eval", "eval_steps", kEval);
  const int64_t batches = reading.whole_of("val_batches").value_or(kValidationBatches);
  const int64_t rows = batches * reading.whole_of("batch_size").value_or(kBatch);
  if (batches > 0) reading.set_default("max_eval_samples", rows);
}

void take_type(Reading& reading, const Json& value) {
  if (value == reading.here.whole_model) {
    return reading.refuse(
        "fine_tune_type",
        fmt::format("'fine_tune_type' is {}: there the last blocks train as they are, and the rest does not",
                    plain(value)),
        "set it to lora or dora, or give --method with a method that trains the whole model", {"method"});
  }
  reading.set("method", value, "fine_tune_type");
}

/// The last so many blocks, by their numbers.
void take_layers(Reading& reading) {
  if (reading.is_set("layers_to_transform")) return;
  const int64_t wanted = reading.whole_of("num_layers").value_or(kLayers);
  const std::optional<std::string> model = reading.text_of("model");
  if (wanted <= 0 || !model || !reading.here.blocks) return;
  const std::optional<int64_t> all = reading.here.blocks(*model);
  if (!all || *all > kMostLayers) return;  // no model, which is told when it is loaded
  if (wanted >= *all) return;
  Json numbers = Json::array();
  for (int64_t block = *all - wanted; block < *all; ++block) numbers.push_back(block);
  reading.set_default("layers_to_transform", numbers);
  reading.became(
      fmt::format("num_layers {} of {} is layers_to_transform {} to {}", wanted, *all, *all - wanted, *all - 1));
}

void take_update(Reading& reading) {
  const Json& parameters = reading.of("lora_parameters");
  if (!parameters.is_null() && !parameters.is_object()) return reading.refuse_type("lora_parameters", "a map");
  if (parameters.is_object()) {
    for (const auto& [key, value] : parameters.items()) {
      if (key == "keys" || key == "rank" || key == "scale" || key == "dropout" || key == "alpha") continue;
      reading.refuse("lora_parameters", fmt::format("'{}' of lora_parameters is not known", key),
                     "there are keys, rank, scale and dropout");
    }
  }
  const double named = number_in(reading, "lora_parameters", "rank", kRank);
  const double rank = reading.is_elsewhere("r") ? static_cast<double>(reading.rank("rank", kRank)) : named;
  const double scale = number_in(reading, "lora_parameters", "scale", kScale);
  reading.set_default("r", rank);
  reading.set_default("lora_alpha", scale * rank);
  reading.became(fmt::format("scale {:g} is lora_alpha {:g}, scale times rank {:g}", scale, scale * rank, rank));
  reading.set_default("lora_dropout", number_in(reading, "lora_parameters", "dropout", 0));
  const Json keys = inside(reading, "lora_parameters", "keys");
  reading.set_default("target_modules", keys.is_null() ? Json("all-linear") : keys);
}

void take_schedule(Reading& reading) {
  const Json& schedule = reading.of("lr_schedule");
  if (schedule.is_null()) {
    reading.set_default("learning_rate", kRate);
    return reading.set_default("lr_scheduler_type", "constant");
  }
  if (!schedule.is_object()) return reading.refuse_type("lr_schedule", "a map of name, warmup and arguments");
  const Json name = schedule.value("name", Json()), arguments = schedule.value("arguments", Json());
  const bool cosine = name == "cosine_decay", linear = name == "linear_schedule";
  const bool numbers =
      arguments.is_array() && arguments.size() >= 2 &&
      std::all_of(arguments.begin(), arguments.end(), [](const Json& item) { return item.is_number(); });
  if ((!cosine && !linear) || !numbers || (linear && arguments.size() != 3)) {
    return reading.refuse("lr_schedule",
                          fmt::format("the schedule {} is not there: deltaw has linear, cosine, constant and "
                                      "constant_with_warmup",
                                      plain(name)),
                          "set its name to cosine_decay, with arguments [rate, iters]", {"lr_scheduler_type"});
  }
  const double rate = arguments[0].get<double>();
  const double last = linear ? arguments[1].get<double>() : arguments.size() > 2 ? arguments[2].get<double>() : 0;
  const double steps = arguments[linear ? 2 : 1].get<double>();
  const double warmup = number_in(reading, "lr_schedule", "warmup", 0);
  const double iterations = static_cast<double>(reading.whole_of("iters").value_or(kIterations));
  const double updates = std::floor(iterations / static_cast<double>(accumulated(reading)));
  if (last > (linear ? rate / 10 : rate) || steps < updates - warmup || steps > updates) {
    return reading.refuse(
        "lr_schedule",
        fmt::format("the schedule falls to {:g} in {:g} steps of {:g}; here it falls in all of them, a linear one to 0",
                    last, steps, updates),
        "set its arguments to [rate, iters]", {"lr_scheduler_type"});
  }
  reading.set("learning_rate", rate, "lr_schedule");
  const bool ends_above_0 = cosine && last > 0;
  const std::string type = ends_above_0 ? "cosine_with_min_lr" : cosine ? "cosine" : "linear";
  reading.set("lr_scheduler_type", type, "lr_schedule");
  if (ends_above_0) reading.set("lr_scheduler_kwargs", {{"min_lr", last}}, "lr_schedule");
  if (warmup > 0) reading.set("warmup_steps", warmup, "lr_schedule");
  reading.became(fmt::format("lr_schedule is {} from {:g} to {:g}, with warmup_steps {:g}", type, rate,
                             ends_above_0 ? last : 0, warmup));
}

void take_optimizer_of_mlx(Reading& reading) {
  const std::string name = reading.text_of("optimizer").value_or("adam");
  if (name != "adam" && name != "adamw") {
    return reading.refuse("optimizer", fmt::format("'optimizer' is {}, and the optimiser of deltaw is AdamW", name),
                          "set it to adamw or adam; its learning rate may have to be another", {"optim"});
  }
  const Json all = inside(reading, "optimizer_config", name);
  const Json own = all.is_object() ? all : Json::object();
  const Json decay = own.value("weight_decay", Json());
  reading.set_default("weight_decay", decay.is_number() ? decay : name == "adamw" ? Json(kDecay) : Json(0));
  const Json betas = own.value("betas", Json());
  if (betas.is_array() && betas.size() == 2 && betas[0].is_number() && betas[1].is_number()) {
    reading.set_default("adam_beta1", betas[0]);
    reading.set_default("adam_beta2", betas[1]);
  }
  const Json epsilon = own.value("eps", Json());
  if (epsilon.is_number()) reading.set_default("adam_epsilon", epsilon);
  if (own.value("bias_correction", Json()) != true) {
    reading.became("optimizer " + name + " corrects its means for their start (bias_correction true)");
  }
}

void finish(Reading& reading) {
  if (is_off(reading.of("train"))) {
    reading.became("train is not true there; the verb says what to do here");
  }
  take_data_folder(reading);
  take_layers(reading);
  take_update(reading);
  take_schedule(reading);
  take_optimizer_of_mlx(reading);
  take_count(reading, "iters", "max_steps", kIterations);
  take_count(reading, "steps_per_report", "logging_steps", kReport);
  take_count(reading, "save_every", "save_steps", kSave);
  if (reading.is_set("save_steps")) reading.set_default("save_strategy", "steps");
  const bool answers = reading.truth_of("mask_prompt");
  reading.set_default("completion_only_loss", answers);
  if (answers) reading.became("mask_prompt trains on every turn of the assistant, there on the last one");
  reading.set_default("as_conversation", true);
  reading.set_default("per_device_train_batch_size", kBatch);
  reading.set_default("max_length", kLength);
  reading.set_default("max_grad_norm", 0);
  reading.set_default("seed", 0);
  reading.set_default("output_dir", "adapters");
}

void later(Reading&, const Json&) {}

}  // namespace

Tool mlx_lm() {
  return {
      .name = "mlx-lm",
      .version = "commit d78bf58 of August 2026",
      .file = "the YAML of `mlx_lm.lora --config`",
      .marks = {"fine_tune_type", "lora_parameters", "lr_schedule", "steps_per_report", "steps_per_eval", "save_every",
                "val_batches", "test_batches", "grad_checkpoint", "adapter_path", "resume_adapter_file", "hf_dataset",
                "optimizer_config"},
      .keys = {as("model", "model_name_or_path"),
               computed("fine_tune_type", "method", "lora and dora are methods; full is refused.", take_type),
               computed("lora_parameters", "r, lora_alpha, lora_dropout, target_modules",
                        "rank (8), scale (20; lora_alpha is scale times rank), dropout (0), keys (all-linear).", later),
               computed("num_layers", "layers_to_transform",
                        "The numbers of the last so many blocks (16); -1 is all of them.", later),
               computed("data", "train_file, validation_file",
                        "A folder with train.jsonl, and valid.jsonl where there is one. Rows of "
                        "prompt and completion are worded by the chat template (as_conversation).",
                        later),
               computed("hf_dataset", "", "Refused: a data set of a hub.", later),
               computed("iters", "max_steps", "Divided by grad_accumulation_steps (1000).", later),
               as("grad_accumulation_steps", "gradient_accumulation_steps"),
               as("batch_size", "per_device_train_batch_size", {}, "4 where it is missing, as there"),
               same("learning_rate", "1e-5 where it is missing, as there; constant without lr_schedule."),
               computed("lr_schedule", "learning_rate, lr_scheduler_type, lr_scheduler_kwargs, warmup_steps",
                        "cosine_decay, and linear_schedule that falls to a tenth or less, in all steps; others "
                        "are refused.",
                        later),
               computed("optimizer", "", "adam and adamw; others are refused.", later),
               computed("optimizer_config", "weight_decay, adam_beta1, adam_beta2, adam_epsilon",
                        "That of the optimiser; adamw's weight_decay is 0.01 where it is missing, as there.", later),
               as("max_seq_length", "max_length", {}, "2048 where it is missing, as there"),
               computed("mask_prompt", "completion_only_loss", "false where it is missing, as there.", later),
               as("grad_checkpoint", "gradient_checkpointing"),
               as("adapter_path", "output_dir", {}, "adapters where it is missing, as there"),
               same("seed", "0 where it is missing, as there."),
               computed("steps_per_report", "logging_steps", "As iters (10).", later),
               computed("steps_per_eval", "eval_steps", "As iters (200), where there is a valid.jsonl.", later),
               computed("save_every", "save_steps", "As iters (100).", later),
               computed("val_batches", "max_eval_samples", "Times batch_size (25); -1 is all rows.", later),
               refused("resume_adapter_file",
                       "training goes on from a folder|give its folder as "
                       "--adapter_name_or_path"),
               idle("train", "the verb says it"),
               idle("test test_batches", "`deltaw eval` scores test.jsonl"),
               idle("report_to project_name wandb",
                    "log.jsonl in output_dir holds every event, and nothing is reported elsewhere"),
               idle("clear_cache_threshold config trust_remote_code", "how it is computed, which deltaw decides")},
      .finish = finish};
}

}  // namespace deltaw::foreign
