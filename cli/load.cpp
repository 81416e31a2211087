#include "load.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "adapt/rank_budgets.h"
#include "continued.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/checkpoint.h"
#include "no_effect.h"
#include "output.h"
#include "serve.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "tasks/common/metrics.h"
#include "texts.h"
#include "train/checkpoint.h"
#include "train/options.h"
#include "train/schedule.h"

namespace deltaw::cli {
namespace {

/// The labels are those of the run from here on, and so are the columns, those of a task aside: whoever reads another
/// file later, with run.json, reads the same ones or is told that they are not there.
void settle_data(Setup& setup, const TrainingData& data) {
  const LabelSet& labels = data.labels;
  if (setup.data.task_name.empty()) {
    setup.data.text_column = data.text_column;
    setup.data.text_pair_column = data.text_pair_column;
    setup.data.label_column = data.label_column;
  }
  setup.model.new_head = data.new_head;
  setup.data.label_names = labels.names;
  setup.data.problem_type = labels.problem_type();
  setup.model.problem_type = setup.data.problem_type;
  setup.model.num_labels = labels.outputs();
  setup.model.label_names = labels.names;
}

void settle_metric(Setup& setup, Run& run, const Invocation& invocation, bool causal) {
  run.metrics = causal ? std::vector<std::string>{"loss"} : metric_names(setup.data, run.data.labels);
  std::string& best = setup.train.metric_for_best_model;
  if (best.starts_with("eval_")) best.erase(0, 5);
  run.best_metric = best.empty() ? run.metrics.front() : best;
  if (!invocation.has("greater_is_better")) setup.train.greater_is_better = tasks::greater_is_better(run.best_metric);
}

/// What the trainer would refuse, before anything is loaded for long or written.
void check_training(const Setup& setup, const Run& run, bool causal) {
  const bool has_validation = !(causal ? run.texts.validation.rows.empty() : run.data.validation.rows.empty());
  train::check_options(setup.train, has_validation, /*smooths_labels=*/causal || run.data.labels.one_class());
  if (causal) {
    tasks::check_causal_metric(run.best_metric);
  } else {
    tasks::check_class_metric(run.best_metric, run.data.labels);
  }
}

/// The tokenizer and the model's size with the tokens that were asked for.
void add_vocabulary(Setup& setup, Run& run) {
  run.new_tokens = add_new_tokens(setup.vocabulary, *run.tokenizer);
  if (run.new_tokens.empty()) return;
  const int64_t last = *std::max_element(run.new_tokens.begin(), run.new_tokens.end());
  setup.model.vocab_size = std::max(run.tokenizer->vocab_size(), last + 1);
}

/// The rows of an adapter that has some are settled.
void refuse_new_tokens(const Setup& setup, const Run& run) {
  if (!setup.goes_on() || run.new_tokens.empty()) return;
  throw Error({.id = "config.conflict",
               .what = "'" + run.tokenizer->id_to_token(run.new_tokens.front()).value_or("?") +
                       "' is no token of the adapter that training goes on from",
               .where = setup.asked_where + ", keys 'add_tokens', 'add_special_tokens'",
               .fix = "leave it out, or train a new adapter with it"});
}

void refuse_vocabulary(const VocabularyKeys& keys, const std::filesystem::path& folder) {
  if (keys.add_tokens.empty() && keys.add_special_tokens.empty()) return;
  throw Error({.id = "config.unsupported",
               .what = "new tokens are for causal language models, and this checkpoint is trained as a classifier",
               .where = folder.string() + ", keys 'add_tokens', 'add_special_tokens'",
               .fix = "leave the keys out, or name a causal language model"});
}

std::vector<EncodedRow> encode_texts_of(const TextDataset& texts, const Setup& setup, const Run& run,
                                        TextFacts& facts) {
  if (texts.rows.empty()) return {};
  EncodedTexts encoded =
      encode_texts(texts, *run.tokenizer, setup.data.max_length, end_id_of(*run.tokenizer, *run.model));
  facts = encoded.facts;
  return setup.text.packing ? pack_rows(encoded.rows, setup.data.max_length) : std::move(encoded.rows);
}

/// What no embedding stands for would end the first step.
void check(const Run& run) {
  const Adapter* adapter = run.adapter ? &*run.adapter : nullptr;
  tasks::check_rows(*run.model, adapter, run.train_rows(), &*run.tokenizer);
  tasks::check_rows(*run.model, adapter, run.validation_rows(), &*run.tokenizer);
}

template <class Rows>
std::shared_ptr<const TextRows> rows_of(std::vector<EncodedRow> rows, const Run& run) {
  return std::make_shared<const Rows>(std::move(rows), run.pad_id, run.tokenizer->pads_left());
}

/// Once; nothing before it has looked at more than the text.
void encode(const Setup& setup, Run& run) {
  if (run.train) return;
  if (run.model->is_causal()) {
    run.train = rows_of<CausalRows>(encode_texts_of(run.texts.train, setup, run, run.train_facts), run);
    run.turn_ends = taught_ends({.adapter_name_or_path = setup.from.adapter_name_or_path});
    run.turn_ends.insert(run.turn_ends.end(), run.train_facts.turn_ends.begin(), run.train_facts.turn_ends.end());
    run.validation = rows_of<CausalRows>(encode_texts_of(run.texts.validation, setup, run, run.validation_facts), run);
  } else {
    run.train = rows_of<TextRows>(encode_rows(run.data.train, *run.tokenizer, setup.data.max_length), run);
    run.validation = rows_of<TextRows>(encode_rows(run.data.validation, *run.tokenizer, setup.data.max_length), run);
  }
  check(run);
}

/// The first batches that training will take, without padding them to one length.
std::vector<CalibrationBatch> calibration_of(const Setup& setup, Run& run, int64_t samples) {
  encode(setup, run);
  return calibration_batches(*run.task, *run.train, setup.train.per_device_train_batch_size,
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

}  // namespace

int64_t pad_id_of(const Tokenizer& tokenizer, const Model& model) {
  const Json named = model.config().value("pad_token_id", Json());
  std::vector<std::string> refused;
  const auto is_token = [&](int64_t id, const char* file) {
    if (id >= 0 && id < model.vocab_size()) return true;
    refused.push_back(std::to_string(id) + " by " + file);
    return false;
  };
  if (const auto id = tokenizer.pad_id(); id && is_token(*id, "the tokenizer")) return *id;
  if (named.is_number_integer() && is_token(named, "config.json")) return named;
  if (model.family() && model.family()->is_decoder) return 0;  // nothing attends to padding: any token serves
  throw Error({.id = "config.no-pad-token",
               .what = refused.empty()
                           ? "neither the tokenizer nor the model names a padding token"
                           : fmt::format("the padding token is {}, and the model has {} tokens (0 to {})",
                                         fmt::join(refused, " and "), model.vocab_size(), model.vocab_size() - 1),
               .where = (model.folder() / "config.json").string(),
               .fix = "set pad_token in tokenizer_config.json, or pad_token_id in config.json"});
}

HeadLabels head_of(const std::filesystem::path& folder, const ModelOptions& options) {
  StoredLabels stored = stored_labels(folder.string());
  return {.names = std::move(stored.names), .stored = stored.stored, .replaceable = options.ignore_mismatched_sizes};
}

int64_t readable_length(const Model& model, const Adapter* adapter, const Tokenizer& tokenizer) {
  const int64_t taken = adapter ? adapter->virtual_tokens().count() : 0;
  const int64_t positions = std::max<int64_t>(0, model.max_positions() - taken), named = tokenizer.max_length();
  return positions > 0 && named > 0 ? std::min(positions, named) : std::max(positions, named);
}

int64_t checked_length(const Model& model, int64_t max_length, bool asked_for) {
  if (model.max_positions() <= 0 || max_length <= model.max_positions()) return max_length;
  if (!asked_for) return model.max_positions();
  throw Error({.id = "config.max-length",
               .what = "max_length is " + std::to_string(max_length) + ", the model reads at most " +
                       std::to_string(model.max_positions()) + " tokens",
               .where = (model.folder() / "config.json").string() + ", key 'max_position_embeddings'",
               .fix = "set max_length to " + std::to_string(model.max_positions()) + " or less"});
}

void write_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder, bool changed) {
  for (const std::filesystem::path& file : tokenizer.files()) {
    const std::filesystem::path target = folder / file.filename();
    if (!std::filesystem::exists(target) || !std::filesystem::equivalent(file, target)) {
      write_file(target, read_file(file));
    }
  }
  const bool inside_another = tokenizer.files().empty();  // of a GGUF file
  if (changed || inside_another) tokenizer.save(folder);
}

namespace {

void load_rows(Setup& setup, Run& run, const std::filesystem::path& folder, bool causal) {
  const auto seed = static_cast<uint64_t>(setup.train.seed);
  if (causal) {
    setup.model = with_vocabularies(std::move(setup.model), {.adapter_name_or_path = setup.from.adapter_name_or_path});
    add_vocabulary(setup, run);
    refuse_new_tokens(setup, run);
    if (!setup.length_given) setup.data.max_length = kTextLength;
    const auto chat_template = find_chat_template(setup.text, run.sources);
    run.texts = load_text_data(setup.data, setup.text, renderer_of(chat_template), seed);
    return;
  }
  refuse_vocabulary(setup.vocabulary, folder);
  if (setup.goes_on()) inherit_head(setup);
  run.data = load_training_data(setup.data, seed, setup.goes_on() ? HeadLabels() : head_of(folder, setup.model));
  if (setup.goes_on()) check_head_size(setup, run.data.labels.outputs());
  run.warnings.insert(run.warnings.end(), run.data.warnings.begin(), run.data.warnings.end());
  settle_data(setup, run.data);
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
  const bool causal = task_type_of(folder.string(), setup.model.task_type) == "CAUSAL_LM";
  if (const auto sentence = keys_without_effect(
          invocation, {.causal = causal, .model = setup.model, .data = setup.data, .train = setup.train})) {
    run.warnings.push_back(*sentence);
  }
  const std::string& from = setup.from.adapter_name_or_path;
  run.sources = {folder};
  if (setup.goes_on()) run.sources.insert(run.sources.begin(), from);
  run.tokenizer = Tokenizer::from_folder(tokenizer_folder(folder, from), folder);
  load_rows(setup, run, folder, causal);
  settle_metric(setup, run, invocation, causal);
  check_training(setup, run, causal);

  run.model = load_model(folder.string(), setup.model);
  run.task = task_of(*run.model);
  settle_base(setup, invocation, run);
  setup.data.max_length = checked_length(*run.model, setup.data.max_length, setup.length_given);
  run.pad_id = pad_id_of(*run.tokenizer, *run.model);
  if (!setup.goes_on()) train_new_tokens(*run.model, setup.adapter, run.new_tokens);
  run.adapter = setup.goes_on() ? continued(*run.model, setup) : adapter_of(setup, run);
  setup.adapter.task_type = run.model->task_type();
  encode(setup, run);
  check(run);
  // Refuses a rank budget that cannot prune, before anything is written.
  const auto schedule = train::make_schedule(setup.train, run.train->size());
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
