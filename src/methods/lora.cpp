// LoRA: low-rank adaptation. Hu et al. 2021, arXiv:2106.09685, eq. 3.
//
//   dW = s B A            s = alpha / r, or alpha / sqrt(r) (rsLoRA)
//
//   A [r, d_in]   uniform, bound sqrt(1 / d_in); or N(0, 1/r^2)
//   B [d_out, r]  zero, so the first forward equals the base model
//
// Trained: r (d_in + d_out) numbers a layer. Tensors and options as HF PEFT's LORA; differs from it in nothing.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class Lora final : public Method {
 public:
  using Options = LowRankOptions;
  explicit Lora(Options options) : options_(std::move(options)) { options_.check(); }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    return {{"lora_A", "lora_A.weight", options_.start_A(layer, generator)},
            {"lora_B", "lora_B.weight", options_.start_B(layer, generator)}};
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    return {.left = p["lora_B"], .right = p["lora_A"], .scale = options_.scale(layer)};
  }

  double dropout() const override { return options_.lora_dropout; }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_lora() {
  static const MethodSpec spec = make_spec<Lora>({
      .id = "lora",
      .title = "LoRA",
      .paper = "arXiv:2106.09685",
      .peft_type = "LORA",
      .parameter_count = "r (d_in + d_out)",
      .count = [](const LayerInfo& l, const Json& o) { return o.at("r").get<int64_t>() * (l.d_in + l.d_out); },
  });
  return spec;
}

}  // namespace deltaw
