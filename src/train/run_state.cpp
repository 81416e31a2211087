#include "train/run_state.h"

#include <cmath>

#include "core/files.h"
#include "deltaw/error.h"

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

}  // namespace

Json RunState::evaluation(int64_t step) const {
  for (auto entry = log_history.rbegin(); entry != log_history.rend(); ++entry) {
    if (entry->contains("eval_loss") && (step < 0 || entry->at("step") == step)) return *entry;
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
          {"evaluations_without_gain", state.evaluations_without_gain}};
}

RunState read_run_state(const std::filesystem::path& checkpoint) {
  std::filesystem::path file = checkpoint / "trainer_state.json";
  try {
    RunState state;
    const Json trainer = read_json(file);
    state.step = trainer.at("global_step").get<int64_t>();
    state.tokens_seen = trainer.at("num_input_tokens_seen").get<int64_t>();
    state.log_history = trainer.at("log_history");
    if (!trainer.at("best_metric").is_null()) {
      state.best_metric = trainer.at("best_metric").get<double>();
      state.best_step = trainer.at("best_global_step").get<int64_t>();
    }
    if (!trainer.at("best_model_checkpoint").is_null()) {
      state.best_checkpoint = trainer.at("best_model_checkpoint").get<std::string>();
    }
    file = checkpoint / "run_state.json";
    const Json progress = read_json(file).at("progress");
    state.total_loss = progress.at("total_loss").get<double>();
    state.loss_since_log = progress.at("loss_since_log").get<double>();
    state.steps_since_log = progress.at("steps_since_log").get<int64_t>();
    state.evaluations_without_gain = progress.at("evaluations_without_gain").get<int64_t>();
    return state;
  } catch (const Json::exception& problem) {
    throw Error({.id = "format.checkpoint",
                 .what = problem.what(),
                 .where = file.string(),
                 .fix = "resume from another checkpoint; this one was not written whole by deltaw"});
  }
}

}  // namespace deltaw::train
