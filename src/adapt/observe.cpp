#include "adapt/observe.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "deltaw/error.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

// Sums while the model runs; finish() makes means of them.
class Sums final : public Observer {
 public:
  Sums(const std::vector<const Layer*>& layers, bool gradients, bool wide)
      : gradients_(gradients), type_(wide ? at::kDouble : at::kFloat) {
    for (const Layer* layer : layers) {
      const int64_t d_out = layer->view->d_out(), d_in = layer->view->d_in();
      Observed& sums = sums_[layer];
      if (gradients) {
        sums.gradient = at::zeros({d_out, d_in}, type_);
        continue;
      }
      sums.mean = at::zeros({d_in}, type_);
      sums.second_moment = at::zeros({d_in, d_in}, type_);
      sums.largest = -std::numeric_limits<double>::infinity();
    }
  }

  void see(const Layer& layer, const Tensor& x, Tensor& y) override {
    const auto found = sums_.find(&layer);
    if (found == sums_.end()) return;
    Observed& sums = found->second;
    const Tensor rows = x.detach().reshape({-1, x.size(-1)}).to(type_);
    sums.rows += rows.size(0);
    if (!gradients_) return add_inputs(sums, x, rows);
    // The weight records nothing, so the gradient is put together from that of y: dW = dy^T x.
    if (!y.requires_grad()) y.requires_grad_();
    y.register_hook([rows, sum = sums.gradient](const Tensor& dy) {
      const at::NoGradGuard no_grad;
      sum.addmm_(dy.reshape({-1, dy.size(-1)}).to(rows.scalar_type()).t(), rows);
    });
  }

  Observed finish(const Layer& layer, int64_t samples, int64_t batches) {
    Observed sums = sums_.at(&layer);
    sums.samples = samples;
    if (gradients_) {
      sums.gradient.div_(batches);
    } else {
      sums.mean.div_(sums.rows);
      sums.second_moment.div_(sums.rows);
    }
    for (const Tensor* tensor : {&sums.mean, &sums.second_moment, &sums.gradient}) {
      if (!tensor->defined() || ops::host_flag(tensor->isfinite().all())) continue;
      throw Error({.id = "numeric.non-finite",
                   .what = "the base model makes values of the calibration rows that are not finite",
                   .where = "layer " + layer.name,
                   .fix = "compute with --dtype float32, or look at what the base model predicts on these rows"});
    }
    return sums;
  }

 private:
  void add_inputs(Observed& sums, const Tensor& x, const Tensor& rows) {
    const at::NoGradGuard no_grad;
    if (!x.is_same(last_)) {  // layers that share their input come one after the other
      last_ = x;
      sum_ = rows.sum(0);
      product_ = at::mm(rows.t(), rows);
      largest_ = ops::host_number(rows.max());
    }
    sums.mean.add_(sum_);
    sums.second_moment.add_(product_);
    sums.largest = std::max(sums.largest, largest_);
  }

  bool gradients_;
  at::ScalarType type_;
  std::map<const Layer*, Observed> sums_;
  Tensor last_, sum_, product_;  // of the input seen last
  double largest_ = 0;
};

}  // namespace

std::vector<Observed> observe(const Model& model, const std::vector<const Layer*>& layers, Observations what,
                              const std::vector<CalibrationBatch>& batches) {
  for (const Layer* layer : layers) {
    if (layer->kind != LayerKind::embedding) continue;
    throw Error(
        {.id = "config.no-embedding",
         .what = fmt::format("'{}' is an embedding, and the start follows from what linear layers see", layer->name),
         .where = "key \"target_modules\"",
         .fix = "name linear layers only, or choose another start"});
  }
  const bool gradients = what == Observations::gradients;
  Sums sums(layers, gradients, /*wide=*/model.dtype() == at::kDouble);
  int64_t samples = 0;
  for (const CalibrationBatch& batch : batches) {
    const at::AutoGradMode recording(gradients);
    Call call{.observer = &sums};
    const Tensor loss = batch.loss(model, call);
    samples += batch.rows;
    if (gradients) loss.backward();
  }
  std::vector<Observed> observed;
  for (const Layer* layer : layers) {
    observed.push_back(sums.finish(*layer, samples, static_cast<int64_t>(batches.size())));
  }
  return observed;
}

}  // namespace deltaw
