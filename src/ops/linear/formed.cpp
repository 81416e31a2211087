#include "ops/linear/formed.h"

#include "ops/linear/replay.h"

namespace deltaw::ops {
namespace {

FactorSums no_sums(bool mixed, const LayerCall& layer, const Update& update, const TrainedFactors& trained) {
  if (mixed) return MixedSums(layer, update, trained);
  return FoldedSums(layer, update);
}

// Of the map's outputs. `type` is W's.
Update gradients_of(const FactorSums& sums, const LayerCall& layer, const Update& update, const SparseFactors& sparse,
                    at::ScalarType type) {
  if (const auto* mixed = std::get_if<MixedSums>(&sums)) return mixed->gradients(update);
  return std::get<FoldedSums>(sums).gradients(layer, update, sparse, type);
}

void add_pass(FactorSums& sums, const Tensor& dy, SharedInput& input) {
  std::visit([&](auto& own) { own.add(dy, input); }, sums);
}

}  // namespace

Tensor FormedInPass::forward(const LayerCall& layer, const Update& update, const Tensor& x) const {
  return at::linear(x, formed_weight(layer.weight(), update, sparse), updated_bias(layer, update, x));
}

Update FormedInPass::backward(const Tensor& dy, const LayerCall& layer, const Update& update,
                              SharedInput& input) const {
  if (input.needs_dx) add_product_to(input.dx, dy, formed_weight(layer.weight(), update, sparse));
  FactorSums sums = no_sums(mixed, layer, update, trained_factors(update));
  add_pass(sums, dy, input);
  return gradients_of(sums, layer, update, sparse, dy.scalar_type());
}

std::optional<FormedForStep> FormedForStep::find(const LayerCall& layer, LinearPath asked, const Tensors& trained,
                                                 int64_t tokens, int64_t micro_batches) {
  const PreparedLayer own = prepared(layer, asked, trained, tokens, micro_batches);
  // A trained bias under a gain asks for the gain in every pass.
  if (own.path == LinearPath::sequence || (layer.trains_bias && own.update.gain_on_bias)) return std::nullopt;
  return FormedForStep(layer, own);
}

FormedForStep::FormedForStep(const LayerCall& layer, const PreparedLayer& prepared)
    : layer_(layer),
      sparse_(prepared.sparse),
      sums_(no_sums(prepared.path == LinearPath::mixed, layer, prepared.update, prepared.trained)) {
  const Tensor W0 = layer.weight();
  weight_ = formed_weight(W0, prepared.update, sparse_);
  bias_ = updated_bias(layer, prepared.update, W0);
  std::visit([&](auto& own) { own.begin(weight_, prepared.update); }, sums_);
}

int64_t FormedForStep::bytes(const LayerCall& layer, const PreparedLayer& prepared, at::ScalarType type) {
  if (prepared.path == LinearPath::sequence) return 0;
  const LayerInfo& info = layer.adapted->info;
  const Update& update = prepared.update;
  const int64_t numel = info.d_out * info.d_in;
  // Mixed, for each factor that trains: its gradient's sum, and the other one.
  const int64_t sums = prepared.path == LinearPath::mixed ? (prepared.trained.left + prepared.trained.right) *
                                                                (update.left.numel() + update.right.numel())
                                                          : numel;
  return numel * static_cast<int64_t>(at::elementSize(type)) +
         sums * static_cast<int64_t>(at::elementSize(type_of_factors(update)));
}

void FormedForStep::backward(const Tensor& dy, SharedInput& input) {
  add_pass(sums_, dy, input);
  if (input.needs_dx) add_product_to(input.dx, dy, weight_);
}

Tensors FormedForStep::pull_back(const Tensors& trained) const {
  const Replay replay(*layer_.adapted, trained);
  return replay.pull_back(gradients_of(sums_, layer_, replay.update, sparse_, weight_.scalar_type()));
}

}  // namespace deltaw::ops
