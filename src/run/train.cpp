#include "deltaw/train.h"

#include <fmt/format.h>

#include <optional>

#include "core/files.h"
#include "core/held_folder.h"
#include "core/log.h"
#include "core/memory.h"
#include "deltaw/run.h"
#include "run/model_card.h"
#include "run/run_folder.h"
#include "run/run_log.h"
#include "run/shown.h"
#include "tasks/common/prepares_run.h"
#include "train/run_checkpoint.h"
#include "train/schedule.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// Where the time of the steps goes.
struct StepTimes {
  double waited = 0;  // for batches
  double all = 0;

  void add(const Json& step) {
    waited += step.at("data_wait_seconds").get<double>();
    for (const char* part : {"data_wait_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds"}) {
      all += step.at(part).get<double>();
    }
  }
  double share() const { return all > 0 ? waited / all : 0; }
};

Json train_results(const TrainResult& result, const LoadedRun& run, const StepTimes& times, double epoch,
                   bool diverged) {
  const double seconds = result.seconds > 0 ? result.seconds : 1e-9;
  const double rows = epoch * static_cast<double>(run.train()->size());
  Json results = {{"epoch", epoch},
                  {"steps", result.steps},
                  {"train_loss", result.train_loss},
                  {"train_runtime", result.seconds},
                  {"train_samples", run.train()->size()}};
  if (const auto cut = run.reader->cut_rows(Split::train)) results["truncated_rows"] = *cut;
  results.update({{"train_samples_per_second", rows / seconds},
                  {"train_steps_per_second", static_cast<double>(result.steps) / seconds},
                  {"data_wait_share", times.share()},
                  {"first_step_seconds", result.first_step_seconds},
                  {"peak_memory_bytes", peak_memory_bytes()},
                  {"trainable_parameters", run.adapter->trained_count()},
                  {"stopped_early", result.stopped_early},
                  {"diverged", diverged}});
  results.update(run.reader->results(Split::train));
  return results;
}

/// What a run that has diverged says of itself.
std::string divergence_warning(const TrainResult& result, const Json& metrics, const RunSettings& settings) {
  const Json eval = metrics.value("eval_loss", Json());
  return fmt::format(
      "training has diverged: the loss was {:.4g} in the first step and {:.4g} in the last ones{}; {}lower "
      "learning_rate, which was {:g}",
      result.first_loss, result.last_loss,
      eval.is_number() ? fmt::format(", and eval_loss is {:.4g}", eval.get<double>()) : "",
      settings.train.load_best_model_at_end ? "the adapter is that of the best evaluation; " : "",
      settings.train.learning_rate);
}

/// Files that stand beside an adapter, in a checkpoint as in output_dir.
void write_companions(const fs::path& folder, const LoadedRun& run, const Json& settings, const Json& facts,
                      const Json& results) {
  run.reader->write_companions(*run.model, folder);
  write_json(folder / "run.json", settings, KeyOrder::kept);
  write_file(folder / "README.md", run::model_card(settings, run.reader->model_card(), facts, results));
}

/// The metrics of the adapter as it stands: those of the last evaluation where that was the last step's.
Json final_metrics(Trainer& trainer, const TrainResult& result, const LoadedRun& run, int64_t evaluated_step) {
  if (run.validation()->size() == 0) return Json::object();
  Json metrics = result.eval_metrics;
  const bool fresh = evaluated_step == result.steps || run.settings.train.load_best_model_at_end;
  if (!fresh || metrics.empty()) metrics = trainer.evaluate();
  metrics["eval_samples"] = run.validation()->size();
  if (const auto cut = run.reader->cut_rows(Split::validation)) metrics["eval_truncated_rows"] = *cut;
  const Json more = run.reader->results(Split::validation);
  for (const auto& [name, value] : more.items()) metrics["eval_" + name] = value;
  return metrics;
}

}  // namespace

void check_output(const RunSettings& settings) {
  run::check_claim(run::run_claim(settings), run::inputs_of(settings));
}

TrainedRun run_training(LoadedRun& run, const RunEvents& events) {
  const RunSettings& settings = run.settings;
  Trainer trainer(*run.model, *run.adapter, *run.task, settings.train);
  trainer.set_data(run.train(), run.validation(), settings.data.group_by_length);
  trainer.set_metrics(run.metrics);
  const Json keys = settings.to_json();
  const Json facts = run_facts(run);
  trainer.set_companions([&](const fs::path& path) { write_companions(path, run, keys, facts, Json::object()); });
  const auto warn = [&](const std::string& sentence) {
    if (events.warn) events.warn(sentence);
  };
  if (events.ready) events.ready(facts);
  for (const std::string& sentence : likely_mistakes(run)) warn(sentence);

  const run::Claim claim = run::run_claim(settings);
  run::Shown shown(run);
  std::optional<HeldFolder> held;
  std::error_code unseen;
  std::optional<run::RunLog> log;
  // Only after a step, when nothing is left that could be refused: the trainer looks at a checkpoint when it starts.
  const auto begin = [&] {
    const auto schedule = train::make_schedule(settings.train, run.train()->size());
    const int64_t done = train::resumed_step(settings.train);
    const NameTest trained = train::run_outputs(settings.train, schedule, done);
    const bool shows = shown.any() && !claim.resumes;
    if (!held) {
      fs::create_directories(claim.folder, unseen);
      held.emplace(claim.folder);
    }
    log.emplace(run::begin_run(
        claim, keys, [&](const std::string& name) { return trained(name) || (shows && run::is_shown_folder(name)); }));
    log->record(claim.resumes ? "resume" : "start", {{"settings", keys}, {"facts", facts}});
  };
  int64_t evaluated_step = -1;
  double epoch = 0;
  StepTimes times;
  trainer.on_event([&](const TrainEvent& event) {
    if (!log) begin();
    if (event.kind == TrainEvent::Kind::step) times.add(event.values);
    if (event.kind == TrainEvent::Kind::eval) evaluated_step = event.step;
    epoch = event.epoch;
    log->record(event);
    if (events.event) events.event(event);
    const fs::path folder = shown.after(event, warn);
    if (folder.empty()) return;
    log->record("shown", {{"step", event.step}, {"folder", folder.string()}});
    deltaw::log().info("what the model makes after step {}: {}", event.step, folder.string());
  });

  if (auto* prepares = dynamic_cast<tasks::PreparesRun*>(run.reader.get())) prepares->prepare(*run.model);
  if (fs::exists(claim.folder, unseen)) held.emplace(claim.folder);
  run::adopt_known(claim);  // a record alone; the trainer, too, looks for what is in its way
  TrainedRun trained{.result = events.train ? events.train(trainer) : trainer.train()};
  if (trained.result.signal != 0) return trained;
  const Json metrics = final_metrics(trainer, trained.result, run, evaluated_step);
  const bool diverged = has_diverged(trained.result, metrics);
  const auto fill = [&](const fs::path& inside) {
    run.adapter->save(inside);
    trained.results = run::write_results(inside, train_results(trained.result, run, times, epoch, diverged), metrics);
    write_companions(inside, run, keys, facts, trained.results);
  };
  trained.adapter = run::end_run(settings.train.output_dir, fill, warn);
  log->record("results", trained.results);
  if (diverged) warn(divergence_warning(trained.result, metrics, settings));
  return trained;
}

TrainedRun run_training(const RunSettings& settings, const RunEvents& events) {
  check_output(settings);
  LoadedRun run = load_run(settings, events.warn);
  return run_training(run, events);
}

}  // namespace deltaw
