#include "ops/linear.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "ops/fixed_updates.h"
#include "ops/quantised.h"
#include "ops/random.h"
#include "ops/sum.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One linear layer of a group: what its forward pass decided and its backward pass needs again.
struct Item {
  const AdaptedLayer* adapted = nullptr;
  const Linear* layer = nullptr;
  Tensor bias;               // [d_out] or undefined
  size_t first_input = 0;    // of its tensors among the function's inputs
  size_t params = 0;         // trained tensors of the method
  bool trains_bias = false;  // one more input after them
  bool folded = false;
  uint64_t dropout_key = 0;
  double dropout = 0;
  int64_t saved_h = -1;  // index of x right^T among the saved tensors
  int64_t saved_z = -1;  // index of the output before its gain
};

struct Plan : torch::CustomClassHolder {
  std::vector<Item> items;
  LinearPath path = LinearPath::automatic;
};

Tensor as(const Tensor& tensor, const Tensor& like) {
  return tensor.scalar_type() == like.scalar_type() ? tensor : tensor.to(like.scalar_type());
}

// The method's map on the given values of its trained tensors.
Update run_map(const Item& item, const variable_list& trained) {
  const AdaptedLayer& layer = *item.adapted;
  std::vector<Param> params = layer.params.all();
  size_t next = 0;
  for (Param& param : params) {
    if (param.trained) param.value = trained[next++];
  }
  return layer.method->update(layer.info, Params(std::move(params)), *item.layer->view);
}

// The map with its graph, on leaves that stand for the trained tensors.
struct Replay {
  variable_list leaves;
  Update update;

  Replay(const Item& item, const variable_list& trained) {
    at::AutoGradMode enabled(true);
    for (const Tensor& tensor : trained) leaves.push_back(tensor.detach().requires_grad_());
    update = run_map(item, leaves);
  }

  // Gradients of the leaves from those of the outputs; an output that is a leaf costs nothing.
  variable_list pull_back(const Update& gradients) const {
    variable_list result(leaves.size());
    variable_list outputs, output_gradients;
    const auto add = [&](const Tensor& output, const Tensor& gradient) {
      if (!output.defined() || !gradient.defined() || !output.requires_grad()) return;
      for (size_t i = 0; i < leaves.size(); ++i) {
        if (!output.is_same(leaves[i])) continue;
        const Tensor g = as(gradient, leaves[i]);
        result[i] = plus(result[i], g);
        return;
      }
      outputs.push_back(output);
      output_gradients.push_back(as(gradient, output));
    };
    add(update.left, gradients.left);
    add(update.right, gradients.right);
    add(update.dense, gradients.dense);
    add(update.bias, gradients.bias);
    add(update.out_gain, gradients.out_gain);
    add(update.in_gain, gradients.in_gain);
    if (outputs.empty()) return result;
    at::AutoGradMode enabled(true);
    const variable_list pulled = torch::autograd::grad(outputs, leaves, output_gradients, /*retain_graph=*/false,
                                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < leaves.size(); ++i) {
      result[i] = plus(result[i], pulled[i]);
    }
    return result;
  }
};

Update detached(Update update) {
  for (Tensor* tensor : {&update.left, &update.right, &update.dense, &update.bias, &update.out_gain, &update.in_gain}) {
    if (tensor->defined()) *tensor = tensor->detach();
  }
  return update;
}

bool has_delta(const Update& update) {
  return update.left.defined() || update.dense.defined();
}

// scale (left right + dense), in the type the factors have.
Tensor delta(const Update& update) {
  if (!update.left.defined()) return update.dense * update.scale;
  Tensor product = at::mm(update.left, update.right);
  if (update.dense.defined()) product.add_(update.dense);
  return product.mul_(update.scale);
}

// W0 + delta, formed in the wider type and rounded once to W0's.
Tensor folded_weight(const Tensor& weight, const Update& update) {
  if (!has_delta(update)) return weight;
  Tensor change = delta(update);
  return as(change.add_(as(weight, change)), weight);
}

