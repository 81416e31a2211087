// Scores of classifiers of images, and what predict says of an image.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/task.h"

namespace deltaw::tasks {

/// Those of any classifier and, where there are more than five classes, the share of images whose class is among the
/// five likeliest ("top5_accuracy").
std::vector<std::string> image_metrics(const LabelSet& labels);
/// Throws config.unknown-metric.
void check_image_metric(const std::string& name, const LabelSet& labels);

/// `sigmoid`: the score of a class does not depend on the other classes, though a row has one of them.
std::unique_ptr<Scorer> image_scorer(const LabelSet& labels, int64_t rows, std::vector<std::string> metrics,
                                     bool sigmoid = false);

}  // namespace deltaw::tasks
