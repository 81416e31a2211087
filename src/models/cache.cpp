#include <algorithm>

#include "deltaw/model.h"

namespace deltaw {
namespace {

// `kept` grows by doubling, so that a token costs one copy of itself on the mean.
Tensor grown(const Tensor& kept, const Tensor& first, int64_t used, int64_t needed) {
  if (kept.defined() && kept.size(2) >= needed) return kept;
  const int64_t capacity = kept.defined() ? std::max(needed, 2 * kept.size(2)) : needed;
  Tensor larger = at::empty({first.size(0), first.size(1), capacity, first.size(3)}, first.options());
  if (kept.defined()) larger.narrow(2, 0, used).copy_(kept.narrow(2, 0, used));
  return larger;
}

}  // namespace

std::pair<Tensor, Tensor> KeyValueCache::append(int64_t layer, const Tensor& keys, const Tensor& values) {
  if (layer >= static_cast<int64_t>(layers_.size())) layers_.resize(layer + 1);
  if (layer == 0) {
    begin_ = length_;
    length_ += keys.size(2);
  }
  Entry& entry = layers_[layer];
  entry.keys = grown(entry.keys, keys, begin_, length_);
  entry.values = grown(entry.values, values, begin_, length_);
  entry.keys.narrow(2, begin_, length_ - begin_).copy_(keys);
  entry.values.narrow(2, begin_, length_ - begin_).copy_(values);
  return {entry.keys.narrow(2, 0, length_), entry.values.narrow(2, 0, length_)};
}

void KeyValueCache::select(const Tensor& rows) {
  for (Entry& entry : layers_) {
    entry.keys = entry.keys.index_select(0, rows);
    entry.values = entry.values.index_select(0, rows);
  }
}

}  // namespace deltaw
