#include "ops/linear_item.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "ops/linear.h"
#include "ops/random.h"
#include "ops/row_sums.h"
#include "ops/sum.h"
#include "ops/thin.h"

namespace deltaw::ops {
namespace {

// The method's map on the given values of its trained tensors.
Update run_map(const Item& item, const Tensors& trained) {
  const AdaptedLayer& layer = *item.adapted;
  std::vector<Param> params = layer.params.all();
  size_t next = 0;
  for (Param& param : params) {
    if (param.trained) param.value = trained[next++];
  }
  return layer.method->update(layer.info, Params(std::move(params)), *item.layer->view);
}

Update detached(Update update) {
  for (Tensor* tensor :
       {&update.left, &update.middle, &update.right, &update.dense, &update.bias, &update.out_gain, &update.in_gain}) {
    if (tensor->defined()) *tensor = tensor->detach();
  }
  return update;
}

bool has_delta(const Update& update) {
  return update.left.defined() || update.dense.defined();
}

Tensor scaled_rows(const Tensor& matrix, const Tensor& gain) {
  return matrix * as(gain, matrix).unsqueeze(1);
}

// matrix diag(gain), for a gain that may be undefined.
Tensor in_columns(const Tensor& matrix, const Tensor& gain) {
  return gain.defined() ? matrix * as(gain, matrix) : matrix;
}

SparseFactors sparse_factors(const Update& update) {
  SparseFactors found;
  if (!update.left.defined() || update.middle.defined()) return found;
  if (!update.left.requires_grad()) found.left = SignMatrix::find(update.left);
  if (!update.right.requires_grad()) found.turned_right = SignMatrix::find(update.right.t());
  return found;
}

// left right in the type that W has, whose rounding loses more than that of the factors.
Tensor product_in(at::ScalarType type, const Tensor& left, const Tensor& right) {
  return at::mm(left.to(type), right.to(type));
}

// left diag(middle) right.
Tensor product(const Update& update, const SparseFactors& sparse, at::ScalarType type) {
  if (sparse.left) return sparse.left->times(update.right);
  if (sparse.turned_right) return sparse.turned_right->times(update.left.t()).t();
  return product_in(type, in_columns(update.left, update.middle), update.right).to(update.left.scalar_type());
}

// scale (left right + dense), in the type the factors have; `type` is W's.
Tensor delta(const Update& update, const SparseFactors& sparse, at::ScalarType type) {
  if (!update.left.defined()) return update.dense * update.scale;
  Tensor sum = product(update, sparse, type);
  if (update.dense.defined()) sum.add_(update.dense);
  return sum.mul_(update.scale);
}

// W0 + delta, summed in the wider type and rounded once to W0's, as the factors are before.
Tensor folded_weight(const Tensor& weight, const Update& update, const SparseFactors& sparse = {}) {
  if (!has_delta(update)) return weight;
  if (update.left.defined() && !update.dense.defined() && !sparse.left && !sparse.turned_right) {
    const Tensor left = in_columns(update.left, update.middle);
    return at::addmm(weight, as(left, weight), as(update.right, weight), 1, update.scale);
  }
  Tensor change = delta(update, sparse, weight.scalar_type());
  return as(change.add_(as(weight, change)), weight);
}

Tensor with_gains(const Tensor& weight, const Update& update) {
  return in_columns(update.out_gain.defined() ? scaled_rows(weight, update.out_gain) : weight, update.in_gain);
}

Tensor own_bias(const Update& update, const Tensor& like) {
  return update.bias.defined() ? as(update.bias * update.scale, like) : update.bias;
}

Tensor updated_bias(const Item& item, const Update& update, const Tensor& like) {
  Tensor bias = item.bias;
  if (bias.defined() && update.out_gain.defined() && update.gain_on_bias) bias = bias * as(update.out_gain, bias);
  return plus(bias, own_bias(update, like));
}

Tensor dropped(const Tensor& x, const Item& item) {
  return item.dropout > 0 ? x * dropout_mask(x, item.dropout, item.dropout_key) : x;
}

// Of W the gradients of both are one product.
bool trains_left_or_middle(const Update& update) {
  return update.left.requires_grad() || (update.middle.defined() && update.middle.requires_grad());
}

bool has_gains(const Update& update) {
  return update.out_gain.defined() || update.in_gain.defined();
}

LinearPath choose_path(const Item& item, const Update& update, LinearPath path, int64_t tokens, int64_t micro_batches) {
  if (!has_delta(update) || item.dropout > 0) return LinearPath::sequence;
  const bool may_mix = !has_gains(update) && !update.dense.defined();
  if (path != LinearPath::automatic) return path == LinearPath::mixed && !may_mix ? LinearPath::folded : path;
  if (update.dense.defined()) return LinearPath::folded;  // it is there, and costs the product with x a second time
  return cheapest_path({.tokens = tokens,
                        .d_in = update.right.size(1),
                        .d_out = update.left.size(0),
                        .k = update.left.size(1),
                        .trains_left = item.trains_left,
                        .trains_right = item.trains_right,
                        .has_gains = has_gains(update),
                        .skips_zeros = item.sparse.left || item.sparse.turned_right,
                        .micro_batches = micro_batches});
}

bool same_matrix(const Tensor& a, const Tensor& b) {
  return a.const_data_ptr() == b.const_data_ptr() && a.sizes() == b.sizes() && a.strides() == b.strides();
}

// A stacked item before the i-th that has its right factor, which is frozen; or null.
const Item* earlier_twin(const std::vector<Item>& items, const std::vector<Update>& updates, size_t i) {
  for (size_t j = 0; j < i && !items[i].trains_right; ++j) {
    if (items[j].stacked && !items[j].trains_right && same_matrix(updates[i].right, updates[j].right)) return &items[j];
  }
  return nullptr;
}

bool may_stack(const Item& item, const Update& update) {
  return !item.folded && update.left.defined() && item.dropout == 0 && !update.in_gain.defined();
}

Tensor stacked_right(const std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& like) {
  Tensors rights;
  int64_t begin = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].stacked || items[i].h_begin < begin) continue;  // an earlier item's
    rights.push_back(as(updates[i].right.detach(), like));
    begin += updates[i].right.size(0);
  }
  return rights.size() == 1 ? rights[0] : at::cat(rights);
}

