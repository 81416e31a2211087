#include "ops/gradient_checkpointing.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <algorithm>
#include <unordered_set>

namespace deltaw::ops {
namespace {

using torch::autograd::AccumulateGrad;
using torch::autograd::AutogradContext;
using torch::autograd::Edge;
using torch::autograd::Node;
using torch::autograd::variable_list;

struct Plan : torch::CustomClassHolder {
  Block block;
  Call call;                  // as it stood before the block, its count of masks included
  size_t inputs = 0;          // of the block
  std::vector<size_t> given;  // those that are defined: the function's first inputs
  Tensor output;              // on its way through the function
};

Tensor on_its_own(const Tensor& tensor) {
  return tensor.defined() ? tensor.detach().set_requires_grad(tensor.requires_grad()) : tensor;
}

// The leaves that the output's graph ends in, `inputs` aside. They become inputs of the function: torch then adds up
// their gradients in the order that it would without it, and the output records a gradient even where no input does.
variable_list leaves_behind(const Tensor& output, const variable_list& inputs) {
  variable_list leaves;
  std::unordered_set<const Node*> seen;
  std::vector<Node*> open{output.grad_fn().get()};
  while (!open.empty()) {
    Node* node = open.back();
    open.pop_back();
    if (!node || !seen.insert(node).second) continue;
    if (const auto* end = dynamic_cast<AccumulateGrad*>(node)) {
      const bool is_input =
          std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& input) { return input.is_same(end->variable); });
      if (!is_input) leaves.push_back(end->variable);
    }
    for (const Edge& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return leaves;
}

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  // `tensors`: the block's inputs, undefined ones aside, then the trained leaves.
  static Tensor forward(AutogradContext* ctx, at::TensorList tensors, const c10::intrusive_ptr<Plan>& plan) {
    ctx->save_for_backward(tensors.vec());
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return std::move(plan->output);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*holder);
    variable_list tensors = ctx->get_saved_variables();
    variable_list inputs(plan.inputs);
    for (size_t i = 0; i < plan.given.size(); ++i) inputs[plan.given[i]] = tensors[i] = on_its_own(tensors[i]);

    at::AutoGradMode enabled(true);
    Call call = plan.call;
    const Tensor output = plan.block(inputs, call);
    variable_list wanted;
    std::vector<size_t> places;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!tensors[i].requires_grad()) continue;
      wanted.push_back(tensors[i]);
      places.push_back(i);
    }
    const variable_list found = torch::autograd::grad({output}, wanted, {gradients[0]}, /*retain_graph=*/false,
                                                      /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result(tensors.size() + 1);  // the plan has none
    for (size_t i = 0; i < places.size(); ++i) result[places[i]] = found[i];
    return result;
  }
};

}  // namespace

Tensor checkpointed(const Block& block, const std::vector<Tensor>& inputs, Call& call) {
  if (!call.recompute || !at::GradMode::is_enabled() || call.cache || call.observer) return block(inputs, call);
  auto plan = c10::make_intrusive<Plan>();
  plan->block = block;
  plan->call = call;
  plan->inputs = inputs.size();
  variable_list tensors;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    plan->given.push_back(i);
    tensors.push_back(inputs[i]);
  }
  {
    // Recorded, since some operations take another way where nothing is; the graph ends with this scope.
    variable_list own;
    for (const Tensor& input : inputs) own.push_back(on_its_own(input));
    const Tensor output = block(own, call);
    if (!output.requires_grad()) return output;
    const variable_list leaves = leaves_behind(output, own);
    tensors.insert(tensors.end(), leaves.begin(), leaves.end());
    plan->output = output.detach();
  }
  return Recomputed::apply(at::TensorList(tensors), plan);
}

}  // namespace deltaw::ops
