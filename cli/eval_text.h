// The scores of a causal model, for `eval`.
#pragma once

#include "deltaw/evaluate.h"
#include "serve.h"

namespace deltaw::cli {

/// Scores the validation file, the task's test set, or what validation_split holds out, by the protocol. `render` turns
/// conversations into text and may be empty where the model has no chat template. Throws config.no-task for a
/// protocol that needs one, config.no-data, and what reading and scoring throw.
Json score_text(const Served& served, const EvaluationOptions& options, const ChatRenderer& render);

}  // namespace deltaw::cli
