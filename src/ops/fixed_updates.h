// What an adapter makes of each linear layer, settled once and used by many passes.
#pragma once

#include <optional>
#include <vector>

#include "deltaw/active_updates.h"
#include "deltaw/model.h"

namespace deltaw {

/// Reading text token by token calls every layer with few rows, and a method's map would cost more than the layer
/// itself. Here it is computed when a layer is first met. Narrow factors are kept beside W0 in the model's type; wide
/// ones, dense updates, maps of the input and small layers are folded into a W of their own, which over a quantised
/// base is held in full.
///
/// Put one into Call::fixed for passes of the same adapter that record no gradient and between which its tensors stand
/// still. Not for several threads at once.
class FixedUpdates {
 public:
  /// `adapter` must outlive it.
  explicit FixedUpdates(const ActiveUpdates& adapter);

  /// Whether the passes of `call` may use what is kept here.
  bool serves(const Call& call) const;

  /// x [rows, d_in] -> [rows, d_out] in x's type.
  Tensor linear(const Tensor& x, const Linear& layer, const AdaptedLayer& adapted, LinearPath path);
  /// The method's answer as it is.
  const Update& update(const AdaptedLayer& adapted);
  /// What stands in for a parameter, or the parameter itself, in `type`.
  Tensor value(const Parameter& parameter, at::ScalarType type);

 private:
  struct Settled {
    at::ScalarType type;  // of the passes that it serves
    Tensor weight;        // [d_out, d_in]: W0, or W where nothing is beside it; undefined for a quantised W0
    Tensor bias;          // [d_out] or undefined
    Update beside;        // what is not in the weight, in the model's type
  };
  Settled settle(const Linear& layer, const AdaptedLayer& adapted, at::ScalarType type, LinearPath path);

  const ActiveUpdates& adapter_;
  std::vector<std::optional<Update>> updates_;   // by Layer::index
  std::vector<std::optional<Settled>> settled_;  // by Layer::index
  std::vector<Tensor> values_;                   // by Parameter::slot
};

}  // namespace deltaw
