#include "ops/formed_weights.h"

#include "ops/sum.h"

namespace deltaw {

int64_t FormedWeights::bytes(const ActiveUpdates& adapter, int64_t tokens, int64_t micro_batches) {
  if (micro_batches <= 1) return 0;
  const at::ScalarType type = adapter.model().dtype();
  int64_t bytes = 0;
  for (const AdaptedLayer* layer : adapter.layers()) {
    if (layer->info.kind == LayerKind::embedding || layer->method->acts_on_inputs()) continue;
    const ops::LayerCall own{.adapted = layer,
                             .base = static_cast<const Linear*>(layer->base),
                             .bias = Tensor(),
                             .dropout = layer->method->dropout()};
    bytes += ops::FormedForStep::bytes(
        own, ops::prepared(own, LinearPath::automatic, layer->params.trained(), tokens, micro_batches), type);
  }
  return bytes;
}

ops::FormedForStep* FormedWeights::find(const ops::LayerCall& layer, LinearPath path, const ops::Tensors& trained,
                                        int64_t tokens) {
  const auto [entry, is_new] = layers_.try_emplace(layer.base->index);
  std::optional<ops::FormedForStep>& kept = entry->second;
  if (is_new) kept = ops::FormedForStep::find(layer, path, trained, tokens, micro_batches_);
  return kept ? &*kept : nullptr;
}

void FormedWeights::finish() {
  const at::NoGradGuard no_grad;
  for (const auto& [index, layer] : layers_) {
    if (!layer) continue;
    const ops::Tensors trained = layer->adapted().params.trained();
    const ops::Tensors gradients = layer->pull_back(trained);
    for (size_t i = 0; i < trained.size(); ++i) {
      if (gradients[i].defined()) trained[i].mutable_grad() = ops::plus(trained[i].grad(), gradients[i]);
    }
  }
  layers_.clear();
}

}  // namespace deltaw