Tensor with_gains(const Tensor& weight, const Update& update) {
  Tensor result = weight;
  if (update.out_gain.defined()) result = result * as(update.out_gain, weight).unsqueeze(1);
  if (update.in_gain.defined()) result = result * as(update.in_gain, weight);
  return result;
}

Tensor updated_bias(const Item& item, const Update& update, const Tensor& like) {
  Tensor bias = item.bias;
  if (bias.defined() && update.out_gain.defined() && update.gain_on_bias) bias = bias * as(update.out_gain, bias);
  if (!update.bias.defined()) return bias;
  const Tensor own = as(update.bias * update.scale, like);
  return plus(bias, own);
}

Tensor dropped(const Tensor& x, const Item& item) {
  return item.dropout > 0 ? x * dropout_mask(x, item.dropout, item.dropout_key) : x;
}

bool choose_folding(const Item& item, const Update& update, const Plan& plan, int64_t tokens) {
  if (!has_delta(update) || item.dropout > 0) return false;
  if (plan.path != LinearPath::automatic) return plan.path == LinearPath::folded;
  if (update.dense.defined()) return true;  // it is there already, and costs the product with x a second time
  return folding_is_cheaper({.tokens = tokens,
                             .d_in = update.right.size(1),
                             .d_out = update.left.size(0),
                             .k = update.left.size(1),
                             .trains_left = update.left.requires_grad(),
                             .trains_right = update.right.requires_grad()});
}

Tensor forward_item(const Tensor& x, Item& item, const Plan& plan, const variable_list& trained, variable_list& saved) {
  Update update;
  {
    const Replay replay(item, trained);  // only to see which outputs train; its graph ends here
    item.folded = choose_folding(item, replay.update, plan, x.size(0));
    update = detached(replay.update);
  }
  const Tensor bias = updated_bias(item, update, x);
  if (item.folded) return at::linear(x, with_gains(folded_weight(item.layer->matrix(), update), update), bias);

  const Tensor input = update.in_gain.defined() ? x * as(update.in_gain, x) : x;
  const bool gained = update.out_gain.defined();
  Tensor y = at::linear(input, item.layer->matrix(), gained ? Tensor() : bias);
  if (update.left.defined()) {
    const Tensor h = at::mm(dropped(input, item), as(update.right, x).t());
    y.addmm_(h, as(update.left, x).t(), 1, update.scale);
    item.saved_h = static_cast<int64_t>(saved.size());
    saved.push_back(h);
  }
  if (update.dense.defined()) y.addmm_(dropped(input, item), as(update.dense, x).t(), 1, update.scale);
  if (!gained) return y;
  item.saved_z = static_cast<int64_t>(saved.size());
  saved.push_back(y);
  const Tensor out = y * as(update.out_gain, x);
  return plus(out, bias);
}

