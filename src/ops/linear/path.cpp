#include "ops/linear/path.h"

#include <algorithm>

#include "ops/linear/replay.h"
#include "ops/quantised.h"
#include "ops/thin.h"

namespace deltaw::ops {
namespace {

LinearPath chosen(const LayerCall& layer, const PreparedLayer& own, LinearPath asked, int64_t tokens,
                  int64_t micro_batches) {
  const Update& update = own.update;
  if (!has_delta(update) || layer.dropout > 0) return LinearPath::sequence;
  const bool may_mix = !has_gains(update) && !update.dense.defined();
  if (asked != LinearPath::automatic) return asked == LinearPath::mixed && !may_mix ? LinearPath::folded : asked;
  if (update.dense.defined()) return LinearPath::folded;  // it is there, and costs the product with x a second time
  return cheapest_path({.tokens = tokens,
                        .d_in = update.right.size(1),
                        .d_out = update.left.size(0),
                        .k = update.left.size(1),
                        .trains_left = own.trained.left,
                        .trains_right = own.trained.right,
                        .has_gains = has_gains(update),
                        .skips_zeros = static_cast<bool>(own.sparse),
                        .int8_base = layer.base->weight.quantised && layer.base->weight.quantised->in_int8(),
                        .micro_batches = micro_batches});
}

}  // namespace

LinearPath cheapest_path(const LinearCost& c) {
  constexpr double kSparseShare = 0.35;  // of a dense product's time, 1024 x 1024 to 2816 x 1024
  constexpr double kInt8Share = 0.5;     // of a product's time in bf16

  const double factors = static_cast<double>(c.k) * (c.d_in + c.d_out) * c.tokens;
  const double build = static_cast<double>(c.k) * c.d_in * c.d_out * (c.skips_zeros ? kSparseShare : 1);
  // In units of one multiplication and addition. Sequence: both factors forward, both for dx, one more for each
  // factor that trains. Folded: dW = dy^T x, W formed forward and again backward, one product for each trained factor;
  // what several micro-batches share, once for all of them. Mixed: W formed likewise, and dy and x through both
  // factors. A formed W is multiplied in its type: both take longer by what W0 forward and for dx would have saved.
  const double sequence = 2 * factors + static_cast<double>(c.k) * c.tokens *
                                            ((c.trains_left ? c.d_out : 0) + (c.trains_right ? c.d_in : 0));
  const double trained = c.trains_left + c.trains_right;
  const auto builds = [&](double taken_out) {
    return build * (c.micro_batches > 1 ? (1 + taken_out) / static_cast<double>(c.micro_batches) : 2 + taken_out);
  };
  const double product = static_cast<double>(c.tokens) * c.d_in * c.d_out;
  const double unsaved = c.int8_base ? 2 * (1 - kInt8Share) * product : 0;
  const double folded = product + builds(trained) + unsaved;
  const bool may_mix = trained == 1 && c.k > kThin && !c.has_gains && !c.skips_zeros;
  const double mixed = may_mix ? factors + builds(0) + unsaved : folded;
  if (sequence <= std::min(folded, mixed)) return LinearPath::sequence;
  return mixed < folded ? LinearPath::mixed : LinearPath::folded;
}

PreparedLayer prepared(const LayerCall& layer, LinearPath asked, const Tensors& trained, int64_t tokens,
                       int64_t micro_batches) {
  const Update update = Replay(*layer.adapted, trained).update;  // its graph tells what trains, and ends here
  PreparedLayer result;
  result.update = detached(update);
  result.trained = trained_factors(update);
  result.sparse = sparse_factors(update);
  result.path = chosen(layer, result, asked, tokens, micro_batches);
  return result;
}

}  // namespace deltaw::ops
