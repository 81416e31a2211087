// What embeddings of a set's rows are worth.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/task.h"
#include "tasks/feature_extraction/rows.h"

namespace deltaw::feature_extraction {

/// Of rows with scores: spearmanr and pearson, of the cosines with the scores. Of others: accuracy, the share of the
/// anchors whose positive is nearer by the cosine than their own negatives or, where the rows have none, than every
/// other row's positive. The first one chooses the best checkpoint.
std::vector<std::string> metric_names(bool scored);

/// Throws config.unknown-metric.
void check_metric(const std::string& name, bool scored);

/// `loss` and `scale` as those of the task; the loss is that of all rows as one batch.
std::unique_ptr<Scorer> make_scorer(const TupleRows& rows, std::vector<std::string> metrics, const std::string& loss,
                                    double scale);

}  // namespace deltaw::feature_extraction
