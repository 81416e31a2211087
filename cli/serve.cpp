#include "serve.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "adapt/adapter_folder.h"
#include "adapt/peft_format.h"
#include "base_hash.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/generate.h"
#include "io/resolve_model.h"
#include "no_effect.h"
#include "output.h"
#include "run_folder.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

// Without the path of the chat template: the folder has a copy, and what else the path leads to would be copied on.
Json values_of(const fs::path& adapter, const Json& config) {
  const Json run = settings_of(adapter);
  Json values = Json::object();
  std::vector<std::string> kept = {
      "model_name_or_path", "task_name",   "dataset_dir",      "train_file",   "validation_file",
      "validation_split",   "text_column", "text_pair_column", "label_column", "label_names",
      "problem_type",       "encoding",    "max_length",       "seed"};
  for (std::string& key : kept_task_keys()) kept.push_back(std::move(key));
  for (const std::string& key : kept) {
    if (run.contains(key)) values[key] = run[key];
  }
  // PEFT's may be for a task that is none here, which loading says.
  Json named = config.value("task_type", Json());
  if (named.is_null()) named = task_of_class(config);
  for (const TaskSpec* task : task_table()) {
    if (named == task->id) values["task_type"] = task->id;
  }
  const auto base = config.find("base_model_name_or_path");
  if (!values.contains("model_name_or_path") && base != config.end() && base->is_string()) {
    values["model_name_or_path"] = *base;
  }
  return values;
}

constexpr const char* kQuantisationKeys[] = {"load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type",
                                             "bnb_4bit_use_double_quant"};

std::string held(const ModelOptions& options) {
  if (options.load_in_8bit) return "in int8";
  if (!options.load_in_4bit) return "as it is stored";
  return "in " + options.bnb_4bit_quant_type + (options.bnb_4bit_use_double_quant ? " with double quantisation" : "");
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

void warn_of_drawn_heads(const Served& served) {
  if (served.model->new_modules().empty()) return;
  for (const Parameter* parameter : served.model->parameters()) {
    const bool drawn = std::any_of(served.model->new_modules().begin(), served.model->new_modules().end(),
                                   [&](const std::string& name) { return parameter->name.starts_with(name + "."); });
    if (!drawn || !parameter->exists()) continue;
    if (served.adapter && served.adapter->overrides(*parameter)) continue;
    warning("'" + parameter->name + "' is in neither the checkpoint nor an adapter: it was drawn at random, and the " +
            "results are those of chance");
    return;
  }
}

}  // namespace

void AdapterKeys::fields(FieldVisitor& f) {
  f.field("adapter_name_or_path", adapter_name_or_path, "Folder of the adapter; empty: the base alone.");
  f.field("with_adapters", with_adapters, "Folders of further adapters that act together with it; its head stands.");
  f.field("adapter_weights", adapter_weights, "Weight of each of them, the first one's first; empty: ones.");
  f.field("allow_partial", allow_partial, "Load an adapter with missing or unexpected tensors.");
}

void BatchKeys::fields(FieldVisitor& f) {
  f.field("per_device_eval_batch_size", per_device_eval_batch_size, "Rows of one forward pass.", at_least(1));
  f.field("seed", seed, "Seed of validation_split and of a head that no file holds.", at_least(0));
}

Invocation inherited(const AdapterKeys& keys) {
  Invocation below;
  const fs::path adapter = keys.adapter_name_or_path;
  if (adapter.empty()) return below;
  below.file = values_of(adapter, open_adapter_folder(adapter).config);
  below.file_name = (adapter / "run.json").string();
  return below;
}

void inherit_quantisation(ModelOptions& options, const AdapterKeys& keys, const Invocation& invocation) {
  const fs::path adapter = keys.adapter_name_or_path;
  const Json run = adapter.empty() ? Json::object() : settings_of(adapter);
  Json values = Json::object();
  for (const char* key : kQuantisationKeys) {
    if (run.contains(key)) values[key] = run[key];
  }
  if (values.empty()) return;  // trained by others, who say nothing of it
  ModelOptions trained;
  read_fields(fields_of(trained), values, (adapter / "run.json").string());
  const bool asked = invocation.has("load_in_4bit") || invocation.has("load_in_8bit");
  if (!asked) {
    for (const char* key : kQuantisationKeys) {
      if (invocation.has(key)) values.erase(key);
    }
    read_fields(fields_of(options), values, (adapter / "run.json").string());
  }
  const std::string then = held(trained), now = held(options);
  if (then != now) {
    warning("the adapter was trained on a base " + then + ", and runs on one " + now);
  } else if (!asked && (options.load_in_4bit || options.load_in_8bit)) {
    note("the base is held " + now + ", as when the adapter was trained; --load_in_4bit false: as it is stored\n");
  }
}

std::vector<std::string> adapters_of(const AdapterKeys& keys) {
  if (keys.adapter_name_or_path.empty()) return {};
  std::vector<std::string> adapters = keys.with_adapters;
  adapters.insert(adapters.begin(), keys.adapter_name_or_path);
  return adapters;
}