Tensor h_of(const Item& item, const Update& update, const Tensors& saved) {
  return saved[item.saved_h].narrow(1, item.h_begin, update.left.size(1));
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
  const Tensor own = own_bias(update, like);
  return update.gain_on_bias ? own : plus(item.bias, own);
}

// scale left^T without the middle gain, [k, d_out].
Tensor turned_left(const Update& update, const Tensor& like) {
  return as((update.left.detach() * update.scale).t(), like).contiguous();
}

// The sum may be of a wider type.
void add_product_to(Tensor& sum, const Tensor& left, const Tensor& right) {
  if (!sum.defined()) {
    sum = at::mm(left, right);
  } else if (sum.scalar_type() == left.scalar_type()) {
    sum.addmm_(left, right);
  } else {
    sum.add_(at::mm(left, right));
  }
}

Update backward_sequence(const Tensor& dy, const Item& item, const Update& original, BackwardPass& pass) {
  const at::NoGradGuard no_grad;
  const Tensor& x = pass.x;
  const Tensors& saved = pass.saved;
  Update result;
  Tensor dz = dy;
  const Tensor& gain = original.out_gain;
  const bool in_rows = item.saved_y >= 0;
  const Update update = in_rows ? gain_in_rows(original) : original;
  if (in_rows) {
    const Tensor added = bias_behind_gain(item, original, dy);
    result.out_gain = sum_of_products(dy, saved[item.saved_y]);
    if (added.defined()) result.out_gain.sub_(sum_of_rows(dy).mul_(added));
    result.out_gain.div_(gain);
  } else if (gain.defined()) {
    const Tensor& z = saved[item.saved_z];
    result.out_gain = sum_of_products(dy, update.gain_on_bias && item.bias.defined() ? z + as(item.bias, z) : z);
    dz = dy * as(gain, dy);
  }
  const bool gained = update.in_gain.defined();
  const bool needs_input = pass.needs_dx || gained;
  Tensor own_dinput;                               // of x * in_gain
  Tensor& dinput = gained ? own_dinput : pass.dx;  // which is x itself where there is no gain
  const Tensor mask =
      item.dropout > 0 && has_delta(update) ? dropout_mask(x, item.dropout, item.dropout_key) : Tensor();
  const auto adapter_input = [&] {
    const Tensor input = gained ? x * as(update.in_gain, x) : x;
    return mask.defined() ? input * mask : input;
  };
  // The thin products come first: the general one adds to what they leave as it writes.
  if (update.left.defined()) {
    const Tensor h = h_of(item, update, saved), turned = turned_left(update, x);
    Tensor dh;
    if (original.left.requires_grad()) {
      const ThinAndFactor both = thin_and_factor_of(dz, turned, h);
      dh = both.thin;
      result.left = in_columns(both.factor.t(), update.middle) * update.scale;
    } else {
      dh = thin_of(dz, turned);
    }
    if (update.middle.defined()) {
      if (update.middle.requires_grad()) result.middle = sum_of_products(dh, h);
      dh = in_columns(dh, update.middle);
    }
    if (item.stacked) {
      pass.stacked_dh.narrow(1, item.h_begin, h.size(1)).add_(dh);
    } else {
      const Tensor right = as(update.right, x);
      if (update.right.requires_grad()) result.right = factor_of(dh, adapter_input());
      if (needs_input && mask.defined()) {
        dinput = plus(dinput, wide_of(dh, right).mul_(mask));
      } else if (needs_input && dinput.defined()) {
        add_wide(dinput, dh, right);
      } else if (needs_input) {
        dinput = wide_of(dh, right);
      }
    }
  }
  if (needs_input) {
    const Tensor weight = item.layer->matrix();
    add_product_to(dinput, dz, in_rows ? scaled_rows(weight, gain) : weight);
  }
  if (update.dense.defined()) {
    if (original.dense.requires_grad()) result.dense = at::mm(dz.t(), adapter_input()).mul_(update.scale);
    if (needs_input && mask.defined()) {
      dinput.add_(at::mm(dz * update.scale, as(update.dense, x)).mul_(mask));
    } else if (needs_input) {
      dinput.addmm_(dz, as(update.dense, x), 1, update.scale);
    }
  }
  if (gained) {
    result.in_gain = sum_of_products(dinput, x);
    if (pass.needs_dx) pass.dx = plus(pass.dx, dinput * as(update.in_gain, x));
  }
  if (in_rows) {
    if (result.left.defined()) result.left = scaled_rows(result.left, gain);
    if (result.dense.defined()) result.dense = scaled_rows(result.dense, gain);
  }
  return result;
}

