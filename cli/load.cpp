#include "load.h"

#include <algorithm>

#include "adapt/rank_budgets.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "eval/metrics.h"
#include "io/checkpoint.h"
#include "texts.h"
#include "train/batch_tensors.h"
#include "train/checkpoint.h"
#include "train/options.h"
#include "train/schedule.h"

namespace deltaw::cli {
namespace {

void settle_labels(Setup& setup, const LabelSet& labels) {
  setup.data.label_names = labels.names;
  setup.data.problem_type = labels.regression ? "regression" : "single_label_classification";
  setup.model.problem_type = setup.data.problem_type;
  setup.model.num_labels = labels.outputs();
  setup.model.label_names = labels.names;
}

void settle_metric(Setup& setup, Run& run, const Invocation& invocation, bool causal) {
  run.metrics = causal ? std::vector<std::string>{"loss"} : metric_names(setup.data, run.data.labels);
  std::string& best = setup.train.metric_for_best_model;
  if (best.starts_with("eval_")) best.erase(0, 5);
  run.best_metric = best.empty() ? run.metrics.front() : best;
  if (!invocation.has("greater_is_better")) setup.train.greater_is_better = eval::greater_is_better(run.best_metric);
}

/// What the trainer would refuse, before anything is loaded for long or written.
void check_training(const Setup& setup, const Run& run, bool causal) {
  if (causal) {
    train::check_options(setup.train, !run.texts.validation.rows.empty(), false);
    train::check_causal_metric(run.best_metric);
    return;
  }
  const bool regression = run.data.labels.regression;
  train::check_options(setup.train, !run.data.validation.rows.empty(), regression);
  if (run.best_metric == "loss") return;
  const int64_t outputs = run.data.labels.outputs();
  eval::compute_metrics({run.best_metric}, eval::Values(static_cast<size_t>(outputs)), outputs, regression, {0});
}

/// The tokenizer and the model's size with the tokens that were asked for.
void add_vocabulary(Setup& setup, Run& run) {
  run.new_tokens = add_new_tokens(setup.vocabulary, *run.tokenizer);
  if (run.new_tokens.empty()) return;
  const int64_t last = *std::max_element(run.new_tokens.begin(), run.new_tokens.end());
  setup.model.vocab_size = std::max(run.tokenizer->vocab_size(), last + 1);
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

/// Once; nothing before it has looked at more than the text.
void encode(const Setup& setup, Run& run) {
  if (!run.train_rows.empty()) return;
  if (run.model->is_causal()) {
    run.train_rows = encode_texts_of(run.texts.train, setup, run, run.train_facts);
    run.validation_rows = encode_texts_of(run.texts.validation, setup, run, run.validation_facts);
  } else {
    run.train_rows = encode_rows(run.data.train, *run.tokenizer, setup.data.max_length);
    run.validation_rows = encode_rows(run.data.validation, *run.tokenizer, setup.data.max_length);
  }
}

/// The first batches that training will take, without padding them to one length.
std::vector<LabelledInput> calibration_batches(const Setup& setup, Run& run, int64_t samples) {
  encode(setup, run);
  std::vector<LabelledInput> batches;
  for (std::vector<int64_t>& positions :
       plan_batches(row_lengths(run.train_rows), setup.train.per_device_train_batch_size, train::data_seed(setup.train),
                    /*epoch=*/0, /*group_by_length=*/false)) {
    positions.resize(std::min(static_cast<size_t>(samples), positions.size()));
    if (positions.empty()) break;
    samples -= static_cast<int64_t>(positions.size());
    const Batch batch = collate(run.train_rows, positions, run.pad_id, run.tokenizer->pads_left());
    batches.push_back({train::to_input(batch), train::to_labels(*run.model, batch)});
  }
  return batches;
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

}  // namespace

bool resumes(const TrainOptions& options) {
  return !options.resume_from_checkpoint.empty() && options.resume_from_checkpoint != "false";
}

int64_t pad_id_of(const Tokenizer& tokenizer, const Model& model) {
  if (const auto id = tokenizer.pad_id()) return *id;
  const Json& config = model.config();
  if (config.contains("pad_token_id") && config["pad_token_id"].is_number_integer()) return config["pad_token_id"];
  if (model.is_causal()) return 0;  // nothing attends to padding, so any token serves
  throw Error({.id = "config.no-pad-token",
               .what = "neither the tokenizer nor the model names a padding token",
               .where = (model.folder() / "config.json").string(),
               .fix = "set pad_token in tokenizer_config.json, or pad_token_id in config.json"});
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
  if (changed) tokenizer.save(folder);
}

Run load_run(Setup& setup, const Invocation& invocation) {
  const auto seed = static_cast<uint64_t>(setup.train.seed);
  const std::filesystem::path folder = io::resolve_model(setup.base.model_name_or_path);
  const bool causal = task_type_of(folder.string()) == "CAUSAL_LM";
  Run run;
  run.tokenizer = Tokenizer::from_folder(folder);
  if (causal) {
    add_vocabulary(setup, run);
    if (!setup.length_given) setup.data.max_length = kTextLength;
    const auto chat_template = find_chat_template(setup.text, {folder});
    run.texts = load_text_data(setup.data, setup.text, renderer_of(chat_template), seed);
  } else {
    refuse_vocabulary(setup.vocabulary, folder);
    run.data = load_training_data(setup.data, seed);
    settle_labels(setup, run.data.labels);
  }
  settle_metric(setup, run, invocation, causal);
  check_training(setup, run, causal);

  run.model = load_model(folder.string(), setup.model);
  train_new_tokens(*run.model, setup.adapter, run.new_tokens);
  setup.data.max_length = checked_length(*run.model, setup.data.max_length, setup.length_given);
  run.pad_id = pad_id_of(*run.tokenizer, *run.model);
  if (resumes(setup.train) && starts_from_data(setup.adapter)) {
    run.adapter = adapter_of_checkpoint(*run.model, setup);
  } else {
    run.adapter = Adapter::create(*run.model, setup.adapter, seed,
                                  [&](int64_t samples) { return calibration_batches(setup, run, samples); });
  }
  setup.adapter.task_type = run.model->task_type();
  encode(setup, run);
  // Refuses a rank budget that cannot prune, before anything is written.
  const auto schedule = train::make_schedule(setup.train, static_cast<int64_t>(run.train_rows.size()));
  const RankBudgets checked(*run.adapter, schedule.total_steps);
  return run;
}

}  // namespace deltaw::cli
