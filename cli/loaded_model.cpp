#include "loaded_model.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "deltaw/error.h"
#include "deltaw/generate.h"
#include "io/resolve_model.h"
#include "output.h"
#include "run/base_hash.h"
#include "run/inherited.h"
#include "run/no_effect.h"
#include "tasks/common/extends_model.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

/// Another task than the adapter's reads other rows.
void leave_rows(GivenKeys& below, const Invocation& invocation) {
  const Json asked = invocation.all().value("task_type", Json()), trained = below.file.value("task_type", Json());
  if (!asked.is_string() || !trained.is_string() || asked == trained) return;
  for (const char* key :
       {"task_name", "dataset_dir", "train_file", "validation_file", "validation_split", "text_column",
        "text_pair_column", "label_column", "label_names", "problem_type", "encoding", "image_column"}) {
    below.file.erase(key);
  }
}

double as_weight(const std::string& text) {
  double weight = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), weight);
  if (problem == std::errc() && end == text.data() + text.size() && std::isfinite(weight)) return weight;
  throw Error({.id = "config.bad-value",
               .what = "'" + text + "' is no number",
               .where = "key 'adapter_weights'",
               .fix = "give numbers: --adapter_weights 0.7,0.3"});
}

/// Says where one was trained on another base than `model`.
std::vector<Adapter> load_each(const Model& model, const AdapterKeys& keys) {
  const std::vector<std::string> adapters = adapters_of(keys);
  const std::vector<run::RecordedBase> recorded = run::recorded_bases({adapters.begin(), adapters.end()});
  if (!recorded.empty()) {
    const auto sentence = run::other_base_warning(model, run::base_hash(model), recorded);
    if (sentence) warning(*sentence);
  }
  std::vector<Adapter> all;
  for (const std::string& folder : adapters) {
    all.push_back(Adapter::load(model, folder, {.allow_partial = keys.allow_partial}));
  }
  return all;
}

void load_base(LoadedModel& loaded, const Invocation& invocation) {
  const TaskSpec& task = task_for(loaded.base.model_name_or_path, loaded.model_options.task_type);
  loaded.reader = loaded.tasks.reader_of(task);
  loaded.model_options.task_type = head_type(loaded.model_options.task_type);
  // A file serves several verbs, so its keys are not all meant for this one.
  std::vector<std::string> flags;
  for (const auto& [key, value] : invocation.flags.items()) flags.push_back(key);
  const run::KeyFacts acting{
      .task = task, .reader = *loaded.reader, .model = loaded.model_options, .data = loaded.data};
  if (const auto sentence = run::keys_without_effect(Json::object(), flags, acting)) warning(*sentence);
  TaskFiles files = loaded.files();
  loaded.reader->choose_model(files);
  loaded.model_options.seed = static_cast<uint64_t>(loaded.batch.seed);
  loaded.model = load_model(loaded.base.model_name_or_path, loaded.model_options);
  tasks::extend(*loaded.reader, *loaded.model, files);
  loaded.task = loaded.reader->make_task(task);
}

void warn_of_drawn_heads(const LoadedModel& loaded) {
  if (loaded.model->new_modules().empty()) return;
  for (const Parameter* parameter : loaded.model->parameters()) {
    const bool drawn = std::any_of(loaded.model->new_modules().begin(), loaded.model->new_modules().end(),
                                   [&](const std::string& name) { return parameter->name.starts_with(name + "."); });
    if (!drawn || !parameter->exists()) continue;
    if (loaded.adapter && loaded.adapter->overrides(*parameter)) continue;
    warning("'" + parameter->name + "' is in neither the checkpoint nor an adapter: it was drawn at random, and the " +
            "results are those of chance");
    return;
  }
}

void begin_asking(LoadedModel& loaded, bool reads_rows) {
  warn_of_drawn_heads(loaded);
  TaskFiles files = loaded.files();
  try {
    loaded.reader->begin_asking(loaded.asked(), files);
  } catch (const Error& error) {
    if (reads_rows || error.id() != "io.not-found") throw;
  }
}

}  // namespace

void AdapterKeys::fields(FieldVisitor& f) {
  f.field("adapter_name_or_path", adapter_name_or_path,
          "Folder of the adapter, or a LoRA file of an image model; empty: the base alone.");
  f.field("with_adapters", with_adapters, "Folders of further adapters that act together with it; its head stands.");
  f.field("adapter_weights", adapter_weights, "Weight of each of them, the first one's first; empty: ones.");
  f.field("allow_partial", allow_partial, "Load an adapter with missing or unexpected tensors.");
}

void BatchKeys::fields(FieldVisitor& f) {
  f.field("per_device_eval_batch_size", per_device_eval_batch_size, "Rows of one forward pass.", at_least(1));
  f.field("seed", seed, "Seed of validation_split and of a head that no file holds.", at_least(0));
}

std::vector<std::string> adapters_of(const AdapterKeys& keys) {
  if (keys.adapter_name_or_path.empty()) return {};
  std::vector<std::string> adapters = keys.with_adapters;
  adapters.insert(adapters.begin(), keys.adapter_name_or_path);
  return adapters;
}

