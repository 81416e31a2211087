// Scores of predictions, with the names and values of Hugging Face's GLUE metrics (scikit-learn and SciPy).
// Where those give nan, the result here is empty, and null in JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/options.h"

namespace deltaw::tasks {

using Classes = std::vector<int64_t>;
using Values = std::vector<double>;
using Score = std::optional<double>;

enum class Average { binary, macro, weighted };

// Each takes two vectors of one length; no rows give no score.
Score accuracy(const Classes& predicted, const Classes& labels);

/// binary: of class 1. macro and weighted: over the classes that occur in either vector. 0 where a class is neither
/// predicted rightly nor could be.
Score f1(const Classes& predicted, const Classes& labels, Average average);

/// For any number of classes; 0 when predictions or labels are constant.
Score matthews_correlation(const Classes& predicted, const Classes& labels);

Score mse(const Values& predicted, const Values& labels);
Score rmse(const Values& predicted, const Values& labels);

/// The coefficient of determination, 1 - sum (label - predicted)^2 / sum (label - mean label)^2. Empty when the labels
/// are constant or there are fewer than two rows.
Score r2(const Values& predicted, const Values& labels);

/// Empty when either side is constant or there are fewer than two rows.
Score pearson(const Values& predicted, const Values& labels);
Score spearman(const Values& predicted, const Values& labels);  // ties share their mean rank

/// Area under the ROC curve: the share of pairs of a row above 0 in `labels` and another row in which the first has the
/// greater score, equal scores counting half. Empty when rows of one kind are missing.
Score roc_auc(const Values& scores, const Values& labels);

/// Class of the largest logit of each row, the first of equals. logits [rows, outputs], row-major.
Classes argmax_rows(const Values& logits, int64_t outputs);

/// Every metric of `names` as {"accuracy": 0.9, ...}: accuracy, f1 (of class 1 where there are two classes, macro where
/// there are more), f1_macro, f1_weighted, matthews_correlation, roc_auc (of class 1 where there are two classes, else
/// the mean of each class against the rest) for classes; mse, rmse, r2, pearson, spearmanr for scores. logits [rows,
/// outputs] row-major, labels [rows]; `regression` takes outputs = 1. Null for a score that is undefined, and for all
/// of them when a logit is not a number. Throws config.unknown-metric for a name that does not fit, shape.logits when
/// the sizes disagree.
Json compute_metrics(const std::vector<std::string>& names, const Values& logits, int64_t outputs, bool regression,
                     const Values& labels);

/// The same where a row has any number of classes: labels [rows, outputs] of 0 and 1, and a class is predicted where
/// its logit is above 0. accuracy (of whole rows), f1_micro, f1_macro, f1_weighted and roc_auc (the mean over the
/// classes that have rows of both kinds), as scikit-learn's of two matrices.
Json multi_label_metrics(const std::vector<std::string>& names, const Values& logits, int64_t outputs,
                         const Values& labels);

/// Throws config.unknown-metric for a name that is none of a classifier's with these labels; "loss" is one of all.
void check_class_metric(const std::string& name, const LabelSet& labels);

/// False for mse, rmse, loss and perplexity.
bool greater_is_better(const std::string& metric);

}  // namespace deltaw::tasks
