#include "ops/linear.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "ops/activations.h"
#include "ops/fixed_updates.h"
#include "ops/quantised.h"
#include "ops/random.h"
#include "ops/sum.h"
#include "ops/tiles.h"

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
  int64_t h_begin = 0;   // its first column there
  bool stacked = false;  // its right factor is one of the plan's stack
  int64_t saved_z = -1;  // index of the output before its gain, or
  int64_t saved_y = -1;  // of the output, from which the other follows
};

// What the layers of a group read: x, or the value of an activation.
struct Input {
  Tensor x, up;                            // up: undefined where nothing multiplies the activation
  const Activation* activation = nullptr;  // or none

  Tensor value() const { return activation ? activation->value(x, up) : x; }
  Tensor recorded() const {  // by autograd
    if (!activation) return x;
    return up.defined() ? activation->gated(x, up) : (*activation)(x);
  }
  Input in_rows() const {
    const auto rows = [](const Tensor& t) { return t.defined() ? t.reshape({t.numel() / t.size(-1), t.size(-1)}) : t; };
    return {rows(x), rows(up), activation};
  }
};

struct Plan : torch::CustomClassHolder {
  std::vector<Item> items;
  LinearPath path = LinearPath::automatic;
  const Activation* activation = nullptr;  // of the model, which outlives the pass
  size_t first_trained = 1;                // among the function's inputs: behind x and, where there is one, up
  int64_t saved_h = -1;                    // of the stack

  Input input(const variable_list& saved) const {
    return {saved[0], first_trained == 2 ? saved[1] : Tensor(), activation};
  }
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

// What the map says, and the path that follows from it.
Update prepared(Item& item, const Plan& plan, const variable_list& trained, int64_t tokens) {
  const Replay replay(item, trained);  // only to see which outputs train; its graph ends here
  item.folded = choose_folding(item, replay.update, plan, tokens);
  return detached(replay.update);
}

// Factors of layers that read x as it is stand one below the other, so that x is read once for all of them.
bool may_stack(const Item& item, const Update& update) {
  return !item.folded && update.left.defined() && item.dropout == 0 && !update.in_gain.defined();
}

Tensor stacked_right(const std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& like) {
  variable_list rights;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].stacked) rights.push_back(as(updates[i].right.detach(), like));
  }
  return at::cat(rights);
}

void stack(Plan& plan, const std::vector<Update>& updates, const Tensor& x, variable_list& saved) {
  int64_t count = 0;
  for (size_t i = 0; i < updates.size(); ++i) count += may_stack(plan.items[i], updates[i]);
  if (count < 2) return;
  plan.saved_h = static_cast<int64_t>(saved.size());
  int64_t begin = 0;
  for (size_t i = 0; i < updates.size(); ++i) {
    Item& item = plan.items[i];
    if (!may_stack(item, updates[i])) continue;
    item.stacked = true;
    item.saved_h = plan.saved_h;
    item.h_begin = begin;
    begin += updates[i].right.size(0);
  }
  saved.push_back(at::mm(x, stacked_right(plan.items, updates, x).t()));
}

Tensor h_of(const Item& item, const Update& update, const variable_list& saved) {
  return saved[item.saved_h].narrow(1, item.h_begin, update.left.size(1));
}

Tensor scaled_rows(const Tensor& matrix, const Tensor& gain) {
  return matrix * as(gain, matrix).unsqueeze(1);
}

// Whether dividing by the gain gives back what it multiplied. The rows of W then carry it, which are fewer than those
// of x, and the layer's output, kept by whoever reads it, serves the backward pass.
bool can_divide_by(const Tensor& gain, const Tensor& x) {
  const double least = x.scalar_type() == at::kBFloat16 ? 0.5 : 1.0 / 64;
  return gain.numel() > 0 && gain.abs().min().item<double>() >= least;
}

// The update of a layer whose output is multiplied by the gain, as one of the product alone.
Update gain_in_rows(Update update) {
  if (update.left.defined()) update.left = scaled_rows(update.left, update.out_gain);
  if (update.dense.defined()) update.dense = scaled_rows(update.dense, update.out_gain);
  update.out_gain = Tensor();
  return update;
}

