#include "train/run_state.h"

#include <cmath>

#include "core/files.h"

namespace deltaw::train {
namespace {

Json stateful_callbacks(const RunState& state, const TrainOptions& options) {
  if (options.early_stopping_patience == 0) return Json::object();
  return {{"EarlyStoppingCallback",
           {{"args",
             {{"early_stopping_patience", options.early_stopping_patience},
              {"early_stopping_threshold", options.early_stopping_threshold}}},
            {"attributes", {{"early_stopping_patience_counter", state.evaluations_without_gain}}}}}};
}

int64_t not_negative(const JsonFields& fields, const std::string& key) {
  const auto value = fields.get<int64_t>(key);
  if (value < 0) fields.complain(key, "a whole number from 0 on");
  return value;
}

}  // namespace

Json RunState::evaluation(int64_t step) const {
  for (auto entry = log_history.rbegin(); entry != log_history.rend(); ++entry) {
    if (entry->contains("eval_loss") && (step < 0 || entry->value("step", Json()) == step)) return *entry;
  }
  return Json::object();
}

bool note_metric(RunState& state, const TrainOptions& options, double value, bool greater_is_better) {
  const auto better = [&](double than) { return greater_is_better ? value > than : value < than; };
  // As in Hugging Face's callback: patience looks at the threshold, the best metric does not.
  const bool gained = !state.best_metric || (better(*state.best_metric) &&
                                             std::abs(value - *state.best_metric) > options.early_stopping_threshold);
  state.evaluations_without_gain = gained ? 0 : state.evaluations_without_gain + 1;
  if (std::isnan(value) || (state.best_metric && !better(*state.best_metric))) return false;
  state.best_metric = value;
  state.best_step = state.step;
  return true;
}

Json to_trainer_state(const RunState& state, const TrainOptions& options, const Schedule& schedule) {
  return {{"best_global_step", state.best_metric ? Json(state.best_step) : Json()},
          {"best_metric", state.best_metric ? Json(*state.best_metric) : Json()},
          {"best_model_checkpoint", state.best_checkpoint.empty() ? Json() : Json(state.best_checkpoint.string())},
          {"epoch", schedule.epochs_done(state.step)},
          {"eval_steps", options.eval_steps},
          {"global_step", state.step},
          {"is_hyper_param_search", false},
          {"is_local_process_zero", true},
          {"is_world_process_zero", true},
          {"log_history", state.log_history},
          {"logging_steps", options.logging_steps},
          {"max_steps", schedule.total_steps},
          {"num_input_tokens_seen", state.tokens_seen},
          {"num_train_epochs", schedule.epochs},
          {"save_steps", options.save_steps},
          {"stateful_callbacks", stateful_callbacks(state, options)},
          {"total_flos", 0.0},
          {"train_batch_size", options.per_device_train_batch_size},
          {"trial_name", nullptr},
          {"trial_params", nullptr}};
}

Json to_progress(const RunState& state) {
  return {{"total_loss", state.total_loss},
          {"loss_since_log", state.loss_since_log},
          {"steps_since_log", state.steps_since_log},
          {"first_loss", state.losses.first ? Json(*state.losses.first) : Json()},
          {"last_losses", state.losses.last},
          {"evaluations_without_gain", state.evaluations_without_gain}};
}

RunState read_run_state(const std::filesystem::path& checkpoint) {
  RunState state;
  const JsonFields trainer = read_checkpoint_file(checkpoint / "trainer_state.json");
  state.step = not_negative(trainer, "global_step");
  state.tokens_seen = not_negative(trainer, "num_input_tokens_seen");
  state.log_history = trainer.list("log_history");
  state.best_metric = trainer.find<double>("best_metric");
  if (state.best_metric) state.best_step = not_negative(trainer, "best_global_step");
  state.best_checkpoint = trainer.get_or("best_model_checkpoint", std::string());

  const JsonFields progress = read_checkpoint_file(checkpoint / "run_state.json").object("progress");
  state.total_loss = progress.get<double>("total_loss");
  state.loss_since_log = progress.get<double>("loss_since_log");
  state.steps_since_log = not_negative(progress, "steps_since_log");
  state.losses.first = progress.find<double>("first_loss");
  state.losses.last = progress.get_or("last_losses", std::vector<double>());
  state.evaluations_without_gain = not_negative(progress, "evaluations_without_gain");
  return state;
}

JsonFields read_checkpoint_file(const std::filesystem::path& file) {
  return {read_json(file), file.string(), "format.checkpoint"};
}

}  // namespace deltaw::train
