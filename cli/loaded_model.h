// A model with its adapter, or alone: what eval, predict, merge, export and convert ask.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/task.h"
#include "deltaw/task_reader.h"
#include "options.h"
#include "run/claim.h"
#include "run/task_keys.h"
#include "run_keys.h"

namespace deltaw::cli {

struct AdapterKeys {
  std::string adapter_name_or_path;
  std::vector<std::string> with_adapters;
  std::vector<std::string> adapter_weights;
  bool allow_partial = false;

  void fields(FieldVisitor& f);
};

struct BatchKeys {
  int64_t per_device_eval_batch_size = TrainOptions().per_device_eval_batch_size;
  int64_t seed = TrainOptions().seed;

  void fields(FieldVisitor& f);
};

struct LoadedModel {
  BaseKeys base;
  AdapterKeys keys;
  BatchKeys batch;
  ModelOptions model_options;
  DataOptions data;
  run::TaskKeys tasks;
  bool length_given = false;  // max_length was asked for, or trained with
  bool length_asked = false;  // it was asked for

  std::unique_ptr<Model> model;
  std::unique_ptr<Task> task;  // that the model is for
  std::shared_ptr<TaskReader> reader;
  std::optional<Adapter> adapter;

  TaskFiles files();
  AskedModel asked(Progress progress = {}) const;
};

/// The folders of all adapters that the keys name.
std::vector<std::string> adapters_of(const AdapterKeys& keys);

/// The adapter of the keys, or all of them as one. Says where one was trained on another base than `model`.
Adapter load_adapters(const Model& model, const AdapterKeys& keys);

/// What training taught these adapters as the end of a turn.
std::vector<int64_t> taught_ends(const AdapterKeys& keys);

/// What it reads, for what it writes.
run::Inputs inputs_of(const LoadedModel& loaded, const Invocation& invocation);

/// The keys of such a verb, those that name its adapters in `adapters`; `own` stand last.
std::vector<Section> model_sections(std::vector<Section> own, Section adapters = section_of<AdapterKeys>(""));

/// Reads argv: parse_model_keys() and settle_model_keys().
bool read_model_keys(const Usage& usage, const Args& args, std::vector<Section> own, Invocation& invocation,
                     LoadedModel& loaded);

/// The keys as they were given. Answers false where help was printed.
bool parse_model_keys(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                      Invocation& invocation);
/// What they leave open is taken from run.json and adapter_config.json beside the adapter of loaded.keys: the base, the
/// labels, the columns.
void settle_model_keys(const Usage& usage, const Invocation& invocation, LoadedModel& loaded);

/// Loads model and adapter and what the task reads its rows with. A head that neither the checkpoint nor the adapter
/// holds is warned of. Without `reads_rows` a missing tokenizer is no error.
void load_with_adapter(LoadedModel& loaded, const Invocation& invocation, bool reads_rows);
/// The same where the adapters of the keys do not act together: one after the other, in their order. The first one is
/// asked.
std::vector<Adapter> load_with_adapters(LoadedModel& loaded, const Invocation& invocation);

}  // namespace deltaw::cli
