// What sums of losses say.
#pragma once

#include <string>
#include <vector>

#include "deltaw/options.h"
#include "deltaw/text_rows.h"

namespace deltaw::tasks {

/// Throws numeric.non-finite.
void check_finite(double loss, const std::string& where);

RowLoss sum_of(const std::vector<RowLoss>& rows);

/// Throws config.unknown-metric for what is no score of a causal language model.
void check_causal_metric(const std::string& name);

/// {"loss", the mean of a token, "perplexity"}. Throws numeric.non-finite.
Json mean_loss(const RowLoss& sum, const std::string& where);

}  // namespace deltaw::tasks
