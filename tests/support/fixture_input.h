// What a fixture feeds its model: texts, or images.
#pragma once

#include "deltaw/image_model.h"
#include "support/golden.h"
#include "support/model_calls.h"
#include "support/opened.h"

namespace deltaw::test {

struct FixtureInput {
  ModelInput text = {};
  Tensor pixel_values = {};  // of images; undefined: texts
};

inline FixtureInput input_of(const Golden& io, const std::string& prefix = "") {
  if (io.has(prefix + "pixel_values")) return {.pixel_values = io[prefix + "pixel_values"]};
  return {.text = io.input(prefix)};
}

inline Tensor forward(const Model& model, const FixtureInput& input, Call& call) {
  if (!input.pixel_values.defined()) return model.forward(input.text, call);
  return dynamic_cast<const ImageModel&>(model).forward_images(input.pixel_values, call);
}

inline Tensor logits_of(const Model& model, const Adapter* adapter, const FixtureInput& input) {
  if (!input.pixel_values.defined()) return logits_of(model, adapter, input.text);
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter};
  return forward(model, input, call);
}

inline Probe probe_of(const FixtureInput& input) {
  if (!input.pixel_values.defined()) return probe_of(input.text);
  return
      [input](const Model& model, const Adapter* adapter) { return logits_of(model, adapter, input).to(at::kDouble); };
}

}  // namespace deltaw::test