// Gradients of the map's outputs; adds the item's share to dx. Both paths compute the same.
Update backward_sequence(const Tensor& x, const Tensor& dy, const Item& item, const Update& update,
                         const variable_list& saved, Tensor& dx, bool needs_dx) {
  const at::NoGradGuard no_grad;
  Update result;
  Tensor dz = dy;
  if (update.out_gain.defined()) {
    const Tensor& z = saved[item.saved_z];
    result.out_gain = (dy * (update.gain_on_bias && item.bias.defined() ? z + as(item.bias, z) : z)).sum(0);
    dz = dy * as(update.out_gain, dy);
  }
  const bool gained = update.in_gain.defined();
  const bool needs_input = needs_dx || gained;
  Tensor dinput;  // of x * in_gain
  if (needs_input) {
    dinput = at::mm(dz, item.layer->matrix());
  }
  const Tensor mask =
      item.dropout > 0 && has_delta(update) ? dropout_mask(x, item.dropout, item.dropout_key) : Tensor();
  const auto adapter_input = [&] {
    const Tensor input = gained ? x * as(update.in_gain, x) : x;
    return mask.defined() ? input * mask : input;
  };
  const auto add_to_input = [&](const Tensor& gradient, const Tensor& weight) {  // of the adapter's branch
    if (!needs_input) return;
    if (mask.defined()) {
      dinput.add_(at::mm(gradient, weight).mul_(mask));
    } else {
      dinput.addmm_(gradient, weight);
    }
  };
  if (update.left.defined()) {
    const Tensor dh = at::mm(dz, as(update.left, x)).mul_(update.scale);
    if (update.left.requires_grad()) result.left = at::mm(dz.t(), saved[item.saved_h]).mul_(update.scale);
    if (update.right.requires_grad()) result.right = at::mm(dh.t(), adapter_input());
    add_to_input(dh, as(update.right, x));
  }
  if (update.dense.defined()) {
    if (update.dense.requires_grad()) result.dense = at::mm(dz.t(), adapter_input()).mul_(update.scale);
    add_to_input(dz * update.scale, as(update.dense, x));
  }
  if (gained) {
    result.in_gain = (dinput * x).sum(0);
    if (needs_dx) dinput = dinput * as(update.in_gain, x);
  }
  if (needs_dx) dx = dx.defined() ? dx.add_(dinput) : dinput;
  return result;
}

Update backward_folded(const Tensor& x, const Tensor& dy, const Item& item, const Update& update, Tensor& dx,
                       bool needs_dx) {
  const at::NoGradGuard no_grad;
  Update result;
  const Tensor raw = folded_weight(item.layer->matrix(), detached(update));
  if (needs_dx) {
    const Tensor weight = with_gains(raw, detached(update));
    if (dx.defined()) {
      dx.addmm_(dy, weight);
    } else {
      dx = at::mm(dy, weight);
    }
  }
  const Tensor dweight = as(at::mm(dy.t(), x), update.left.defined() ? update.left : update.dense);
  Tensor draw = dweight;
  if (update.out_gain.defined()) {
    const Tensor with_in = update.in_gain.defined() ? as(raw, dweight) * as(update.in_gain, dweight) : as(raw, dweight);
    result.out_gain = (dweight * with_in).sum(1);
    if (update.gain_on_bias && item.bias.defined()) result.out_gain += (dy * as(item.bias, dy)).sum(0);
    draw = draw * as(update.out_gain, draw).unsqueeze(1);
  }
  if (update.in_gain.defined()) {
    result.in_gain = (draw * as(raw, draw)).sum(0);
    draw = draw * as(update.in_gain, draw);
  }
  if (update.left.defined() && update.left.requires_grad())
    result.left = at::mm(draw, update.right.t()).mul_(update.scale);
  if (update.right.defined() && update.right.requires_grad())
    result.right = at::mm(update.left.t(), draw).mul_(update.scale);
  if (update.dense.defined() && update.dense.requires_grad()) result.dense = draw * update.scale;
  return result;
}

class LinearGroup : public torch::autograd::Function<LinearGroup> {
 public:
  // x [tokens, d_in]; `trained` holds the trained tensors of every item in turn.
  static variable_list forward(AutogradContext* ctx, const Tensor& x, at::TensorList trained,
                               const c10::intrusive_ptr<Plan>& plan) {
    variable_list saved{x};
    saved.insert(saved.end(), trained.begin(), trained.end());
    variable_list outputs;
    for (Item& item : plan->items) {
      const variable_list own(trained.begin() + item.first_input, trained.begin() + item.first_input + item.params);
      outputs.push_back(forward_item(x, item, *plan, own, saved));
    }
    ctx->save_for_backward(saved);
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*holder);
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& x = saved[0];
    const bool needs_dx = ctx->needs_input_grad(0);

    variable_list result(1);  // dx first
    Tensor dx;
    size_t inputs = 0;
    for (const Item& item : plan.items) inputs += item.params + (item.trains_bias ? 1 : 0);
    result.resize(1 + inputs + 1);  // the plan is the last argument and has none

