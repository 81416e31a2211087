// What the fixtures of oracle/make_unets.py feed their models.
#pragma once

#include <memory>
#include <string>

#include "deltaw/adapter.h"
#include "deltaw/denoiser.h"
#include "support/golden.h"

namespace deltaw::test {

inline std::string unet_folder(const std::string& name) {
  return fixture("golden/unets/" + name).string();
}

inline std::unique_ptr<Model> load_unet(const std::string& name, const std::string& dtype = "float32") {
  return load_model(unet_folder(name), {.dtype = dtype});
}

inline const Denoiser& denoiser(const Model& model) {
  return dynamic_cast<const Denoiser&>(model);
}

/// What the model says of a batch of a fixture.
inline Tensor denoised(const Model& model, const Golden& io, Call& call, const std::string& prefix = "") {
  const auto given = [&](const char* name) { return io.has(prefix + name) ? io[prefix + name] : Tensor(); };
  return denoiser(model).denoise(
      given("sample"), given("timesteps"),
      {.class_labels = given("class_labels"), .encoder_hidden_states = given("encoder_hidden_states")}, call);
}

inline Tensor denoised(const Model& model, const Adapter* adapter, const Golden& io) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter};
  return denoised(model, io, call);
}

}  // namespace deltaw::test
