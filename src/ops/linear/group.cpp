#include "ops/linear/group.h"

#include <torch/csrc/autograd/custom_function.h>

#include <utility>
#include <variant>

#include "ops/formed_weights.h"
#include "ops/linear/bias.h"
#include "ops/linear/formed.h"
#include "ops/linear/gains.h"
#include "ops/linear/path.h"
#include "ops/linear/replay.h"
#include "ops/linear/stack.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// How a layer is computed, with what is kept for its backward pass.
using Path = std::variant<GainedSequence, FormedInPass, FormedForStep*>;

// What the node has gradients of; or these gradients.
struct NodeTensors {
  struct OfLayer {
    Tensors trained;             // the method's
    std::optional<Tensor> bias;  // where it trains
  };
  Tensor x;
  std::optional<Tensor> up;
  std::vector<OfLayer> layers;

  template <class Visit>
  void each_tensor(const Visit& visit) {
    visit(x);
    if (up) visit(*up);
    for (OfLayer& layer : layers) {
      for (Tensor& tensor : layer.trained) visit(tensor);
      if (layer.bias) visit(*layer.bias);
    }
  }
};

// Autograd takes and gives tensors as one list: all of an object in turn, and back.
template <class Object>
variable_list listed(Object& object) {
  variable_list list;
  object.each_tensor([&](const Tensor& tensor) { list.push_back(tensor); });
  return list;
}

template <class Object>
void fill(Object& object, const variable_list& list) {
  size_t next = 0;
  object.each_tensor([&](Tensor& tensor) { tensor = list[next++]; });
}

class GroupPass {
 public:
  GroupPass(const Input& input, const std::vector<LayerCall>& layers, LinearPath asked, FormedWeights* formed);

  NodeTensors& inputs() { return inputs_; }
  Tensors forward();
  NodeTensors backward(const variable_list& dy, bool needs_dx);

  // What is kept from pass to pass.
  template <class Visit>
  void each_tensor(const Visit& visit) {
    inputs_.each_tensor(visit);
    visit(stack_.h);
    for (Path& path : paths_) {
      if (auto* sequence = std::get_if<GainedSequence>(&path)) sequence->each_tensor(visit);
    }
  }

 private:
  Input input() const { return {inputs_.x, inputs_.up, activation_}; }
  std::vector<Update> choose_paths(const Tensor& x);

  NodeTensors inputs_;
  const Activation* activation_;
  std::vector<LayerCall> layers_;
  LinearPath asked_;
  FormedWeights* formed_;
  std::vector<Path> paths_;  // by layer
  Stack stack_;
};

GroupPass::GroupPass(const Input& input, const std::vector<LayerCall>& layers, LinearPath asked, FormedWeights* formed)
    : inputs_{.x = input.x, .up = input.up, .layers = {}},
      activation_(input.activation),
      layers_(layers),
      asked_(asked),
      formed_(formed),
      paths_(layers.size()) {
  for (LayerCall& layer : layers_) {
    NodeTensors::OfLayer& own = inputs_.layers.emplace_back();
    own.trained = layer.adapted->params.trained();
    layer.trains_bias = layer.bias.defined() && layer.bias.requires_grad();
    if (layer.trains_bias) own.bias = layer.bias;
    if (layer.bias.defined()) layer.bias = as(layer.bias, input.x).detach();
  }
}

// The layers' updates; none of a layer that is formed for the step, which has its own.
std::vector<Update> GroupPass::choose_paths(const Tensor& x) {
  std::vector<Update> updates(layers_.size());
  std::vector<Stack::Candidate> candidates(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerCall& layer = layers_[i];
    const Tensors& trained = inputs_.layers[i].trained;
    if (FormedForStep* formed = formed_ ? formed_->find(layer, asked_, trained, x.size(0)) : nullptr) {
      paths_[i] = formed;
      continue;
    }
    PreparedLayer own = prepared(layer, asked_, trained, x.size(0));
    if (own.path != LinearPath::sequence) {
      paths_[i] = FormedInPass{.sparse = own.sparse, .mixed = own.path == LinearPath::mixed};
    } else if (own.update.left.defined() && layer.dropout == 0 && !own.update.in_gain.defined()) {
      candidates[i] = {.right = own.update.right, .trains = own.trained.right};  // it reads x as it is
    }
    updates[i] = std::move(own.update);
  }
  stack_ = Stack(candidates);
  return updates;
}