Adapter load_adapters(const Model& model, const AdapterKeys& keys) {
  const std::vector<std::string> adapters = adapters_of(keys);
  const std::vector<RecordedBase> recorded = recorded_bases({adapters.begin(), adapters.end()});
  if (!recorded.empty()) {
    const auto sentence = other_base_warning(model.folder(), base_hash(model), recorded);
    if (sentence) warning(*sentence);
  }
  std::vector<Adapter> all;
  all.push_back(Adapter::load(model, keys.adapter_name_or_path, {.allow_partial = keys.allow_partial}));
  for (const std::string& folder : keys.with_adapters) {
    all.push_back(Adapter::load(model, folder, {.allow_partial = keys.allow_partial}));
  }
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

void require_base(const BaseKeys& base, const std::string& adapter, const Usage& usage) {
  if (!base.model_name_or_path.empty()) return;
  if (adapter.empty()) refuse_missing(usage, kNeedsModel);
  throw Error({.id = "usage.missing-key",
               .what = "the adapter names no base model (base_model_name_or_path), and none is given",
               .where = (fs::path(adapter) / "adapter_config.json").string(),
               .fix = "add --model_name_or_path MODEL, the model that the adapter was trained on"});
}

Inputs inputs_of(const Served& served, const Invocation& invocation) {
  return inputs_of(served.base.model_name_or_path, adapters_of(served.keys), served.data, served.tasks.named_files(),
                   invocation);
}

std::vector<Section> serving_sections(std::vector<Section> own) {
  Section model = section_of<BaseKeys>("Model");
  model.append(section_of<AdapterKeys>(""));
  model.append(section_of<ModelOptions>(""));
  std::vector<Section> sections = {std::move(model), section_of<DataOptions>("Data")};
  for (Section& section : task_sections(/*trains=*/false)) sections.push_back(std::move(section));
  sections.push_back(section_of<BatchKeys>("Batches"));
  for (Section& section : own) sections.push_back(std::move(section));
  sections.push_back(section_of<LogKeys>("Log"));
  return sections;
}

bool read_serving(const Usage& usage, const Args& args, std::vector<Section> own, Invocation& invocation,
                  Served& served) {
  const std::vector<Section> sections = serving_sections(std::move(own));
  std::vector<std::string> shared = run_keys();
  shared.insert(shared.end(), {"input_file", "output_file", "logits_file"});
  invocation = parse_args(usage, sections, args, shared);
  if (invocation.help) {
    print_help(usage, sections);
    return false;
  }
  read_into(served.keys, invocation);
  if (!served.keys.adapter_name_or_path.empty()) {
    Invocation below = inherited(served.keys);
    // An own file of rows stands in place of the split that was held out in training.
    if (invocation.has("validation_file")) below.file.erase("validation_split");
    served.length_given = below.file.contains("max_length");
    // How the files of the training were encoded says nothing of others.
    for (const char* other : {"train_file", "validation_file", "test_file", "input_file"}) {
      if (invocation.has(other)) below.file.erase("encoding");
    }
    read_into(served.base, below);
    read_into(served.model_options, below);
    read_into(served.data, below);
    served.tasks.read(below);
    read_into(served.batch, below);
  }
  read_into(served.base, invocation);
  read_into(served.model_options, invocation);
  inherit_quantisation(served.model_options, served.keys, invocation);
  read_into(served.data, invocation);
  served.tasks.read(invocation);
  read_into(served.batch, invocation);
  served.length_asked = invocation.has("max_length");
  served.length_given = served.length_given || served.length_asked;
  require_base(served.base, served.keys.adapter_name_or_path, usage);
  return true;
}

TaskFiles Served::files() {
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

AskedModel Served::asked(Progress progress) const {
  return {.task = *task,
          .model = *model,
          .adapter = adapter ? &*adapter : nullptr,
          .batch_size = batch.per_device_eval_batch_size,
          .progress = std::move(progress)};
}

void load_served(Served& served, const Invocation& invocation, bool reads_rows) {
  const TaskSpec& task = task_for(served.base.model_name_or_path, served.model_options.task_type);
  served.reader = served.tasks.reader_of(task);
  served.model_options.task_type = head_type(served.model_options.task_type);
  Invocation asked;  // a file serves several verbs, so its keys are not all meant for this one
  asked.flags = invocation.flags;
  if (const auto sentence = keys_without_effect(
          asked, {.task = task, .reader = *served.reader, .model = served.model_options, .data = served.data})) {
    warning(*sentence);
  }
  TaskFiles files = served.files();
  served.reader->choose_model(files);
  served.model_options.seed = static_cast<uint64_t>(served.batch.seed);
  served.model = load_model(served.base.model_name_or_path, served.model_options);
  served.task = served.reader->make_task(task);
  if (!served.keys.adapter_name_or_path.empty()) {
    served.adapter = load_adapters(*served.model, served.keys);
  }
  warn_of_drawn_heads(served);
  try {
    served.reader->begin_asking(served.asked(), files);
  } catch (const Error& error) {
    if (reads_rows || error.id() != "io.not-found") throw;
  }
}

}  // namespace deltaw::cli