at::ScalarType type_of_factors(const Update& update) {
  return update.left.defined() ? update.left.scalar_type() : update.dense.scalar_type();
}

// Gradients of the map's outputs from sums; `type` is W's.
Update folded_gradients(const Item& item, const Update& update, at::ScalarType type, const FoldedSums& sums) {
  const at::NoGradGuard no_grad;
  const at::ScalarType own = type_of_factors(update);
  Update result;
  Tensor draw = sums.weight;  // of W without its gains
  if (has_gains(update)) {
    const Tensor dweight = sums.weight.to(own);
    draw = dweight;
    const Tensor raw = as(folded_weight(item.layer->matrix(), detached(update), item.sparse), dweight);
    if (update.out_gain.defined()) {
      result.out_gain = (dweight * (update.in_gain.defined() ? raw * as(update.in_gain, raw) : raw)).sum(1);
      if (update.gain_on_bias && item.bias.defined()) result.out_gain += sums.rows * as(item.bias, sums.rows);
      draw = scaled_rows(draw, update.out_gain);
    }
    if (update.in_gain.defined()) {
      result.in_gain = (draw * raw).sum(0);
      draw = draw * as(update.in_gain, draw);
    }
  }
  if (item.trains_left) {
    const auto& sparse = item.sparse.turned_right;
    Tensor dproduct = item.mixed ? sums.left
                      : sparse   ? sparse->transpose_times(draw.to(own).t()).t()
                                 : product_in(type, draw, update.right.t());
    dproduct = dproduct.to(own).mul(update.scale);
    if (update.middle.defined()) result.middle = (dproduct * update.left).sum(0);
    result.left = in_columns(dproduct, update.middle);
  }
  if (item.trains_right) {
    const auto& sparse = item.sparse.left;
    const Tensor dright = item.mixed ? sums.right
                          : sparse   ? sparse->transpose_times(draw.to(own))
                                     : product_in(type, in_columns(update.left, update.middle).t(), draw);
    result.right = dright.to(own).mul(update.scale);
  }
  if (update.dense.defined() && update.dense.requires_grad()) result.dense = draw.to(own).mul(update.scale);
  if (update.bias.defined()) result.bias = sums.rows * update.scale;
  return result;
}

