#include "ops/linear/stack.h"

#include <algorithm>

#include "ops/thin.h"

namespace deltaw::ops {

Stack::Stack(const std::vector<Candidate>& candidates) {
  const auto takes_part = [](const Candidate& candidate) { return candidate.right.defined(); };
  if (std::count_if(candidates.begin(), candidates.end(), takes_part) < 2) return;
  places_.resize(candidates.size());
  int64_t end = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto& [right, trains] = candidates[i];
    if (!right.defined()) continue;
    Place place{.begin = end, .width = right.size(0)};
    for (size_t j = 0; j < i && !trains && !place.shared; ++j) {
      if (!places_[j] || candidates[j].trains || !same_matrix(right, candidates[j].right)) continue;
      place.begin = places_[j]->begin;
      place.shared = true;
    }
    if (!place.shared) end += place.width;
    places_[i] = place;
  }
}

StackColumns Stack::columns(size_t layer) const {
  if (layer >= places_.size() || !places_[layer]) return {};
  const auto own = [&](const Tensor& all) {
    return all.defined() ? all.narrow(1, places_[layer]->begin, places_[layer]->width) : all;
  };
  return {own(h), own(dh_)};
}

Tensor Stack::stacked(const std::vector<Update>& updates, const Tensor& like) const {
  Tensors rights;
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i] && !places_[i]->shared) rights.push_back(as(updates[i].right.detach(), like));
  }
  return rights.size() == 1 ? rights[0] : at::cat(rights);
}

void Stack::forward(const Tensor& x, const std::vector<Update>& updates) {
  if (!places_.empty()) h = thin_of(x, stacked(updates, x));
}

void Stack::begin_backward() {
  if (!places_.empty()) dh_ = at::zeros_like(h);
}

void Stack::backward(SharedInput& input, const std::vector<Update>& updates, std::vector<Update>& gradients) const {
  if (places_.empty()) return;
  if (input.needs_dx) add_wide(input.dx, dh_, stacked(updates, input.x));
  bool trains = false;
  for (size_t i = 0; i < places_.size(); ++i) trains |= places_[i] && updates[i].right.requires_grad();
  if (!trains) return;
  const Tensor dright = factor_of(dh_, input.x);
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i]) gradients[i].right = dright.narrow(0, places_[i]->begin, places_[i]->width);
  }
}

}  // namespace deltaw::ops
