// What the scores of language models have in common.
#pragma once

#include <string>
#include <vector>

#include "deltaw/options.h"
#include "deltaw/train.h"

namespace deltaw::eval {

/// Adds the share of hits as `name`, and its standard error as `name`_stderr (null below two).
void add_share(Json& results, const std::string& name, const std::vector<bool>& hits);

/// Throws numeric.non-finite.
void check_finite(double loss, const std::string& where);

RowLoss sum_of(const std::vector<RowLoss>& rows);

/// eval_loss, the mean of a token, and eval_perplexity. Throws numeric.non-finite.
Json mean_loss(const RowLoss& sum, const std::string& where);

/// Throws data.empty-file.
void check_any(bool any);

}  // namespace deltaw::eval
