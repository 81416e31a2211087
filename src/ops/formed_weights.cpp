#include "ops/formed_weights.h"

#include "core/progress.h"
#include "ops/sum.h"

namespace deltaw {
namespace {

// The machine's memory counts, not what is free of it, so that a run that goes on rounds as it did.
constexpr int64_t kShareOfMemory = 8;

ops::Tensors trained_of(const AdaptedLayer& layer) {
  ops::Tensors trained;
  for (const Param& param : layer.params.all()) {
    if (param.trained) trained.push_back(param.value);
  }
  return trained;
}

}  // namespace

FormedWeights::FormedWeights(const Adapter& adapter, int64_t micro_batches)
    : adapter_(adapter), micro_batches_(micro_batches), layers_(adapter.model().layers().size()) {}

int64_t FormedWeights::bytes(const Adapter& adapter, int64_t tokens, int64_t micro_batches) {
  if (micro_batches <= 1) return 0;
  const at::ScalarType type = adapter.model().dtype();
  int64_t numel = 0;
  for (const AdaptedLayer* layer : adapter.layers()) {
    if (layer->info.kind == LayerKind::embedding || layer->method->acts_on_inputs()) continue;
    ops::Item item;
    item.adapted = layer;
    item.layer = static_cast<const Linear*>(layer->base);
    item.dropout = layer->method->dropout();
    ops::prepared(item, LinearPath::automatic, trained_of(*layer), tokens, micro_batches);
    if (item.folded) numel += layer->info.d_out * layer->info.d_in;
  }
  const size_t of_each = at::elementSize(type) + at::elementSize(at::promote_types(type, at::kFloat));
  const int64_t bytes = numel * static_cast<int64_t>(of_each);
  return bytes <= memory_bytes() / kShareOfMemory ? bytes : 0;
}

ops::Formed* FormedWeights::find(const ops::Item& item, LinearPath path, const ops::Tensors& trained, int64_t tokens) {
  std::optional<ops::Formed>& layer = layers_[item.layer->index];
  if (!layer) layer = ops::formed(item, path, trained, tokens, micro_batches_);
  return layer ? &*layer : nullptr;
}

void FormedWeights::finish() {
  for (std::optional<ops::Formed>& layer : layers_) {
    if (!layer) continue;
    const ops::Tensors trained = trained_of(*layer->item.adapted);
    const ops::Tensors gradients = layer->pull_back(trained);
    for (size_t i = 0; i < trained.size(); ++i) {
      if (gradients[i].defined()) trained[i].mutable_grad() = ops::plus(trained[i].grad(), gradients[i]);
    }
    layer.reset();
  }
}

}  // namespace deltaw