Tensors GroupPass::forward() {
  const ProductInput read(input().value());
  const Tensor& x = read.value();
  const std::vector<Update> updates = choose_paths(x);
  stack_.forward(x, updates);
  Tensors outputs;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (auto* sequence = std::get_if<GainedSequence>(&paths_[i])) {
      outputs.push_back(sequence->forward(layers_[i], updates[i], read, stack_.columns(i)));
    } else if (const auto* formed = std::get_if<FormedInPass>(&paths_[i])) {
      outputs.push_back(formed->forward(layers_[i], updates[i], x));
    } else {
      outputs.push_back(std::get<FormedForStep*>(paths_[i])->forward(x));
    }
  }
  return outputs;
}

NodeTensors GroupPass::backward(const variable_list& dy, bool needs_dx) {
  SharedInput shared{.x = input().value(), .needs_dx = needs_dx};
  stack_.begin_backward();
  NodeTensors result = inputs_;
  std::vector<std::optional<Replay>> replays(layers_.size());
  std::vector<Update> updates(layers_.size()), gradients(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerCall& layer = layers_[i];
    const NodeTensors::OfLayer& own = inputs_.layers[i];
    if (auto* formed = std::get_if<FormedForStep*>(&paths_[i])) {
      (*formed)->backward(dy[i], shared);
    } else {
      updates[i] = replays[i].emplace(*layer.adapted, own.trained).update;
      if (const auto* sequence = std::get_if<GainedSequence>(&paths_[i])) {
        gradients[i] = sequence->backward(dy[i], layer, updates[i], shared, stack_.columns(i));
      } else {
        gradients[i] = std::get<FormedInPass>(paths_[i]).backward(dy[i], layer, updates[i], shared);
      }
    }
    if (own.bias) result.layers[i].bias = as(bias_gradient(dy[i], updates[i]), *own.bias);
  }
  stack_.backward(shared, updates, gradients);
  for (size_t i = 0; i < layers_.size(); ++i) {
    // The tensors of a layer that is formed for the step have theirs at its end.
    const Tensors none(inputs_.layers[i].trained.size());
    result.layers[i].trained = replays[i] ? replays[i]->pull_back(gradients[i]) : none;
  }
  const auto [dx, dup] = input().backward(shared.dx);
  result.x = dx;
  if (result.up) result.up = dup;
  return result;
}

struct Holder : torch::CustomClassHolder {
  explicit Holder(GroupPass own) : pass(std::move(own)) {}
  GroupPass pass;
};

class Node : public torch::autograd::Function<Node> {
 public:
  // `inputs` are the pass's own, in a list for autograd to see. While autograd keeps tensors, the pass lets go of them.
  static variable_list forward(AutogradContext* ctx, at::TensorList /*inputs*/,
                               const c10::intrusive_ptr<Holder>& holder) {
    variable_list outputs = holder->pass.forward();
    const variable_list kept = listed(holder->pass);
    ctx->save_for_backward(kept);
    fill(holder->pass, variable_list(kept.size()));
    ctx->saved_data["pass"] = c10::IValue::make_capsule(holder);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dy) {
    const at::NoGradGuard no_grad;
    const auto holder = ctx->saved_data["pass"].toCapsule();
    GroupPass pass = static_cast<const Holder&>(*holder).pass;
    fill(pass, ctx->get_saved_variables());
    const bool gated = pass.inputs().up.has_value();
    NodeTensors gradients = pass.backward(dy, ctx->needs_input_grad(0) || (gated && ctx->needs_input_grad(1)));
    variable_list list = listed(gradients);
    list.emplace_back();  // of the pass, the last argument
    return list;
  }
};

}  // namespace

Tensors linear_node(const Input& input, const std::vector<LayerCall>& layers, LinearPath path, FormedWeights* formed) {
  const auto holder = c10::make_intrusive<Holder>(GroupPass(input, layers, path, formed));
  const variable_list inputs = listed(holder->pass.inputs());
  return Node::apply(at::TensorList(inputs), holder);
}

}  // namespace deltaw::ops