    for (size_t i = 0; i < plan.items.size(); ++i) {
      const Item& item = plan.items[i];
      const Tensor& dy = gradients[i];
      if (!dy.defined()) continue;
      const auto first = saved.begin() + 1 + static_cast<int64_t>(item.first_input);
      const Replay replay(item, {first, first + static_cast<int64_t>(item.params)});
      const Update& update = replay.update;
      Update own = item.folded ? backward_folded(x, dy, item, update, dx, needs_dx)
                               : backward_sequence(x, dy, item, update, saved, dx, needs_dx);
      if (update.bias.defined()) own.bias = dy.sum(0).mul_(update.scale);
      const variable_list pulled = replay.pull_back(own);
      std::copy(pulled.begin(), pulled.end(), result.begin() + 1 + static_cast<int64_t>(item.first_input));
      if (item.trains_bias) {
        const Tensor& bias = saved[1 + item.first_input + item.params];
        Tensor db = dy.sum(0);
        if (update.gain_on_bias && update.out_gain.defined()) db = db * as(update.out_gain.detach(), db);
        result[1 + item.first_input + item.params] = as(db, bias);
      }
    }
    result[0] = dx;
    return result;
  }
};

Item make_item(const Linear& layer, const AdaptedLayer& adapted, Call& call, variable_list& inputs) {
  Item item;
  item.adapted = &adapted;
  item.layer = &layer;
  item.bias = call.adapter->value(layer.bias);
  item.first_input = inputs.size();
  for (const Param& param : adapted.params.all()) {
    if (param.trained) inputs.push_back(param.value);
  }
  item.params = inputs.size() - item.first_input;
  item.dropout = call.training ? adapted.method->dropout() : 0;
  if (item.dropout > 0) item.dropout_key = call.next_key();
  item.trains_bias = item.bias.defined() && item.bias.requires_grad();
  if (item.trains_bias) inputs.push_back(item.bias);
  return item;
}

void check_width(const Tensor& x, const Linear& layer) {
  const int64_t d_in = layer.view->d_in();
  if (x.dim() >= 1 && x.size(-1) == d_in) return;
  throw Error({.id = "shape.mismatch",
               .what = fmt::format("the input is {} wide, the layer takes {}", x.dim() ? x.size(-1) : 0, d_in),
               .where = layer.name,
               .fix = "check the sizes in config.json against the checkpoint's tensors"});
}

Tensor plain_linear(const Tensor& x, const Linear& layer, const Call& call) {
  if (layer.weight.quantised) {  // which nothing stands in for
    return quantised_linear(x, layer.weight.quantised,
                            call.adapter ? call.adapter->value(layer.bias) : layer.bias.value);
  }
  if (call.fixed && call.fixed->serves(call)) {
    const Tensor weight = call.fixed->value(layer.weight, x.scalar_type());
    return at::linear(x, turned(layer.kind, weight), call.fixed->value(layer.bias, x.scalar_type()));
  }
  const Tensor& weight = call.adapter ? call.adapter->value(layer.weight) : layer.weight.value;
  const Tensor& bias = call.adapter ? call.adapter->value(layer.bias) : layer.bias.value;
  const Tensor y = at::linear(x, turned(layer.kind, as(weight, x)), bias.defined() ? as(bias, x) : bias);
  const TrainedTokens* tokens = call.adapter ? call.adapter->tokens(layer.weight) : nullptr;
  return tokens ? y.index_copy(-1, tokens->indices, at::linear(x, as(tokens->rows, x))) : y;
}

// A method that acts on the input: its maps are small products, and plain autograd keeps what they need.
Tensor operator_linear(const Tensor& x, const Linear& layer, const AdaptedLayer& adapted, Call& call) {
  const Update update = adapted.method->update(adapted.info, adapted.params, *layer.view);
  const double p = call.training ? adapted.method->dropout() : 0;
  const Tensor input = update.before ? update.before(x) : x;
  const Tensor& bias = call.adapter->value(layer.bias);
  const Tensor y = layer.weight.quantised ? quantised_linear(input, layer.weight.quantised, bias)
                                          : at::linear(input, layer.matrix(), bias.defined() ? as(bias, x) : bias);
  if (!update.beside) return y;
  const Tensor dropped = p > 0 ? x * dropout_mask(x, p, call.next_key()) : x;
  return y + update.beside(dropped) * update.scale;
}

}  // namespace

