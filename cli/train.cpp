#include "deltaw/train.h"

#include <fmt/format.h>

#include <csignal>
#include <cstring>
#include <optional>

#include "core/files.h"
#include "core/memory.h"
#include "core/progress.h"
#include "deltaw/error.h"
#include "load.h"
#include "machine.h"
#include "output.h"
#include "preview.h"
#include "run_folder.h"
#include "run_log.h"
#include "setup.h"
#include "signals.h"
#include "train/run_checkpoint.h"
#include "train/schedule.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

const Usage kUsageText = {
    .verb = "train",
    .what =
        "Fine-tunes a checkpoint by training a small update; writes the adapter, checkpoints and results to "
        "output_dir. The results go to standard output as one JSON object.",
    .example =
        "  deltaw train --model_name_or_path MODEL --method lora --train_file train.csv \\\n"
        "    --validation_file dev.csv --learning_rate 1e-3 --output_dir out\n"
        "  deltaw train run.yaml --learning_rate 5e-4",
    .positional = "CONFIG",
    .positional_help = "A YAML or JSON file of keys; flags win over it.",
    .positional_is_config = true,
    .exit_codes =
        "0 done; 1 failed; 2 usage or configuration, nothing was started; 128+n stopped by signal n, with a "
        "checkpoint written",
    .needs = {kNeedsModel, kNeedsRows},
};

const char* kind_name(TrainEvent::Kind kind) {
  switch (kind) {
    case TrainEvent::Kind::step:
      return "step";
    case TrainEvent::Kind::log:
      return "log";
    case TrainEvent::Kind::eval:
      return "eval";
    case TrainEvent::Kind::save:
      return "save";
    default:
      return "end";
  }
}

Json train_results(const TrainResult& result, const Run& run, double epoch, bool diverged) {
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
                  {"first_step_seconds", result.first_step_seconds},
                  {"peak_memory_bytes", peak_memory_bytes()},
                  {"trainable_parameters", run.adapter->trained_count()},
                  {"stopped_early", result.stopped_early},
                  {"diverged", diverged}});
  results.update(run.reader->results(Split::train));
  return results;
}

/// What a run that has diverged says of itself.
std::string divergence_warning(const TrainResult& result, const Json& metrics, const Setup& setup) {
  const Json eval = metrics.value("eval_loss", Json());
  return fmt::format(
      "training has diverged: the loss was {:.4g} in the first step and {:.4g} in the last ones{}; {}lower "
      "learning_rate, which was {:g}",
      result.first_loss, result.last_loss,
      eval.is_number() ? fmt::format(", and eval_loss is {:.4g}", eval.get<double>()) : "",
      setup.train.load_best_model_at_end ? "the adapter is that of the best evaluation; " : "",
      setup.train.learning_rate);
}

/// Files that stand beside an adapter, in a checkpoint as in output_dir.
void write_companions(const fs::path& folder, const Run& run, const Json& settings, const Json& facts,
                      const Json& results) {
  run.reader->write_companions(*run.model, folder);
  write_json(folder / "run.json", settings, KeyOrder::kept);
  write_file(folder / "README.md", model_card(settings, run.reader->model_card(), facts, results));
}

int report_signal(const TrainResult& result, const Setup& setup) {
  const fs::path checkpoint = fs::path(setup.train.output_dir) / ("checkpoint-" + std::to_string(result.steps));
  note("stopped by " + std::string(::strsignal(result.signal)) + " after step " + std::to_string(result.steps) + "\n" +
       "  saved:  " + checkpoint.string() + "\n" + "  go on:  the same command with --resume_from_checkpoint true\n");
  return 128 + result.signal;
}

/// The metrics of the adapter as it stands: those of the last evaluation where that was the last step's.
Json final_metrics(Trainer& trainer, const TrainResult& result, const Setup& setup, const Run& run,
                   int64_t evaluated_step) {
  if (run.validation()->size() == 0) return Json::object();
  Json metrics = result.eval_metrics;
  const bool fresh = evaluated_step == result.steps || setup.train.load_best_model_at_end;
  if (!fresh || metrics.empty()) metrics = trainer.evaluate();
  metrics["eval_samples"] = run.validation()->size();
  if (const auto cut = run.reader->cut_rows(Split::validation)) metrics["eval_truncated_rows"] = *cut;
  const Json more = run.reader->results(Split::validation);
  for (const auto& [name, value] : more.items()) metrics["eval_" + name] = value;
  return metrics;
}

int run_training(Setup& setup, Run& run) {
  const fs::path folder = setup.train.output_dir;
  Trainer trainer(*run.model, *run.adapter, *run.task, setup.train);
  trainer.set_data(run.train(), run.validation(), setup.data.group_by_length);
  trainer.set_metrics(run.metrics);
  const Json settings = resolved(setup);
  const Json facts = preview(setup, run, trainer.total_steps());
  trainer.set_companions([&](const fs::path& path) { write_companions(path, run, settings, facts, Json::object()); });
  note(preview_text(facts, run.reader->facts_text(facts["data"])));
  for (const std::string& doubt : doubts(setup, run)) warning(doubt);
  warn_of_busy_cores();

  const Claim claim = run_claim(setup);
  std::optional<RunLog> log;
  // Only after a step, when nothing is left that could be refused: the trainer looks at a checkpoint when it starts.
  const auto begin = [&] {
    const auto schedule = train::make_schedule(setup.train, run.train()->size());
    log.emplace(
        begin_run(claim, settings, train::run_outputs(setup.train, schedule, train::resumed_step(setup.train))));
    log->record(claim.resumes ? "resume" : "start", {{"settings", settings}, {"facts", facts}});
  };
  int64_t evaluated_step = -1;
  double epoch = 0;
  trainer.on_event([&](const TrainEvent& event) {
    if (!log) begin();
    if (event.kind == TrainEvent::Kind::eval) evaluated_step = event.step;
    epoch = event.epoch;
    log->show({kind_name(event.kind), event.step, event.max_steps, event.epoch, event.values});
  });

  adopt_known(claim);  // a record alone; the trainer, too, looks for what is in its way
  const TrainResult result = train_until_signalled(trainer);
  if (result.signal != 0) return report_signal(result, setup);
  const Json metrics = final_metrics(trainer, result, setup, run, evaluated_step);
  const bool diverged = has_diverged(result, metrics);
  Json results;
  const fs::path written = end_run(folder, [&](const fs::path& inside) {
    run.adapter->save(inside);
    results = write_results(inside, train_results(result, run, epoch, diverged), metrics);
    write_companions(inside, run, settings, facts, results);
  });
  log->record("results", results);
  if (diverged) warning(divergence_warning(result, metrics, setup));
  note("adapter written to " + written.string() + "\n");
  print(to_text(results));
  return kDone;
}

}  // namespace

int train(const Args& args) {
  Setup setup;
  Invocation invocation;
  if (!read_setup(kUsageText, args, {}, invocation, setup)) return kDone;
  check_claim(run_claim(setup), inputs_of(setup, invocation));  // before the minutes that loading may take
  Run run = load_run(setup, invocation);
  return run_training(setup, run);
}

}  // namespace deltaw::cli
