// What the heads of encoders stand on.
#pragma once

#include <memory>

#include "deltaw/model.h"
#include "models/head_layers.h"

namespace deltaw {

/// Which tokens a head reads.
enum class Reads { first, every };

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// Hidden states of each row's first token [batch, hidden], or of every token [batch, seq, hidden], zero on padding.
  virtual Tensor states(const ModelInput& input, Reads reads, Call& call) const = 0;
};

/// An encoder with one of its heads.
class EncoderModel : public Model {
 public:
  Tensor features(const ModelInput& input, Call& call) const override { return encoder_->states(input, reads_, call); }
  Tensor logits(const Tensor& features, Call& call) const override { return layers_(features, call); }

 protected:
  std::unique_ptr<TextEncoder> encoder_;
  HeadLayers layers_;
  Reads reads_ = Reads::first;
};

}  // namespace deltaw
