// The scores of a causal model on files, by one of the protocols of deltaw/evaluate.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "deltaw/evaluate.h"
#include "deltaw/task_reader.h"

namespace deltaw::causal_lm {

struct Evaluation {
  const LanguageModel& lm;
  const EvaluationOptions& options;
  const TaskFiles& files;
  const TextOptions& text;
  const ChatRenderer& render;     // empty where the model has no chat template
  std::optional<int64_t> end_id;  // the end-of-text token
  int64_t readable = 0;           // tokens that the model reads at most; 0: not known
};

/// Scores the validation file, the task's test set, or what validation_split holds out. Throws config.no-task for a
/// protocol that needs one, config.no-data, and what reading and scoring throw.
Json evaluated(const Evaluation& evaluation);

/// The rows that are scored by perplexity, whatever the protocol: of a running text its windows.
std::shared_ptr<const RowSource> scored_rows(const Evaluation& evaluation);

}  // namespace deltaw::causal_lm