Update backward_folded(const Tensor& dy, const Item& item, const Update& update, BackwardPass& pass) {
  const at::NoGradGuard no_grad;
  const Update own = detached(update);
  if (pass.needs_dx) {
    add_product_to(pass.dx, dy, with_gains(folded_weight(item.layer->matrix(), own, item.sparse), own));
  }
  FoldedSums sums;
  sums.add(item, own, dy, pass);
  return folded_gradients(item, update, dy.scalar_type(), sums);
}

}  // namespace

Replay::Replay(const Item& item, const Tensors& trained) {
  const at::AutoGradMode enabled(true);
  for (const Tensor& tensor : trained) leaves.push_back(tensor.detach().requires_grad_());
  update = run_map(item, leaves);
}

Tensors Replay::pull_back(const Update& gradients) const {
  Tensors result(leaves.size());
  Tensors outputs, output_gradients;
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
  add(update.middle, gradients.middle);
  add(update.right, gradients.right);
  add(update.dense, gradients.dense);
  add(update.bias, gradients.bias);
  add(update.out_gain, gradients.out_gain);
  add(update.in_gain, gradients.in_gain);
  if (outputs.empty()) return result;
  at::AutoGradMode enabled(true);
  const Tensors pulled = torch::autograd::grad(outputs, leaves, output_gradients, /*retain_graph=*/false,
                                               /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) {
    result[i] = plus(result[i], pulled[i]);
  }
  return result;
}

Update prepared(Item& item, LinearPath path, const Tensors& trained, int64_t tokens, int64_t micro_batches) {
  const Replay replay(item, trained);  // only to see which outputs train; its graph ends here
  const Update& update = replay.update;
  item.sparse = sparse_factors(update);
  item.trains_left = update.left.defined() && trains_left_or_middle(update);
  item.trains_right = update.right.defined() && update.right.requires_grad();
  item.sums_dy = update.bias.defined() || (update.gain_on_bias && item.bias.defined());
  const LinearPath own = choose_path(item, update, path, tokens, micro_batches);
  item.folded = own != LinearPath::sequence;
  item.mixed = own == LinearPath::mixed;
  return detached(update);
}

Tensor BackwardPass::times_right(const Tensor& right) {
  for (const auto& [known, product] : products) {
    if (same_matrix(known, right)) return product;
  }
  products.emplace_back(right, thin_of(x, as(right, x)));
  return products.back().second;
}