Tensor updated_weight(const Update& update, const Tensor& weight) {
  Tensor result = with_gains(folded_weight(weight, update), update);
  const auto identity = [&] { return at::eye(weight.size(1), weight.options()); };
  if (update.before) result = at::mm(result, update.before(identity()).t());
  if (update.beside) result = result + update.beside(identity()).t() * update.scale;
  return result;
}

bool folding_is_cheaper(const LinearCost& c) {
  const double factors = static_cast<double>(c.k) * (c.d_in + c.d_out) * c.tokens;
  const double build = static_cast<double>(c.k) * c.d_in * c.d_out;
  // In units of one multiplication and addition. Sequence: both factors forward, both for dx, one more for each
  // factor that trains. Folded: W formed forward and again backward, dW = dy^T x, one product for each trained factor.
  const double sequence = 2 * factors + static_cast<double>(c.k) * c.tokens *
                                            ((c.trains_left ? c.d_out : 0) + (c.trains_right ? c.d_in : 0));
  const double folded = static_cast<double>(c.tokens) * c.d_in * c.d_out + (2 + c.trains_left + c.trains_right) * build;
  return folded < sequence;
}

std::vector<Tensor> linear_group(const Tensor& x, const std::vector<const Linear*>& layers, Call& call) {
  auto plan = c10::make_intrusive<Plan>();
  plan->path = call.path;
  variable_list inputs;
  std::vector<Tensor> outputs(layers.size());
  std::vector<size_t> adapted;
  for (size_t i = 0; i < layers.size(); ++i) {
    check_width(x, *layers[i]);
    const AdaptedLayer* layer = call.adapter ? call.adapter->layer(*layers[i]) : nullptr;
    if (!layer) {
      outputs[i] = plain_linear(x, *layers[i], call);
      if (call.observer) call.observer->see(*layers[i], x, outputs[i]);
      continue;
    }
    const bool fixed = call.fixed && call.fixed->serves(call);
    if (fixed || layer->method->acts_on_inputs()) {
      const Tensor rows = x.reshape({x.numel() / x.size(-1), x.size(-1)});
      std::vector<int64_t> shape = x.sizes().vec();
      shape.back() = layer->info.d_out;
      const Tensor y = fixed ? call.fixed->linear(rows, *layers[i], *layer, call.path)
                             : operator_linear(rows, *layers[i], *layer, call);
      outputs[i] = y.view(shape);
      continue;
    }
    adapted.push_back(i);
    plan->items.push_back(make_item(*layers[i], *layer, call, inputs));
    if (plan->items.back().bias.defined()) plan->items.back().bias = as(plan->items.back().bias, x).detach();
  }
  if (adapted.empty()) return outputs;
  const Tensor rows = x.reshape({x.numel() / x.size(-1), x.size(-1)});
  const variable_list results = LinearGroup::apply(rows, at::TensorList(inputs), plan);
  std::vector<int64_t> shape = x.sizes().vec();
  for (size_t i = 0; i < adapted.size(); ++i) {
    shape.back() = results[i].size(1);
    outputs[adapted[i]] = results[i].view(shape);
  }
  return outputs;
}

Tensor mapped_output(const Tensor& output, const Linear& layer, const Call& call) {
  const AdaptedLayer* adapted = call.adapter ? call.adapter->layer(layer) : nullptr;
  return adapted ? adapted->method->map_output(adapted->info, adapted->params, output) : output;
}

Tensor linear(const Tensor& x, const Linear& layer, Call& call) {
  return linear_group(x, {&layer}, call).front();
}

}  // namespace deltaw::ops
