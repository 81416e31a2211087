// Scores of classifiers of images, and what predict says of an image.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/task.h"

namespace deltaw::image_classification {

/// Those of any classifier and, where there are more than five classes, the share of images whose class is among the
/// five likeliest ("top5_accuracy").
std::vector<std::string> metrics_of(const LabelSet& labels);
/// Throws config.unknown-metric.
void check_metric(const std::string& name, const LabelSet& labels);

std::unique_ptr<Scorer> make_scorer(const Model& model, int64_t rows, std::vector<std::string> metrics);

}  // namespace deltaw::image_classification
