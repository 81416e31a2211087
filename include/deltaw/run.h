// Training as `deltaw train` does it: takes the keys of a run, writes the adapter, its results and the files beside it.
//
//   deltaw::reuse_memory();  // deltaw/memory.h
//   deltaw::run_training(deltaw::RunSettings::from_json(
//       {{"model_name_or_path", "MODEL"}, {"train_file", "train.csv"}, {"output_dir", "out"}}));
//
// The same in steps: check_output, load_run, memory_estimate or run_facts, run_training. For rows in memory use a
// Trainer (deltaw/train.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/task_reader.h"
#include "deltaw/train.h"

namespace deltaw {

namespace run {
class TaskKeys;
}

struct BaseKeys {
  std::string model_name_or_path;

  void fields(FieldVisitor& f);
};

/// The adapter that training goes on from.
struct ContinueKeys {
  std::string adapter_name_or_path;

  void fields(FieldVisitor& f);
};

struct OutputKeys {
  bool overwrite_output_dir = false;
  bool adopt_output_dir = false;

  void fields(FieldVisitor& f);
};

/// What run.json records and nobody asks for.
struct RecordKeys {
  std::string base_hash;  // of the base's weights

  void fields(FieldVisitor& f);
};

/// The keys of a run, as docs/cli.md lists them for `deltaw train`.
struct RunSettings {
  RunSettings();

  /// From one flat object of keys: every one that a file of `deltaw train` may hold, by its own name. Texts count as
  /// values ("1e-3"). Keys of other verbs (input_file) and log_level are left alone, so that one file serves all.
  /// Throws all that is wrong at once: config.unknown-key, naming the nearest ones, config.wrong-type,
  /// config.out-of-range, config.other-method for an option of another method, config.conflict; `where` is what the
  /// errors say of where the keys stand. Where training goes on from an adapter, its base and method are taken from it;
  /// throws config.no-adapter.
  static RunSettings from_json(const Json& values, const std::string& where = "the keys of the run");
  /// The same, of a YAML or JSON file.
  static RunSettings from_file(const std::filesystem::path& file);

  /// As from_json reads them, less what is empty: run.json.
  Json to_json() const;
  /// The adapter that training goes on from, if any, and finished ones beside it.
  std::vector<std::string> adapters() const;
  bool goes_on() const { return !from.adapter_name_or_path.empty(); }

  BaseKeys base;
  RecordKeys record;
  ModelOptions model;
  DataOptions data;
  AdapterConfig adapter;
  TrainOptions train;
  OutputKeys output;
  ContinueKeys from;
  std::shared_ptr<run::TaskKeys> tasks;  // the keys that tasks have of their own; never null, copies share them

  bool several = false;  // the adapter that training goes on from has parts, of which `adapter` says nothing
  std::vector<std::string> warnings = {};  // what was odd about the keys, one sentence each

  /// What was asked for, to compare with what rows and adapters say.
  struct Asked {
    Json keys = Json::object();  // every key that was given,
    std::string where = {};      // and where
    std::string file = {};       // of keys, or empty: it is not written over
    /// Those that were said for this run alone: where one changes nothing that is told, be it the default's value.
    std::vector<std::string> for_this_run = {};

    bool has(const std::string& key) const { return keys.contains(key); }
  } asked;
};

using Warn = std::function<void(const std::string& sentence)>;

/// Everything that stands before the first step.
struct LoadedRun {
  RunSettings settings;  // with what the data decided: labels, problem type, length, metric
  std::shared_ptr<TaskReader> reader;
  std::unique_ptr<Model> model;
  std::optional<Adapter> adapter;
  std::unique_ptr<Task> task;
  std::vector<std::string> metrics;
  std::string best_metric;
  std::vector<std::string> warnings;  // of keys and data, one sentence each

  const std::shared_ptr<const RowSource>& train() const { return reader->train(); }
  const std::shared_ptr<const RowSource>& validation() const { return reader->validation(); }  // may have no rows
};

/// Throws config.output-is-input, config.output-exists or config.output-foreign, naming what of output_dir is in the
/// way, before the minutes that loading may take. Nothing is touched.
void check_output(const RunSettings& settings);

/// Reads the rows, loads the model and makes the adapter, or loads the one that training goes on from; nothing is
/// written. Where it throws, `warn` hears first what was odd about the data, which may be the reason. Throws
/// config.missing-key without a base, config.conflict for what an adapter that training goes on from is not, and what
/// readers, load_model and Adapter::create throw.
LoadedRun load_run(RunSettings settings, const Warn& warn = {});

/// What is about to be trained: {"model", "adapter", "data", "training", "memory"}, as `deltaw validate --json` has it.
Json run_facts(const LoadedRun& run);

/// The memory that the run takes at its peak, from the sizes of what the engine keeps, for a batch of the longest rows:
/// base_bytes, adapter_bytes (with the optimiser's moments), activation_bytes (with gradients) and program_bytes, with
/// dequantised_bytes where weights are quantised, formed_bytes where W is kept for several micro-batches, and
/// total_bytes, their sum.
Json memory_estimate(const LoadedRun& run);

/// LoadedRun::warnings, and settings that are known to go wrong, one sentence each.
std::vector<std::string> likely_mistakes(const LoadedRun& run);

/// What is heard of a run; each may be empty.
struct RunEvents {
  std::function<void(const Json& facts)> ready = {};  // before the first step: run_facts()
  std::function<void(const TrainEvent&)> event = {};  // once log.jsonl has it
  Warn warn = {};                                     // likely_mistakes(), and that it has diverged
  /// Runs the trainer; by default trainer.train(). A program that catches signals does so around it, with stop_when().
  std::function<TrainResult(Trainer&)> train = {};
};

struct TrainedRun {
  TrainResult result;
  /// What all_results.json holds; empty where stop_when() ended the run: then a checkpoint was written, and no adapter.
  Json results = Json::object();
  /// Where the adapter is: output_dir, or a folder inside where something of the user's came in the way meanwhile.
  std::filesystem::path adapter = {};
};

/// Trains, and writes what `deltaw train` writes into output_dir: run.json and log.jsonl from the first step on,
/// checkpoints, then the adapter with its results and README.md, whole or not at all. After check_output() nothing else
/// is replaced. Throws what Trainer throws.
TrainedRun run_training(LoadedRun& run, const RunEvents& events = {});

/// check_output(), load_run() and that.
TrainedRun run_training(const RunSettings& settings, const RunEvents& events = {});

}  // namespace deltaw