Adapter load_adapters(const Model& model, const AdapterKeys& keys) {
  std::vector<Adapter> all = load_each(model, keys);
  if (!keys.adapter_weights.empty() && keys.adapter_weights.size() != all.size()) {
    throw Error({.id = "config.bad-value",
                 .what = std::to_string(keys.adapter_weights.size()) + " weights for " + std::to_string(all.size()) +
                         " adapters",
                 .where = "key 'adapter_weights'",
                 .fix = "give one for adapter_name_or_path and one for each of with_adapters"});
  }
  if (all.size() == 1 && keys.adapter_weights.empty()) return std::move(all.front());
  std::vector<double> weights;
  for (const std::string& text : keys.adapter_weights) weights.push_back(as_weight(text));
  return Adapter::compose(std::move(all), std::move(weights));
}

std::vector<int64_t> taught_ends(const AdapterKeys& keys) {
  std::vector<int64_t> ids;
  for (const std::string& folder : adapters_of(keys)) {
    for (const int64_t id : taught_end_ids(folder)) ids.push_back(id);
  }
  return ids;
}

run::Inputs inputs_of(const LoadedModel& loaded, const Invocation& invocation) {
  return run::inputs_of(loaded.base.model_name_or_path, adapters_of(loaded.keys), loaded.data,
                        loaded.tasks.named_files(), invocation.file_name);
}

std::vector<Section> model_sections(std::vector<Section> own, Section adapters) {
  Section model = section_of<BaseKeys>("Model");
  model.append(std::move(adapters));
  model.append(section_of<ModelOptions>(""));
  std::vector<Section> sections = {std::move(model), section_of<DataOptions>("Data")};
  for (Section& section : task_sections(/*trains=*/false)) sections.push_back(std::move(section));
  sections.push_back(section_of<BatchKeys>("Batches"));
  for (Section& section : own) sections.push_back(std::move(section));
  sections.push_back(section_of<LogKeys>("Log"));
  return sections;
}

bool read_model_keys(const Usage& usage, const Args& args, std::vector<Section> own, Invocation& invocation,
                     LoadedModel& loaded) {
  if (!parse_model_keys(usage, model_sections(std::move(own)), args, invocation)) return false;
  read_into(loaded.keys, invocation);
  settle_model_keys(usage, invocation, loaded);
  return true;
}

bool parse_model_keys(const Usage& usage, const std::vector<Section>& sections, const Args& args,
                      Invocation& invocation) {
  std::vector<std::string> shared = run_keys();
  shared.insert(shared.end(), {"input_file", "output_file", "logits_file"});
  invocation = parse_args(usage, sections, args, shared);
  if (invocation.help) print_help(usage, sections);
  return !invocation.help;
}

void settle_model_keys(const Usage& usage, const Invocation& invocation, LoadedModel& loaded) {
  if (!loaded.keys.adapter_name_or_path.empty()) {
    GivenKeys below = run::inherited(loaded.keys.adapter_name_or_path);
    leave_rows(below, invocation);
    // An own file of rows stands in place of the split that was held out in training.
    if (invocation.has("validation_file")) below.file.erase("validation_split");
    loaded.length_given = below.file.contains("max_length");
    // How the files of the training were encoded says nothing of others.
    for (const char* other : {"train_file", "validation_file", "test_file", "input_file"}) {
      if (invocation.has(other)) below.file.erase("encoding");
    }
    read_into(loaded.base, below);
    read_into(loaded.model_options, below);
    read_into(loaded.data, below);
    loaded.tasks.read(below);
    read_into(loaded.batch, below);
  }
  read_into(loaded.base, invocation);
  read_into(loaded.model_options, invocation);
  run::forget_task_of_texts(loaded.model_options, loaded.base.model_name_or_path, invocation);
  tell(run::inherit_quantisation(loaded.model_options, loaded.keys.adapter_name_or_path, invocation));
  read_into(loaded.data, invocation);
  loaded.tasks.read(invocation);
  read_into(loaded.batch, invocation);
  loaded.length_asked = invocation.has("max_length");
  loaded.length_given = loaded.length_given || loaded.length_asked;
  require_base(loaded.base, loaded.keys.adapter_name_or_path, usage);
}

TaskFiles LoadedModel::files() {
  const std::vector<std::string> adapters = adapters_of(keys);
  return {.data = data,
          .model = model_options,
          .base = io::resolve_model(base.model_name_or_path),
          .adapters = {adapters.begin(), adapters.end()},
          .seed = static_cast<uint64_t>(batch.seed),
          .length_given = length_given,
          .length_asked = length_asked,
          .warn = [](const std::string& sentence) { warning(sentence); }};
}

AskedModel LoadedModel::asked(Progress progress) const {
  return {.task = *task,
          .model = *model,
          .adapter = adapter ? &*adapter : nullptr,
          .batch_size = batch.per_device_eval_batch_size,
          .progress = std::move(progress)};
}

void load_with_adapter(LoadedModel& loaded, const Invocation& invocation, bool reads_rows) {
  load_base(loaded, invocation);
  if (!loaded.keys.adapter_name_or_path.empty()) loaded.adapter = load_adapters(*loaded.model, loaded.keys);
  begin_asking(loaded, reads_rows);
}

std::vector<Adapter> load_with_adapters(LoadedModel& loaded, const Invocation& invocation) {
  load_base(loaded, invocation);
  std::vector<Adapter> all = load_each(*loaded.model, loaded.keys);
  loaded.adapter = std::move(all.front());
  begin_asking(loaded, /*reads_rows=*/true);
  all.front() = std::move(*loaded.adapter);
  loaded.adapter.reset();
  return all;
}

}  // namespace deltaw::cli
