#include "ops/linear/replay.h"

#include <torch/csrc/autograd/autograd.h>

#include "ops/sum.h"

namespace deltaw::ops {
namespace {

// The method's map on the given values of its trained tensors.
Update run_map(const AdaptedLayer& layer, const Tensors& trained) {
  std::vector<Param> params = layer.params.all();
  size_t next = 0;
  for (Param& param : params) {
    if (param.trained) param.value = trained[next++];
  }
  return layer.method->update(layer.info, Params(std::move(params)), *layer.base->view);
}

// Of the map's outputs those with a gradient that did not find its leaf at once.
struct Outputs {
  Tensors values, gradients;
};

}  // namespace

Replay::Replay(const AdaptedLayer& layer, const Tensors& trained) {
  const at::AutoGradMode enabled(true);
  for (const Tensor& tensor : trained) leaves.push_back(tensor.detach().requires_grad_());
  update = run_map(layer, leaves);
}

Tensors Replay::pull_back(const Update& gradients) const {
  Tensors result(leaves.size());
  Outputs through;
  const auto add = [&](const Tensor& output, const Tensor& gradient) {
    if (!output.defined() || !gradient.defined() || !output.requires_grad()) return;
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!output.is_same(leaves[i])) continue;
      result[i] = plus(result[i], as(gradient, leaves[i]));
      return;
    }
    through.values.push_back(output);
    through.gradients.push_back(as(gradient, output));
  };
  add(update.left, gradients.left);
  add(update.middle, gradients.middle);
  add(update.right, gradients.right);
  add(update.dense, gradients.dense);
  add(update.bias, gradients.bias);
  add(update.out_gain, gradients.out_gain);
  add(update.in_gain, gradients.in_gain);
  if (through.values.empty()) return result;
  const at::AutoGradMode enabled(true);
  const Tensors pulled = torch::autograd::grad(through.values, leaves, through.gradients, /*retain_graph=*/false,
                                               /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) result[i] = plus(result[i], pulled[i]);
  return result;
}

Update detached(Update update) {
  for (Tensor* tensor :
       {&update.left, &update.middle, &update.right, &update.dense, &update.bias, &update.out_gain, &update.in_gain}) {
    if (tensor->defined()) *tensor = tensor->detach();
  }
  return update;
}

}  // namespace deltaw::ops