// What is added behind the gain.
Tensor bias_behind_gain(const Item& item, const Update& update, const Tensor& like) {
  const Tensor own = update.bias.defined() ? as(update.bias * update.scale, like) : Tensor();
  return update.gain_on_bias ? own : plus(item.bias, own);
}

Tensor forward_item(const Tensor& x, Item& item, const Update& original, variable_list& saved) {
  const Tensor bias = updated_bias(item, original, x);
  const Tensor weight = item.layer->matrix();
  if (item.folded) return at::linear(x, with_gains(folded_weight(weight, original), original), bias);

  const Tensor input = original.in_gain.defined() ? x * as(original.in_gain, x) : x;
  const bool in_rows = original.out_gain.defined() && can_divide_by(original.out_gain, x);
  const Update update = in_rows ? gain_in_rows(original) : original;
  const bool gained = update.out_gain.defined();
  Tensor y = at::linear(input, in_rows ? scaled_rows(weight, original.out_gain) : weight, gained ? Tensor() : bias);
  if (update.left.defined()) {
    if (!item.stacked) {
      item.saved_h = static_cast<int64_t>(saved.size());
      saved.push_back(at::mm(dropped(input, item), as(update.right, x).t()));
    }
    y.addmm_(h_of(item, update, saved), as(update.left, x).t(), 1, update.scale);
  }
  if (update.dense.defined()) y.addmm_(dropped(input, item), as(update.dense, x).t(), 1, update.scale);
  if (in_rows) {
    item.saved_y = static_cast<int64_t>(saved.size());
    saved.push_back(y);
  }
  if (!gained) return y;
  item.saved_z = static_cast<int64_t>(saved.size());
  saved.push_back(y);
  const Tensor out = y * as(update.out_gain, x);
  return plus(out, bias);
}

void add_product_to(Tensor& sum, const Tensor& left, const Tensor& right) {
  if (sum.defined()) {
    sum.addmm_(left, right);
  } else {
    sum = at::mm(left, right);
  }
}

// Gradients of the map's outputs; adds the item's share to dx. Both paths compute the same. Of a stacked item the
// gradient of h goes to the item's columns of `stacked_dh`, and the rest is left to the stack.
Update backward_sequence(const Tensor& x, const Tensor& dy, const Item& item, const Update& original,
                         const variable_list& saved, const Tensor& stacked_dh, Tensor& dx, bool needs_dx) {
  const at::NoGradGuard no_grad;
  Update result;
  Tensor dz = dy;
  const Tensor& gain = original.out_gain;
  const bool in_rows = item.saved_y >= 0;
  const Update update = in_rows ? gain_in_rows(original) : original;
  if (in_rows) {
    const Tensor added = bias_behind_gain(item, original, dy);
    const at::ScalarType wide = gain.scalar_type();
    result.out_gain = (dy * saved[item.saved_y]).sum({0}, false, wide);
    if (added.defined()) result.out_gain.sub_(dy.sum({0}, false, wide).mul_(added));
    result.out_gain.div_(gain);
  } else if (gain.defined()) {
    const Tensor& z = saved[item.saved_z];
    result.out_gain = (dy * (update.gain_on_bias && item.bias.defined() ? z + as(item.bias, z) : z)).sum(0);
    dz = dy * as(gain, dy);
  }
  const bool gained = update.in_gain.defined();
  const bool needs_input = needs_dx || gained;
  Tensor own_dinput;                          // of x * in_gain
  Tensor& dinput = gained ? own_dinput : dx;  // which is x itself where there is no gain
  if (needs_input) {
    const Tensor weight = item.layer->matrix();
    add_product_to(dinput, dz, in_rows ? scaled_rows(weight, gain) : weight);
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
    const Tensor h = h_of(item, update, saved);
    const Tensor dh = at::mm(dz, as(update.left, x)).mul_(update.scale);
    if (original.left.requires_grad()) result.left = thin_product(h, dz).t().mul(update.scale);
    if (item.stacked) {
      stacked_dh.narrow(1, item.h_begin, h.size(1)).copy_(dh);
    } else {
      if (update.right.requires_grad()) result.right = thin_product(dh, adapter_input());
      add_to_input(dh, as(update.right, x));
    }
  }
  if (update.dense.defined()) {
    if (original.dense.requires_grad()) result.dense = at::mm(dz.t(), adapter_input()).mul_(update.scale);
    add_to_input(dz * update.scale, as(update.dense, x));
  }
  if (gained) {
    result.in_gain = (dinput * x).sum(0);
    if (needs_dx) dx = plus(dx, dinput * as(update.in_gain, x));
  }
  if (in_rows) {
    if (result.left.defined()) result.left = scaled_rows(result.left, gain);
    if (result.dense.defined()) result.dense = scaled_rows(result.dense, gain);
  }
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

// What the items of the stack have left: dx, where it is asked for, and the gradients of the right factors.
void backward_stack(const std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& x,
                    const Tensor& dh, std::vector<Update>& own, Tensor& dx) {
  if (dx.defined()) dx.addmm_(dh, stacked_right(items, updates, x));
  bool trains = false;
  for (size_t i = 0; i < items.size(); ++i) trains |= items[i].stacked && updates[i].right.requires_grad();
  if (!trains) return;
  const Tensor dright = thin_product(dh, x);
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].stacked) own[i].right = dright.narrow(0, items[i].h_begin, updates[i].right.size(0));
  }
}