void FoldedSums::add(const Item& item, const Update& update, const Tensor& dy, BackwardPass& pass) {
  if (item.sums_dy) rows = plus(rows, sum_of_rows(dy));
  if (!item.mixed) add_product_to(weight, dy.t(), pass.x);
  if (item.mixed && item.trains_left) add_product_to(left, dy.t(), pass.times_right(update.right));
  if (item.mixed && item.trains_right) {
    add_product_to(right, at::mm(dy, as(in_columns(update.left, update.middle), dy)).t(), pass.x);
  }
}

std::optional<Formed> formed(Item item, LinearPath path, const Tensors& trained, int64_t tokens,
                             int64_t micro_batches) {
  const Update update = prepared(item, path, trained, tokens, micro_batches);
  if (!item.folded || (item.trains_bias && update.gain_on_bias)) return std::nullopt;
  const Tensor weight = item.layer->matrix();
  Formed result;
  result.weight = with_gains(folded_weight(weight, update, item.sparse), update);
  result.bias = updated_bias(item, update, weight);
  const auto zeros = [&](at::IntArrayRef sizes) {
    return at::zeros(sizes, weight.options().dtype(type_of_factors(update)));
  };
  if (!item.mixed) result.sums.weight = zeros(weight.sizes());
  if (item.mixed && item.trains_left) {
    result.sums.left = zeros(update.left.sizes());
    result.factors.right = update.right;
  }
  if (item.mixed && item.trains_right) {
    result.sums.right = zeros(update.right.sizes());
    result.factors.left = update.left;
    result.factors.middle = update.middle;
  }
  result.item = std::move(item);
  return result;
}

int64_t bytes_if_formed(const Item& item, const Update& update, at::ScalarType type) {
  const LayerInfo& layer = item.adapted->info;
  const int64_t numel = layer.d_out * layer.d_in;
  // Mixed, for each factor that trains: its gradient's sum, and the other one.
  const int64_t sums =
      item.mixed ? (item.trains_left + item.trains_right) * (update.left.numel() + update.right.numel()) : numel;
  return numel * static_cast<int64_t>(at::elementSize(type)) +
         sums * static_cast<int64_t>(at::elementSize(type_of_factors(update)));
}

Tensors Formed::pull_back(const Tensors& trained) const {
  const Replay replay(item, trained);
  return replay.pull_back(folded_gradients(item, replay.update, weight.scalar_type(), sums));
}

int64_t stack(std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& x, Tensors& saved) {
  int64_t count = 0;
  for (size_t i = 0; i < updates.size(); ++i) count += may_stack(items[i], updates[i]);
  if (count < 2) return -1;
  const auto index = static_cast<int64_t>(saved.size());
  int64_t begin = 0;
  for (size_t i = 0; i < updates.size(); ++i) {
    if (!may_stack(items[i], updates[i])) continue;
    items[i].saved_h = index;
    const Item* twin = earlier_twin(items, updates, i);
    items[i].h_begin = twin ? twin->h_begin : begin;
    if (!twin) begin += updates[i].right.size(0);
    items[i].stacked = true;
  }
  saved.push_back(thin_of(x, stacked_right(items, updates, x)));
  return index;
}

