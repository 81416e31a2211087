#include "deltaw/denoiser.h"

#include <ATen/ATen.h>

#include "deltaw/error.h"

namespace deltaw {
namespace {

[[noreturn]] void refuse_text(const Model& model) {
  throw Error({.id = "internal.not-text",
               .what = "a model of noise was asked for what it makes of text",
               .where = model.architecture(),
               .fix = "call denoise()"});
}

}  // namespace

Tensor Denoiser::features(const ModelInput& /*input*/, Call& /*call*/) const {
  refuse_text(*this);
}

Tensor Denoiser::logits(const Tensor& /*features*/, Call& /*call*/) const {
  refuse_text(*this);
}

Tensor Denoiser::encode_text(const Tensor& input_ids, Call& call) const {
  return text_encoder_->features({.input_ids = input_ids, .attention_mask = at::ones_like(input_ids)}, call);
}

}  // namespace deltaw
