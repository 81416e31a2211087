#include "adapt/rank_budgets.h"
#include "deltaw/error.h"
#include "deltaw/run.h"
#include "io/resolve_model.h"
#include "run/base_hash.h"
#include "run/continued.h"
#include "run/no_effect.h"
#include "run/task_keys.h"
#include "tasks/common/extends_model.h"
#include "tasks/common/metrics.h"
#include "train/run_checkpoint.h"
#include "train/schedule.h"
#include "train/train_options.h"

namespace deltaw {
namespace {

TaskFiles files_of(LoadedRun& run, const std::filesystem::path& base) {
  RunSettings& settings = run.settings;
  TaskFiles files{.data = settings.data,
                  .model = settings.model,
                  .base = base,
                  .seed = static_cast<uint64_t>(settings.train.seed),
                  .length_given = settings.asked.has("max_length"),
                  .length_asked = settings.asked.has("max_length"),
                  .asked = settings.asked.keys,
                  .asked_where = settings.asked.where,
                  .warn = [&run](const std::string& sentence) { run.warnings.push_back(sentence); }};
  if (settings.goes_on()) files.adapters = {settings.from.adapter_name_or_path};
  return files;
}

void settle_metric(LoadedRun& run) {
  RunSettings& settings = run.settings;
  run.metrics = run.reader->metrics(settings.data);
  std::string& best = settings.train.metric_for_best_model;
  if (best.starts_with("eval_")) best.erase(0, 5);
  run.best_metric = best.empty() ? run.metrics.front() : best;
  if (!settings.asked.has("greater_is_better")) {
    settings.train.greater_is_better = tasks::greater_is_better(run.best_metric);
  }
}

/// What the trainer would refuse, before anything is loaded for long or written.
void check_training(const LoadedRun& run) {
  train::check_options(run.settings.train, run.reader->has_validation(), run.reader->smooths_labels());
  run.reader->check_metric(run.best_metric);
}

/// What no embedding stands for would end the first step.
void check(const LoadedRun& run) {
  run.reader->check(*run.model, run.adapter ? &*run.adapter : nullptr);
}

/// Once; nothing before it has looked at more than the text.
void encode(const LoadedRun& run) {
  if (run.train()) return;
  run.reader->encode(*run.model, run.settings.data);
  check(run);
}

/// The first batches that training will take, without padding them to one length.
std::vector<CalibrationBatch> calibration_of(const LoadedRun& run, int64_t samples) {
  encode(run);
  const TrainOptions& options = run.settings.train;
  return calibration_batches(*run.task, *run.train(), options.per_device_train_batch_size, train::data_seed(options),
                             samples);
}

bool starts_from_data(const AdapterConfig& config) {
  const auto method = find_method(config.method).make(config.options, "options of " + config.method);
  return method->needs().what != Observations::none;
}

/// The adapter of a checkpoint, with the options that were asked for now: the trainer compares them with those of then,
/// save what the data decided.
Adapter adapter_of_checkpoint(const Model& model, const RunSettings& settings) {
  const auto folder = train::find_checkpoint(settings.train.resume_from_checkpoint, settings.train.output_dir);
  Adapter adapter = Adapter::load(model, folder, {.trainable = true});
  if (adapter.spec().id != settings.adapter.method) {
    throw Error(
        {.id = "config.resume",
         .what = "'method' is " + settings.adapter.method + " here and " + adapter.spec().id + " in the checkpoint",
         .where = folder.string(),
         .fix = "resume with the checkpoint's method, or start a new run"});
  }
  const Json options = adapter.spec().normalized(settings.adapter.options, "the options");
  for (const auto& [key, value] : options.items()) {
    if (key != "rank_pattern" && key != "alpha_pattern") adapter.set_option(key, value);
  }
  return adapter;
}

/// The adapter of a checkpoint, where data made its start, or a new one.
Adapter adapter_of(const LoadedRun& run) {
  const RunSettings& settings = run.settings;
  if (train::resumes(settings.train) && starts_from_data(settings.adapter))
    return adapter_of_checkpoint(*run.model, settings);
  return Adapter::create(*run.model, settings.adapter, static_cast<uint64_t>(settings.train.seed),
                         [&](int64_t samples) { return calibration_of(run, samples); });
}

/// The adapters that a run begins with, and the checkpoint that it goes on from.
std::vector<std::filesystem::path> folders_begun_with(const RunSettings& settings) {
  const std::vector<std::string> adapters = settings.adapters();
  std::vector<std::filesystem::path> folders(adapters.begin(), adapters.end());
  if (train::resumes(settings.train)) {
    folders.push_back(train::find_checkpoint(settings.train.resume_from_checkpoint, settings.train.output_dir));
  }
  return folders;
}

/// The hash of the base is the run's from here on; another one that was recorded is worth a word.
void settle_base(LoadedRun& run) {
  RunSettings& settings = run.settings;
  std::vector<run::RecordedBase> recorded = run::recorded_bases(folders_begun_with(settings));
  recorded.push_back(
      {settings.record.base_hash, settings.asked.file.empty() ? settings.asked.where : settings.asked.file});
  settings.record.base_hash = run::base_hash(*run.model);
  const auto sentence = run::other_base_warning(*run.model, settings.record.base_hash, recorded);
  if (sentence) run.warnings.push_back(*sentence);
}

void load_parts(LoadedRun& run) {
  RunSettings& settings = run.settings;
  if (settings.base.model_name_or_path.empty()) {
    throw Error(
        {.id = "config.missing-key",
         .what = "neither the keys of the run nor an adapter name a model to train",
         .where = "key \"model_name_or_path\"",
         .fix = "give model_name_or_path, or adapter_name_or_path with the folder of an adapter that names it"});
  }
  const std::filesystem::path folder = io::resolve_model(settings.base.model_name_or_path);
  const TaskSpec& task = task_for(folder.string(), settings.model.task_type);
  run.reader = settings.tasks->reader_of(task);
  TaskReader& reader = *run.reader;
  settings.model.task_type = head_type(settings.model.task_type);
  const run::KeyFacts acting{
      .task = task, .reader = reader, .model = settings.model, .data = settings.data, .train = settings.train};
  if (const auto sentence = run::keys_without_effect(settings.asked.keys, settings.asked.for_this_run, acting)) {
    run.warnings.push_back(*sentence);
  }
  TaskFiles files = files_of(run, folder);
  reader.load_preprocessors(files);
  settings.tasks->refuse_others(task, folder);
  if (!files.length_asked && task.max_length > 0) settings.data.max_length = task.max_length;
  reader.read(files);
  settle_metric(run);
  check_training(run);

  run.model = load_model(folder.string(), settings.model);
  TaskFiles of_all = files;
  of_all.adapters.clear();
  for (const std::string& adapter : settings.adapters()) {
    if (!adapter.empty()) of_all.adapters.emplace_back(adapter);
  }
  tasks::extend(reader, *run.model, of_all);
  run.task = reader.make_task(task);
  settle_base(run);
  reader.begin_training(*run.model, files);
  if (!settings.goes_on()) reader.settle_adapter(*run.model, settings.adapter);
  run.adapter = settings.goes_on() ? run::continued(*run.model, settings) : adapter_of(run);
  settings.adapter.task_type = task.id;
  encode(run);
  check(run);
  // Refuses a rank budget that cannot prune, before anything is written.
  const auto schedule = train::make_schedule(settings.train, run.train()->size());
  const RankBudgets checked(*run.adapter, schedule.total_steps);
}

}  // namespace

LoadedRun load_run(RunSettings settings, const Warn& warn) {
  LoadedRun run;
  run.warnings = settings.warnings;
  run.settings = std::move(settings);
  try {
    load_parts(run);
  } catch (const Error&) {
    // What is odd about the data may be the reason.
    for (const std::string& sentence : run.warnings) {
      if (warn) warn(sentence);
    }
    throw;
  }
  return run;
}

}  // namespace deltaw
