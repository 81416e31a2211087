// How often images find their captions, and captions their images.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/task.h"
#include "deltaw/two_tower_model.h"
#include "tasks/contrastive_image_text/rows.h"

namespace deltaw::contrastive {

/// image_to_text_recall_at_1, ..._at_5, ..._at_10 and the same of text_to_image: the share of the images (captions)
/// that have a right caption (image) among the 1, 5 or 10 nearest of the whole set, where equal captions and equal
/// images count once. One that is as near as a right one stands before it.
const std::vector<std::string>& metric_names();

/// Throws config.unknown-metric.
void check_metric(const std::string& name);

/// The loss is that of all rows as one batch. `model` and `adapter` (or null) say what cosines are scaled with.
std::unique_ptr<Scorer> make_scorer(const PairRows& rows, std::vector<std::string> metrics, const TwoTowerModel& model,
                                    const Adapter* adapter);

}  // namespace deltaw::contrastive
