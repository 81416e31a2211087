#include "serve.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "adapt/adapter_folder.h"
#include "base_hash.h"
#include "core/files.h"
#include "counter.h"
#include "deltaw/error.h"
#include "deltaw/generate.h"
#include "io/checkpoint.h"
#include "load.h"
#include "no_effect.h"
#include "output.h"
#include "run_folder.h"
#include "tasks/common/check_rows.h"
#include "text/tokenizer_files.h"
#include "texts.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

// Without the path of the chat template: the folder has a copy, and what else the path leads to would be copied on.
Json values_of(const fs::path& adapter, const Json& config) {
  const Json run = settings_of(adapter);
  Json values = Json::object();
  for (const char* key :
       {"model_name_or_path", "task_name", "dataset_dir", "train_file", "validation_file", "validation_split",
        "text_column", "text_pair_column", "label_column", "label_names", "problem_type", "encoding", "max_length",
        "completion_only_loss", "as_conversation", "max_bad_rows", "seed"}) {
    if (run.contains(key)) values[key] = run[key];
  }
  // PEFT's may be for a task that is none here, which loading says.
  for (const TaskSpec* task : task_table()) {
    if (config.value("task_type", Json()) == task->id) values["task_type"] = task->id;
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

bool has_names(const HeadLabels& head) {
  return std::none_of(head.names.begin(), head.names.end(),
                      [](const std::string& name) { return name.starts_with("LABEL_"); });
}

/// Labels by name: those that were asked for or trained with, the task's, the checkpoint's own, or those of the
/// training rows.
void choose_labels(Served& served) {
  ModelOptions& options = served.model_options;
  const DataOptions& data = served.data;
  const fs::path adapter = served.keys.adapter_name_or_path;
  if (!adapter.empty()) options = with_adapter_head(options, adapter);
  if (data.problem_type != "auto") options.problem_type = data.problem_type;
  if (options.problem_type == "regression") {
    options.label_names.clear();
    options.num_labels = 1;
    return;
  }
  const HeadLabels base = head_of(io::resolve_model(served.base.model_name_or_path), options);
  const HeadLabels head = options.label_names.empty() ? base : HeadLabels{.names = options.label_names, .stored = true};
  if (!data.label_names.empty()) {
    if (const auto sentence = order_warning(data.label_names, head)) warning(*sentence);
    options.label_names = data.label_names;
  }
  if (!options.label_names.empty()) return;
  if (!adapter.empty()) {
    if (data.task_name.empty() || (has_names(base) && static_cast<int64_t>(base.names.size()) == options.num_labels)) {
      return;
    }
    const GlueTask& task = find_glue_task(data.task_name);
    if (static_cast<int64_t>(task.labels.size()) == options.num_labels) options.label_names = task.labels;
    return;
  }
  if (has_names(base) || !split_file(data, Split::train)) return;
  const TrainingData rows = load_training_data(data, static_cast<uint64_t>(served.batch.seed), base);
  for (const std::string& sentence : rows.warnings) warning(sentence);
  const LabelSet& labels = rows.labels;
  options.label_names = labels.names;
  options.num_labels = labels.outputs();
  options.problem_type = labels.problem_type();
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

/// The length that was asked for or trained with, else what the model reads: nothing is cut that need not be.
void settle_length(Served& served, bool asked_for) {
  int64_t& length = served.data.max_length;
  served.readable = readable_length(*served.model, served.acting(), *served.tokenizer);
  if (served.length_given) {
    length = checked_length(*served.model, length, asked_for);
    return;
  }
  length = served.readable > 0 ? served.readable : kTextLength;
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

ModelOptions with_vocabularies(ModelOptions options, const AdapterKeys& keys) {
  if (keys.adapter_name_or_path.empty()) return options;
  options = with_adapter_vocabulary(std::move(options), keys.adapter_name_or_path);
  for (const std::string& folder : keys.with_adapters) options = with_adapter_vocabulary(std::move(options), folder);
  return options;
}

fs::path tokenizer_folder(const fs::path& base, const fs::path& adapter) {
  return adapter.empty() || text::tokenizer_sources(adapter).empty() ? base : adapter;
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
  return inputs_of(served.base.model_name_or_path, adapters_of(served.keys), served.data, served.text, invocation);
}

std::vector<Section> serving_sections(Section own) {
  Section model = section_of<BaseKeys>("Model");
  model.append(section_of<AdapterKeys>(""));
  model.append(section_of<ModelOptions>(""));
  return {std::move(model),
          section_of<DataOptions>("Data"),
          section_of<TextOptions>("Text for language models"),
          section_of<BatchKeys>("Batches"),
          std::move(own),
          section_of<LogKeys>("Log")};
}

bool read_serving(const Usage& usage, const Args& args, Section own, Invocation& invocation, Served& served) {
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
    read_into(served.text, below);
    read_into(served.batch, below);
  }
  read_into(served.base, invocation);
  read_into(served.model_options, invocation);
  inherit_quantisation(served.model_options, served.keys, invocation);
  read_into(served.data, invocation);
  read_into(served.text, invocation);
  read_into(served.batch, invocation);
  served.length_given = served.length_given || invocation.has("max_length");
  require_base(served.base, served.keys.adapter_name_or_path, usage);
  return true;
}

void load_served(Served& served, const Invocation& invocation, bool needs_tokenizer) {
  const bool causal = task_type_of(served.base.model_name_or_path, served.model_options.task_type) == "CAUSAL_LM";
  Invocation asked;  // a file serves several verbs, so its keys are not all meant for this one
  asked.flags = invocation.flags;
  if (const auto sentence =
          keys_without_effect(asked, {.causal = causal, .model = served.model_options, .data = served.data})) {
    warning(*sentence);
  }
  if (causal) {
    served.model_options = with_vocabularies(std::move(served.model_options), served.keys);
  } else {
    choose_labels(served);
  }
  served.model_options.seed = static_cast<uint64_t>(served.batch.seed);
  served.model = load_model(served.base.model_name_or_path, served.model_options);
  served.task = task_of(*served.model);
  if (!served.keys.adapter_name_or_path.empty()) {
    served.adapter = load_adapters(*served.model, served.keys);
  }
  warn_of_drawn_heads(served);
  served.labels.regression = served.model->is_regression();
  if (!causal && !served.labels.regression) {
    served.labels = label_set(served.data, served.model->label_names());
    served.labels.multi_label = served.model->is_multi_label();
  }
  try {
    served.tokenizer = Tokenizer::from_folder(
        tokenizer_folder(served.model->folder(), served.keys.adapter_name_or_path), served.model->folder());
    settle_length(served, invocation.has("max_length"));
    served.pad_id = pad_id_of(*served.tokenizer, *served.model);
    if (!causal) return;
    served.end_id = end_id_of(*served.tokenizer, *served.model);
    std::vector<fs::path> folders{served.model->folder()};
    if (!served.keys.adapter_name_or_path.empty()) folders.insert(folders.begin(), served.keys.adapter_name_or_path);
    served.chat_template = find_chat_template(served.text, folders);
  } catch (const Error& error) {
    if (needs_tokenizer || error.id() != "io.not-found") throw;
  }
}

EncodedTexts encoded(const Served& served, const TextDataset& texts, Untrained untrained) {
  EncodedTexts encoded = encode_texts(texts, *served.tokenizer, served.data.max_length, served.end_id, untrained);
  tasks::check_rows(*served.model, served.acting(), encoded.rows, &*served.tokenizer);
  return encoded;
}

std::vector<EncodedRow> encoded(const Served& served, const Dataset& dataset) {
  for (const std::string& sentence : dataset.warnings) warning(sentence);
  std::vector<EncodedRow> rows = encode_rows(dataset, *served.tokenizer, served.data.max_length);
  tasks::check_rows(*served.model, served.acting(), rows, &*served.tokenizer);
  warn_of_cut_rows(served, truncated_rows(rows), static_cast<int64_t>(rows.size()));
  return rows;
}

void warn_of_cut_rows(const Served& served, int64_t cut, int64_t rows) {
  if (cut > 0) warning(truncation_warning(cut, rows, served.data.max_length, served.readable));
}

Tensor logits_of(const Served& served, std::vector<EncodedRow> rows) {
  Counter counter("rows");
  const TextRows source(std::move(rows), served.pad_id, served.tokenizer->pads_left());
  return predict_logits(*served.model, served.acting(), source, served.batch.per_device_eval_batch_size,
                        counter.progress());
}

}  // namespace deltaw::cli