class LinearGroup : public torch::autograd::Function<LinearGroup> {
 public:
  // x [tokens, d_in], up likewise where there is one, then the trained tensors of every item in turn. The value of an
  // activation is not kept.
  static variable_list forward(AutogradContext* ctx, at::TensorList inputs, const c10::intrusive_ptr<Plan>& plan) {
    variable_list saved(inputs.begin(), inputs.end());
    const Tensor x = plan->input(saved).value();
    std::vector<Update> updates;
    for (Item& item : plan->items) {
      const auto own = inputs.begin() + static_cast<int64_t>(item.first_input);
      updates.push_back(prepared(item, *plan, {own, own + static_cast<int64_t>(item.params)}, x.size(0)));
    }
    stack(*plan, updates, x, saved);
    variable_list outputs;
    for (size_t i = 0; i < updates.size(); ++i) outputs.push_back(forward_item(x, plan->items[i], updates[i], saved));
    ctx->save_for_backward(saved);
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*holder);
    const variable_list saved = ctx->get_saved_variables();
    const Input input = plan.input(saved);
    const Tensor x = input.value();
    const bool gated = input.up.defined();
    const bool needs_dx = ctx->needs_input_grad(0) || (gated && ctx->needs_input_grad(1));

    Tensor dx;
    size_t inputs = plan.first_trained;
    for (const Item& item : plan.items) inputs += item.params + (item.trains_bias ? 1 : 0);
    variable_list result(inputs + 1);  // the plan is the last argument and has none

