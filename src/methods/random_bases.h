// Random bases that all layers share: drawn once from a key for the widest layer, of which each takes the leading part.
#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "deltaw/method.h"

namespace deltaw {

/// The widest input and output of the layers.
inline LayerInfo widest(const std::vector<LayerInfo>& layers) {
  LayerInfo result;
  for (const LayerInfo& layer : layers) {
    result.d_out = std::max(result.d_out, layer.d_out);
    result.d_in = std::max(result.d_in, layer.d_in);
  }
  return result;
}

struct RandomBasesOptions {
  int64_t projection_prng_key = 0;
  bool save_projection = true;

  void fields(FieldVisitor& f) {
    f.field("projection_prng_key", projection_prng_key, "Seed of the bases.", at_least(0));
    f.field("save_projection", save_projection, "Store the bases; false stores the key and a hash only.");
  }

  at::Generator generator() const { return at::make_generator<at::CPUGeneratorImpl>(projection_prng_key); }
};

}  // namespace deltaw
