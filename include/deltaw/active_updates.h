// What the operations of a model see of an adapter.
#pragma once

#include <vector>

#include "deltaw/method.h"
#include "deltaw/model.h"

namespace deltaw {

/// An adapter's part in one layer.
struct AdaptedLayer {
  LayerInfo info;
  const Layer* base = nullptr;
  const Method* method = nullptr;
  Params params;

  /// The method's map of this layer in at most two factors.
  Update update() const { return method->update(info, params, *base->view).in_two_factors(); }
};

/// Rows of an embedding or a head that train while the others stay (PEFT's trainable_token_indices).
struct TrainedTokens {
  Tensor indices;  // [k] int64: which rows
  Tensor rows;     // [k, width]: what stands in their place
  Tensor places;   // [rows of the embedding] int64: where in `rows` each one's stand-in is, or -1
};

/// The update that acts in a pass.
class ActiveUpdates {
 public:
  virtual ~ActiveUpdates() = default;
  virtual const Model& model() const = 0;

  /// The adapted layers in the model's order.
  virtual const std::vector<AdaptedLayer*>& layers() const = 0;
  /// Null for one that is not adapted.
  virtual const AdaptedLayer* layer(const Layer& base) const = 0;

  /// The tensor that stands in for a parameter of the model (modules_to_save, trained biases), or the parameter's own.
  virtual const Tensor& value(const Parameter& parameter) const = 0;
  /// The rows that stand in for some of a parameter's: of an embedding, of a head that is tied to it and has the same,
  /// or of a head that has its own. Null for none.
  virtual const TrainedTokens* tokens(const Parameter& parameter) const = 0;
  /// value() with these rows in place.
  virtual Tensor whole_value(const Parameter& parameter) const = 0;

  /// What stands before every row.
  virtual VirtualTokens virtual_tokens() const = 0;
};

}  // namespace deltaw
