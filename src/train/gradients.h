// The gradients of one step, as the tensors hold them.
#pragma once

#include <string>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw::train {

/// Euclidean norm over all gradients together.
double gradient_norm(const std::vector<NamedTensor>& tensors);

/// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1.
void clip_gradients(const std::vector<NamedTensor>& tensors, double norm, double max_norm);

void clear_gradients(const std::vector<NamedTensor>& tensors);

/// Throws internal.no-gradient for the first tensor that the backward pass did not reach.
void check_all_reached(const std::vector<NamedTensor>& tensors);

/// Throws numeric.non-finite for a loss or norm of this step that is no number, naming the first tensor with a
/// non-finite value or gradient.
void check_finite(const std::vector<NamedTensor>& tensors, double loss, double norm, int64_t step);

}  // namespace deltaw::train
