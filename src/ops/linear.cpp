#include "ops/linear.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "ops/activations.h"
#include "ops/fixed_updates.h"
#include "ops/formed_weights.h"
#include "ops/linear_item.h"
#include "ops/quantised.h"
#include "ops/random.h"
#include "ops/row_sums.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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
  FormedWeights* formed = nullptr;         // or none
  const Activation* activation = nullptr;  // of the model, which outlives the pass
  size_t first_trained = 1;                // among the function's inputs: behind x and, where there is one, up
  int64_t saved_h = -1;                    // of the stack

  Input input(const variable_list& saved) const {
    return {saved[0], first_trained == 2 ? saved[1] : Tensor(), activation};
  }
};

// The method's tensors among the function's inputs.
variable_list own_inputs(const Item& item, const variable_list& inputs) {
  const auto first = inputs.begin() + static_cast<int64_t>(item.first_input);
  return {first, first + static_cast<int64_t>(item.params)};
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
      const variable_list trained = own_inputs(item, saved);
      if (plan->formed) item.formed = plan->formed->find(item, plan->path, trained, x.size(0));
      updates.push_back(item.formed ? Update{} : prepared(item, plan->path, trained, x.size(0)));
    }
    plan->saved_h = stack(plan->items, updates, x, saved);
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
    const bool gated = input.up.defined();
    BackwardPass pass{.x = input.value(), .saved = saved};
    pass.needs_dx = ctx->needs_input_grad(0) || (gated && ctx->needs_input_grad(1));
    if (plan.saved_h >= 0) pass.stacked_dh = at::zeros_like(saved[plan.saved_h]);

    size_t inputs = plan.first_trained;
    for (const Item& item : plan.items) inputs += item.params + (item.trains_bias ? 1 : 0);
    variable_list result(inputs + 1);  // the plan is the last argument and has none

    std::vector<std::optional<Replay>> replays(plan.items.size());
    std::vector<Update> updates(plan.items.size()), own(plan.items.size());
    for (size_t i = 0; i < plan.items.size(); ++i) {
      const Item& item = plan.items[i];
      const Tensor& dy = gradients[i];
      if (!item.formed) updates[i] = replays[i].emplace(item, own_inputs(item, saved)).update;
      if (!dy.defined()) continue;
      own[i] = backward_item(dy, item, updates[i], pass);
      if (item.trains_bias) {
        const Tensor& bias = saved[item.first_input + item.params];
        Tensor db = sum_of_rows(dy);
        if (updates[i].gain_on_bias && updates[i].out_gain.defined()) db = db * as(updates[i].out_gain.detach(), db);
        result[item.first_input + item.params] = as(db, bias);
      }
    }
    if (pass.stacked_dh.defined()) backward_stack(plan.items, updates, own, pass);
    for (size_t i = 0; i < plan.items.size(); ++i) {
      if (!gradients[i].defined() || !replays[i]) continue;  // a formed layer's tensors have theirs at the step's end
      const variable_list pulled = replays[i]->pull_back(own[i]);
      std::copy(pulled.begin(), pulled.end(), result.begin() + static_cast<int64_t>(plan.items[i].first_input));
    }
    if (pass.dx.defined() && input.activation) {
      const Activation::Backward through = input.activation->backward(input.x, input.up, pass.dx);
      pass.dx = through.dx;
      if (gated) result[1] = through.dup;
    }
    result[0] = pass.dx;
    return result;
  }
};

Item make_item(const Linear& layer, const AdaptedLayer& adapted, Call& call, variable_list& inputs) {
  Item item;
  item.adapted = &adapted;
  item.layer = &layer;
  item.bias = call.adapter->value(layer.bias);
  const std::vector<Tensor> trained = adapted.params.trained();
  item.first_input = inputs.size();
  item.params = trained.size();
  inputs.insert(inputs.end(), trained.begin(), trained.end());
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
    return at::linear(x, matrix_of(layer.kind, weight), call.fixed->value(layer.bias, x.scalar_type()));
  }
  const Tensor& weight = call.adapter ? call.adapter->value(layer.weight) : layer.weight.value;
  const Tensor& bias = call.adapter ? call.adapter->value(layer.bias) : layer.bias.value;
  const Tensor y = at::linear(x, matrix_of(layer.kind, as(weight, x)), bias.defined() ? as(bias, x) : bias);
  const TrainedTokens* tokens = call.adapter ? call.adapter->tokens(layer.weight) : nullptr;
  return tokens ? y.index_copy(-1, tokens->indices, at::linear(x, as(tokens->rows, x))) : y;
}

// A method that acts on the input: its maps are small products, and plain autograd keeps what they need.
Tensor operator_linear(const Tensor& x, const Linear& layer, const AdaptedLayer& adapted, Call& call) {
  const Update update = adapted.update();
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
  plan->formed = call.formed;
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
