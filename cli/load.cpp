#include "load.h"

#include "adapt/rank_budgets.h"
#include "continued.h"
#include "deltaw/error.h"
#include "io/resolve_model.h"
#include "no_effect.h"
#include "output.h"
#include "tasks/common/metrics.h"
#include "train/run_checkpoint.h"
#include "train/schedule.h"
#include "train/train_options.h"

namespace deltaw::cli {
namespace {

TaskFiles files_of(Setup& setup, const std::filesystem::path& base, std::vector<std::string>& warnings) {
  TaskFiles files{.data = setup.data,
                  .model = setup.model,
                  .base = base,
                  .seed = static_cast<uint64_t>(setup.train.seed),
                  .length_given = setup.length_given,
                  .length_asked = setup.length_given,
                  .asked = setup.asked,
                  .asked_where = setup.asked_where,
                  .warn = [&warnings](const std::string& sentence) { warnings.push_back(sentence); }};
  if (setup.goes_on()) files.adapters = {setup.from.adapter_name_or_path};
  return files;
}

void settle_metric(Setup& setup, Run& run, const Invocation& invocation) {
  run.metrics = run.reader->metrics(setup.data);
  std::string& best = setup.train.metric_for_best_model;
  if (best.starts_with("eval_")) best.erase(0, 5);
  run.best_metric = best.empty() ? run.metrics.front() : best;
  if (!invocation.has("greater_is_better")) setup.train.greater_is_better = tasks::greater_is_better(run.best_metric);
}

/// What the trainer would refuse, before anything is loaded for long or written.
void check_training(const Setup& setup, const Run& run) {
  train::check_options(setup.train, run.reader->has_validation(), run.reader->smooths_labels());
  run.reader->check_metric(run.best_metric);
}

/// What no embedding stands for would end the first step.
void check(const Run& run) {
  run.reader->check(*run.model, run.adapter ? &*run.adapter : nullptr);
}

/// Once; nothing before it has looked at more than the text.
void encode(const Setup& setup, const Run& run) {
  if (run.train()) return;
  run.reader->encode(*run.model, setup.data);
  check(run);
}

/// The first batches that training will take, without padding them to one length.
std::vector<CalibrationBatch> calibration_of(const Setup& setup, Run& run, int64_t samples) {
  encode(setup, run);
  return calibration_batches(*run.task, *run.train(), setup.train.per_device_train_batch_size,
                             train::data_seed(setup.train), samples);
}

bool starts_from_data(const AdapterConfig& config) {
  const auto method = find_method(config.method).make(config.options, "options of " + config.method);
  return method->needs().what != Observations::none;
}

/// The adapter of a checkpoint, with the options that were asked for now: the trainer compares them with those of then,
/// save what the data decided.
Adapter adapter_of_checkpoint(const Model& model, const Setup& setup) {
  const auto folder = train::find_checkpoint(setup.train.resume_from_checkpoint, setup.train.output_dir);
  Adapter adapter = Adapter::load(model, folder, {.trainable = true});
  if (adapter.spec().id != setup.adapter.method) {
    throw Error(
        {.id = "config.resume",
         .what = "'method' is " + setup.adapter.method + " here and " + adapter.spec().id + " in the checkpoint",
         .where = folder.string(),
         .fix = "resume with the checkpoint's method, or start a new run"});
  }
  const Json options = adapter.spec().normalized(setup.adapter.options, "the options");
  for (const auto& [key, value] : options.items()) {
    if (key != "rank_pattern" && key != "alpha_pattern") adapter.set_option(key, value);
  }
  return adapter;
}

/// The adapter of a checkpoint, where data made its start, or a new one.
Adapter adapter_of(const Setup& setup, Run& run) {
  if (train::resumes(setup.train) && starts_from_data(setup.adapter)) return adapter_of_checkpoint(*run.model, setup);
  return Adapter::create(*run.model, setup.adapter, static_cast<uint64_t>(setup.train.seed),
                         [&](int64_t samples) { return calibration_of(setup, run, samples); });
}

/// The adapters that a run begins with, and the checkpoint that it goes on from.
std::vector<std::filesystem::path> folders_begun_with(const Setup& setup) {
  const std::vector<std::string> adapters = adapters_of(setup);
  std::vector<std::filesystem::path> folders(adapters.begin(), adapters.end());
  if (train::resumes(setup.train)) {
    folders.push_back(train::find_checkpoint(setup.train.resume_from_checkpoint, setup.train.output_dir));
  }
  return folders;
}

/// The hash of the base is the run's from here on; another one that was recorded is worth a word.
void settle_base(Setup& setup, const Invocation& invocation, Run& run) {
  std::vector<RecordedBase> recorded = recorded_bases(folders_begun_with(setup));
  recorded.push_back({setup.record.base_hash, invocation.file_name});
  setup.record.base_hash = base_hash(*run.model);
  const auto sentence = other_base_warning(run.model->folder(), setup.record.base_hash, recorded);
  if (sentence) run.warnings.push_back(*sentence);
}

void load_parts(Setup& setup, const Invocation& invocation, Run& run) {
  const std::filesystem::path folder = io::resolve_model(setup.base.model_name_or_path);
  const TaskSpec& task = task_for(folder.string(), setup.model.task_type);
  run.reader = setup.tasks.reader_of(task);
  TaskReader& reader = *run.reader;
  setup.model.task_type = head_type(setup.model.task_type);
  if (const auto sentence = keys_without_effect(
          invocation,
          {.task = task, .reader = reader, .model = setup.model, .data = setup.data, .train = setup.train})) {
    run.warnings.push_back(*sentence);
  }
  TaskFiles files = files_of(setup, folder, run.warnings);
  reader.load_preprocessors(files);
  setup.tasks.refuse_others(task, folder);
  if (!setup.length_given && task.max_length > 0) setup.data.max_length = task.max_length;
  reader.read(files);
  settle_metric(setup, run, invocation);
  check_training(setup, run);

  run.model = load_model(folder.string(), setup.model);
  run.task = reader.make_task(task);
  settle_base(setup, invocation, run);
  reader.begin_training(*run.model, files);
  if (!setup.goes_on()) reader.settle_adapter(*run.model, setup.adapter);
  run.adapter = setup.goes_on() ? continued(*run.model, setup) : adapter_of(setup, run);
  setup.adapter.task_type = task.id;
  encode(setup, run);
  check(run);
  // Refuses a rank budget that cannot prune, before anything is written.
  const auto schedule = train::make_schedule(setup.train, run.train()->size());
  const RankBudgets checked(*run.adapter, schedule.total_steps);
}

}  // namespace

Run load_run(Setup& setup, const Invocation& invocation) {
  Run run;
  try {
    load_parts(setup, invocation, run);
  } catch (const Error&) {
    // What is odd about the data may be the reason.
    for (const std::string& sentence : run.warnings) warning(sentence);
    throw;
  }
  return run;
}

}  // namespace deltaw::cli
