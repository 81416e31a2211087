#include "tasks/common/losses.h"

#include <fmt/format.h>

#include <cmath>

#include "deltaw/error.h"

namespace deltaw::tasks {

void check_finite(double loss, const std::string& where) {
  if (std::isfinite(loss)) return;
  throw Error({.id = "numeric.non-finite",
               .what = fmt::format("the loss is {}", loss),
               .where = where,
               .fix = "compute with --dtype float32; if that is no help, the weights themselves are broken"});
}

RowLoss sum_of(const std::vector<RowLoss>& rows) {
  RowLoss sum;
  for (const RowLoss& row : rows) {
    sum.nll += row.nll;
    sum.tokens += row.tokens;
  }
  return sum;
}

void check_causal_metric(const std::string& name) {
  if (name == "loss" || name == "perplexity") return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of a causal language model", name),
               .where = "key \"metric_for_best_model\"",
               .fix = "loss or perplexity"});
}

Json mean_loss(const RowLoss& sum, const std::string& where) {
  const double loss = sum.nll / static_cast<double>(sum.tokens);
  check_finite(loss, where);
  return {{"loss", loss}, {"perplexity", std::exp(loss)}};
}

}  // namespace deltaw::tasks
