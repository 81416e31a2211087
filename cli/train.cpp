#include <cstring>

#include "console.h"
#include "deltaw/run.h"
#include "machine.h"
#include "output.h"
#include "preview.h"
#include "run_keys.h"
#include "signals.h"
#include "train/run_checkpoint.h"

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

int report_signal(const TrainResult& result, const RunSettings& settings) {
  const fs::path checkpoint = fs::path(settings.train.output_dir) / ("checkpoint-" + std::to_string(result.steps));
  note("stopped by " + std::string(::strsignal(result.signal)) + " after step " + std::to_string(result.steps) + "\n" +
       "  saved:  " + checkpoint.string() + "\n" + "  go on:  the same command with --resume_from_checkpoint true\n");
  return 128 + result.signal;
}

int report(const TrainedRun& trained, const RunSettings& settings) {
  if (trained.result.signal != 0) return report_signal(trained.result, settings);
  note("adapter written to " + trained.adapter.string() + "\n");
  print(to_text(trained.results));
  return kDone;
}

}  // namespace

int train(const Args& args) {
  RunSettings settings;
  Invocation invocation;
  if (!read_settings(kUsageText, args, {}, invocation, settings)) return kDone;
  check_output(settings);  // before the minutes that loading may take
  LoadedRun run = load_run(std::move(settings), warning);
  Console console;
  const TrainedRun trained = run_training(
      run, {.ready = [&](const Json& facts) { note(preview_text(facts, run.reader->facts_text(facts["data"]))); },
            .event = [&](const TrainEvent& event) { console.show(event); },
            .warn = warning,
            .train =
                [](Trainer& trainer) {
                  warn_of_busy_cores();
                  return train_until_signalled(trainer);
                }});
  return report(trained, run.settings);
}

}  // namespace deltaw::cli
