// From a setup to rows, model and tokenizer.
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
#include "deltaw/text_data.h"
#include "deltaw/text_rows.h"
#include "deltaw/tokenizer.h"
#include "setup.h"

namespace deltaw::cli {

/// The id that fills short rows: the tokenizer's, else config.json's, where the model has such a token. A causal model
/// takes any. Throws config.no-pad-token.
int64_t pad_id_of(const Tokenizer& tokenizer, const Model& model);

/// The labels of the checkpoint's head, for load_training_data.
HeadLabels head_of(const std::filesystem::path& folder, const ModelOptions& options);

/// Tokens of the longest row: of the tokenizer's model_max_length and the model's positions, those of the adapter's
/// virtual tokens left out, the smaller one; 0 where neither is known.
int64_t readable_length(const Model& model, const Adapter* adapter, const Tokenizer& tokenizer);

/// max_length as the model allows it: one that was asked for and is too long is refused (config.max-length), the
/// default is shortened.
int64_t checked_length(const Model& model, int64_t max_length, bool asked_for);

/// Copies the tokenizer's files into `folder`, a chat template among them; with `changed`, those that tokens were added
/// to are written anew.
void write_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder, bool changed = false);

/// Everything that stands before the first step.
struct Run {
  std::vector<std::filesystem::path> sources;  // of tokenizer and chat template, the first one first
  std::optional<Tokenizer> tokenizer;
  std::vector<int64_t> new_tokens;  // ids that add_tokens and add_special_tokens gave it
  TrainingData data;                // of a classifier
  TextData texts;                   // of a causal model
  TextFacts train_facts, validation_facts;
  std::vector<int64_t> turn_ends;  // what training teaches, and taught before, as the end of a turn
  std::unique_ptr<Model> model;
  std::optional<Adapter> adapter;
  std::unique_ptr<Task> task;
  std::shared_ptr<const TextRows> train, validation;  // of the rows; validation may have none
  std::vector<std::string> metrics;
  std::string best_metric;
  int64_t pad_id = 0;
  std::vector<std::string> warnings;  // of the data, one sentence each

  const std::vector<EncodedRow>& train_rows() const { return train->rows(); }
  const std::vector<EncodedRow>& validation_rows() const { return validation->rows(); }
};

/// Loads it all and settles in `setup` what the data decides: labels, problem type, length, metric.
Run load_run(Setup& setup, const Invocation& invocation);

/// What is about to happen, for people (see preview.h) and for --json.
Json preview(const Setup& setup, const Run& run, int64_t total_steps);

/// Settings that are known to go wrong, one sentence each.
std::vector<std::string> doubts(const Setup& setup, const Run& run);

}  // namespace deltaw::cli
