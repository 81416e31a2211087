// DoRA: weight-decomposed low-rank adaptation. Liu et al. 2024, arXiv:2402.09353, eq. 5.
//
//   W = diag(m / ||V||) V      V = W0 + s B A      norms of rows, constant in the backward pass (section 4.3)
//
//   A [r, d_in], B [d_out, r]   as LoRA
//   m [d_out]                   the norms of W0's rows
//
// Trained: r (d_in + d_out) + d_out numbers a layer. The norm comes from the Gram identity
//   ||w_i + s b_i A||^2 = ||w_i||^2 + 2 s (W0 A^T)_i . b_i + s^2 b_i (A A^T) b_i^T
// which needs no [d_out, d_in] temporary. The gain is not applied to the bias. Tensors and options as HF PEFT's LORA
// with use_dora; differs from it under lora_dropout, where PEFT sends the dropped input through W0 as well.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class Dora final : public Method {
 public:
  using Options = LowRankOptions;
  explicit Dora(Options options) : options_(std::move(options)) { options_.check(); }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const override {
    Params factors(options_.factors(layer, base, generator));
    factors.all().push_back({.name = "lora_magnitude_vector",
                             .file_name = "lora_magnitude_vector",
                             .value = row_norms(layer, factors, base),
                             .file_shape = layer.conv_shape({1, layer.d_out, 1, 1}),
                             .other_name = "lora_magnitude_vector.weight"});  // PEFT's in memory
    return factors.all();
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView& base) const override {
    Update update = options_.update(layer, p, p.matrix("lora_A"));
    update.out_gain = p["lora_magnitude_vector"] / row_norms(layer, p, base);
    return update;
  }

  double dropout() const override { return options_.lora_dropout; }

  void check_training(const std::vector<LayerInfo>& layers) const override { options_.check_training(layers); }

  CalibrationNeeds needs() const override { return options_.needs(); }
  Allotment allot(const std::vector<LayerInfo>& layers, const std::vector<Observed>& observed) const override {
    return options_.allot(layers, observed);
  }

 private:
  Tensor row_norms(const LayerInfo& layer, const Params& p, const BaseView& base) const {
    const at::NoGradGuard constant;
    const Update update = options_.update(layer, p, p.matrix("lora_A"));
    const Tensor &A = update.right, &B = update.left;
    const double s = update.scale;
    const Tensor cross = (base.times(A.t()) * B).sum(1);
    const Tensor own = (at::mm(B, at::mm(A, A.t())) * B).sum(1);
    const Tensor squared = base.row_norms().square() + 2 * s * cross + s * s * own;
    return squared.clamp_min(1e-12).sqrt();
  }

  Options options_;
};

}  // namespace

const MethodSpec& method_dora() {
  static const MethodSpec spec = make_spec<Dora>({
      .id = "dora",
      .title = "DoRA",
      .paper = "arXiv:2402.09353",
      .peft_type = "LORA",
      .peft_settings = {{"use_dora", true}},
      .in_peft = peft_lora(),
      .own_options = {"calibration_samples"},
      .ties_factors = true,
      .tensor_prefix = "lora_",
      .parameter_count = "r (d_in + d_out) + d_out",
      .count = [](const LayerInfo& l,
                  const Json& o) { return o.at("r").get<int64_t>() * (l.d_in + l.d_out) + l.d_out; },
  });
  return spec;
}

}  // namespace deltaw