    const Tensor stacked_dh = plan.saved_h < 0 ? Tensor() : at::zeros_like(saved[plan.saved_h]);
    std::vector<Replay> replays;
    std::vector<Update> updates, own(plan.items.size());
    for (size_t i = 0; i < plan.items.size(); ++i) {
      const Item& item = plan.items[i];
      const auto first = saved.begin() + static_cast<int64_t>(item.first_input);
      replays.emplace_back(item, variable_list(first, first + static_cast<int64_t>(item.params)));
      const Update& update = replays.back().update;
      updates.push_back(update);
      const Tensor& dy = gradients[i];
      if (!dy.defined()) continue;
      own[i] = item.folded ? backward_folded(x, dy, item, update, dx, needs_dx)
                           : backward_sequence(x, dy, item, update, saved, stacked_dh, dx, needs_dx);
      if (update.bias.defined()) own[i].bias = dy.sum(0).mul_(update.scale);
      if (item.trains_bias) {
        const Tensor& bias = saved[item.first_input + item.params];
        Tensor db = dy.sum(0);
        if (update.gain_on_bias && update.out_gain.defined()) db = db * as(update.out_gain.detach(), db);
        result[item.first_input + item.params] = as(db, bias);
      }
    }
    if (stacked_dh.defined()) backward_stack(plan.items, updates, x, stacked_dh, own, dx);
    for (size_t i = 0; i < plan.items.size(); ++i) {
      if (!gradients[i].defined()) continue;
      const variable_list pulled = replays[i].pull_back(own[i]);
      std::copy(pulled.begin(), pulled.end(), result.begin() + static_cast<int64_t>(plan.items[i].first_input));
    }
    if (dx.defined() && input.activation) {
      const Activation::Backward through = input.activation->backward(input.x, input.up, dx);
      dx = through.dx;
      if (gated) result[1] = through.dup;
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

bool in_group(const AdaptedLayer& layer, const Call& call) {
  return !layer.method->acts_on_inputs() && !(call.fixed && call.fixed->serves(call));
}

// Layers that no function of ours computes read a value that autograd records.
Tensor alone(const Tensor& x, const Linear& layer, const AdaptedLayer* adapted, Call& call) {
  if (!adapted) {
    Tensor y = plain_linear(x, layer, call);
    if (call.observer) call.observer->see(layer, x, y);
    return y;
  }
  const Tensor rows = Input{.x = x}.in_rows().x;
  const bool fixed = call.fixed && call.fixed->serves(call);
  return fixed ? call.fixed->linear(rows, layer, *adapted, call.path) : operator_linear(rows, layer, *adapted, call);
}

std::vector<Tensor> run_group(const Input& input, const std::vector<const Linear*>& layers, Call& call) {
  auto plan = c10::make_intrusive<Plan>();
  plan->path = call.path;
  plan->activation = input.activation;
  const Input rows = input.in_rows();
  variable_list inputs{rows.x};
  if (rows.up.defined()) inputs.push_back(rows.up);
  plan->first_trained = inputs.size();
  std::vector<Tensor> outputs(layers.size());
  std::vector<size_t> grouped;
  Tensor x;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Linear& layer = *layers[i];
    check_width(input.x, layer);
    const AdaptedLayer* adapted = call.adapter ? call.adapter->layer(layer) : nullptr;
    if (!adapted || !in_group(*adapted, call)) {
      if (!x.defined()) x = input.recorded();
      outputs[i] = alone(x, layer, adapted, call);
      continue;
    }
    grouped.push_back(i);
    Item item = make_item(layer, *adapted, call, inputs);
    if (item.bias.defined()) item.bias = as(item.bias, input.x).detach();
    plan->items.push_back(std::move(item));
  }
  if (!grouped.empty()) {
    const variable_list results = LinearGroup::apply(at::TensorList(inputs), plan);
    for (size_t i = 0; i < grouped.size(); ++i) outputs[grouped[i]] = results[i];
  }
  std::vector<int64_t> shape = input.x.sizes().vec();
  for (Tensor& output : outputs) {
    shape.back() = output.size(-1);
    if (output.sizes() != at::IntArrayRef(shape)) output = output.view(shape);
  }
  return outputs;
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
  return run_group({.x = x}, layers, call);
}

Tensor linear(const Tensor& x, const Linear& layer, Call& call) {
  return run_group({.x = x}, {&layer}, call).front();
}

Tensor activated_linear(const Activation& activation, const Tensor& x, const Tensor& up, const Linear& layer,
                        Call& call) {
  return run_group({.x = x, .up = up, .activation = &activation}, {&layer}, call).front();
}

Tensor mapped_output(const Tensor& output, const Linear& layer, const Call& call) {
  const AdaptedLayer* adapted = call.adapter ? call.adapter->layer(layer) : nullptr;
  return adapted ? adapted->method->map_output(adapted->info, adapted->params, output) : output;
}

}  // namespace deltaw::ops
