// A trained model, or a base alone, ready to be asked: for eval, predict and merge.
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
#include "setup.h"

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

struct Served {
  BaseKeys base;
  AdapterKeys keys;
  BatchKeys batch;
  ModelOptions model_options;
  DataOptions data;
  TaskKeys tasks;
  bool length_given = false;  // max_length was asked for, or trained with
  bool length_asked = false;  // it was asked for

  std::unique_ptr<Model> model;
  std::unique_ptr<Task> task;  // that the model is for
  std::shared_ptr<TaskReader> reader;
  std::optional<Adapter> adapter;

  TaskFiles files();
  AskedModel asked(Progress progress = {}) const;
};

/// What the folder of the adapter says, below what file and flags say: the base, the data, the lengths. Empty without
/// an adapter. Throws config.no-adapter.
Invocation inherited(const AdapterKeys& keys);

/// How the base was held when the adapter was trained (load_in_4bit, load_in_8bit), where neither file nor flags say
/// how it is to be held now. Says so, and where the adapter runs on another base than it was trained on.
void inherit_quantisation(ModelOptions& options, const AdapterKeys& keys, const Invocation& invocation);

/// The folders of all adapters that the keys name.
std::vector<std::string> adapters_of(const AdapterKeys& keys);

/// The adapter of the keys, or all of them as one. Says where one was trained on another base than `model`.
Adapter load_adapters(const Model& model, const AdapterKeys& keys);

/// What training taught these adapters as the end of a turn.
std::vector<int64_t> taught_ends(const AdapterKeys& keys);

/// Throws usage.missing-key where neither the keys nor the adapter name a base model.
void require_base(const BaseKeys& base, const std::string& adapter, const Usage& usage);

/// What it reads, for what it writes.
Inputs inputs_of(const Served& served, const Invocation& invocation);

/// The keys of such a verb; `own` stand last.
std::vector<Section> serving_sections(std::vector<Section> own);

/// Reads argv. What it leaves open is taken from run.json and adapter_config.json beside the adapter: the base, the
/// labels, the columns. Answers false where help was printed.
bool read_serving(const Usage& usage, const Args& args, std::vector<Section> own, Invocation& invocation,
                  Served& served);

/// Loads model and adapter and what the task reads its rows with. A head that neither the checkpoint nor the adapter
/// holds is warned of. Without `reads_rows` a missing tokenizer is no error.
void load_served(Served& served, const Invocation& invocation, bool reads_rows);

}  // namespace deltaw::cli