Tensor forward_item(const Tensor& x, Item& item, const Update& original, Tensors& saved) {
  if (item.formed) return at::linear(x, item.formed->weight, item.formed->bias);
  const Tensor bias = updated_bias(item, original, x);
  const Tensor weight = item.layer->matrix();
  if (item.folded) return at::linear(x, with_gains(folded_weight(weight, original, item.sparse), original), bias);

  const Tensor input = original.in_gain.defined() ? x * as(original.in_gain, x) : x;
  const bool in_rows = original.out_gain.defined() && can_divide_by(original.out_gain, x);
  const Update update = in_rows ? gain_in_rows(original) : original;
  const bool gained = update.out_gain.defined();
  const Tensor own_weight = in_rows ? scaled_rows(weight, original.out_gain) : weight;
  const Tensor own_bias = gained ? Tensor() : bias;
  Tensor y;
  if (update.left.defined()) {
    if (!item.stacked) {
      item.saved_h = static_cast<int64_t>(saved.size());
      saved.push_back(thin_of(dropped(input, item), as(update.right, x)));
    }
    const Tensor turned = turned_left(update, x);
    y = wide_of(h_of(item, update, saved), update.middle.defined() ? scaled_rows(turned, update.middle) : turned,
                own_bias);
    y.addmm_(input, own_weight.t());
  } else {
    y = at::linear(input, own_weight, own_bias);
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

Update backward_item(const Tensor& dy, const Item& item, const Update& update, BackwardPass& pass) {
  if (item.formed) {
    const at::NoGradGuard no_grad;
    Formed& formed = *item.formed;
    formed.sums.add(formed.item, formed.factors, dy, pass);
    if (pass.needs_dx) add_product_to(pass.dx, dy, formed.weight);
    return {};
  }
  if (item.folded) return backward_folded(dy, item, update, pass);
  Update own = backward_sequence(dy, item, update, pass);
  if (update.bias.defined()) own.bias = sum_of_rows(dy).mul_(update.scale);
  return own;
}

void backward_stack(const std::vector<Item>& items, const std::vector<Update>& updates, std::vector<Update>& own,
                    BackwardPass& pass) {
  const Tensor &x = pass.x, &dh = pass.stacked_dh;
  if (pass.dx.defined()) add_wide(pass.dx, dh, stacked_right(items, updates, x));
  bool trains = false;
  for (size_t i = 0; i < items.size(); ++i) trains |= items[i].stacked && updates[i].right.requires_grad();
  if (!trains) return;
  const Tensor dright = factor_of(dh, x);
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].stacked) own[i].right = dright.narrow(0, items[i].h_begin, updates[i].right.size(0));
  }
}

Tensor updated_weight(const Update& update, const Tensor& weight) {
  Tensor result = with_gains(folded_weight(weight, update), update);
  const auto identity = [&] { return at::eye(weight.size(1), weight.options()); };
  if (update.before) result = at::mm(result, update.before(identity()).t());
  if (update.beside) result = result + update.beside(identity()).t() * update.scale;
  return result;
}

LinearPath cheapest_path(const LinearCost& c) {
  constexpr double kSparseShare = 0.35;  // of a dense product's time, 1024 x 1024 to 2816 x 1024

  const double factors = static_cast<double>(c.k) * (c.d_in + c.d_out) * c.tokens;
  const double build = static_cast<double>(c.k) * c.d_in * c.d_out * (c.skips_zeros ? kSparseShare : 1);
  // In units of one multiplication and addition. Sequence: both factors forward, both for dx, one more for each
  // factor that trains. Folded: dW = dy^T x, W formed forward and again backward, one product for each trained factor;
  // what several micro-batches share, once for all of them. Mixed: W formed likewise, and dy and x through both
  // factors.
  const double sequence = 2 * factors + static_cast<double>(c.k) * c.tokens *
                                            ((c.trains_left ? c.d_out : 0) + (c.trains_right ? c.d_in : 0));
  const double trained = c.trains_left + c.trains_right;
  const auto builds = [&](double taken_out) {
    return build * (c.micro_batches > 1 ? (1 + taken_out) / static_cast<double>(c.micro_batches) : 2 + taken_out);
  };
  const double folded = static_cast<double>(c.tokens) * c.d_in * c.d_out + builds(trained);
  const bool may_mix = trained == 1 && c.k > kThin && !c.has_gains && !c.skips_zeros;
  const double mixed = may_mix ? factors + builds(0) : folded;
  if (sequence <= std::min(folded, mixed)) return LinearPath::sequence;
  return mixed < folded ? LinearPath::mixed : LinearPath::folded;
}

}  // namespace deltaw::ops
