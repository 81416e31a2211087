// AdaLoRA: adaptive budget allocation. Zhang et al. 2023, arXiv:2303.10512, eq. 3 and 4.
//
//   dW = s B diag(E) A        s = alpha / (init_r + 1e-5), for ever
//
//   A [init_r, d_in], B [d_out, init_r]   N(0, 0.02^2)
//   E [init_r, 1]                         zero; a component is pruned by setting its E to zero
//
//   penalty = orth_reg_weight * mean over all A and B of || A A^T - I ||_F, || B^T B - I ||_F
//
// Trained: init_r (d_in + d_out + 1) numbers a layer. Components are scored over A, B and E and pruned to a mean of
// target_r. Tensors, options and the norm (not squared, as the authors' code) are HF PEFT's ADALORA; differs from it in
// that the trainer steps the budget and adds the penalty whatever the loss.
#include "methods/budget.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class AdaLora final : public Method {
 public:
  struct Options : BudgetOptions {
    int64_t init_r = 12;
    double lora_alpha = 8;
    double lora_dropout = 0;
    double orth_reg_weight = 0.5;
    Json rank_pattern;

    void fields(FieldVisitor& f) {
      f.field("init_r", init_r, "Rank of every layer at the start.", at_least(1));
      f.field("lora_alpha", lora_alpha,
              "Numerator of the scale alpha / init_r; init_r where it is 0 or less, as in PEFT.");
      f.field("lora_dropout", lora_dropout, "Dropout on the adapter's input.", fraction());
      f.field("orth_reg_weight", orth_reg_weight, "Weight of the orthogonality penalty.", at_least(0));
      BudgetOptions::fields(f);
      f.field("rank_pattern", rank_pattern, "Written on saving, not to be given: what each layer keeps.");
    }
  };
  explicit AdaLora(Options options) : options_(std::move(options)) {}

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t r = kept_rank(options_.rank_pattern, layer, "lora_E", options_.init_r);
    return {{"lora_A", "lora_A", gaussian(r, layer.d_in, 0.02, generator)},
            {"lora_B", "lora_B", gaussian(layer.d_out, r, 0.02, generator)},
            {"lora_E", "lora_E", zeros(r, 1)}};
  }

  Update update(const LayerInfo&, const Params& p, const BaseView&) const override {
    const auto r = static_cast<double>(options_.init_r);
    return {.left = p["lora_B"],
            .right = p["lora_E"] * p["lora_A"],
            .scale = (options_.lora_alpha > 0 ? options_.lora_alpha : r) / (r + 1e-5)};
  }

  double dropout() const override { return options_.lora_dropout; }

  Tensor penalty(const std::vector<const Params*>& layers) const override {
    if (options_.orth_reg_weight == 0) return {};
    Tensor sum;
    for (const Params* p : layers) {
      const Tensor &A = (*p)["lora_A"], &B = (*p)["lora_B"];
      const Tensor term = at::norm(minus_identity(at::mm(A, A.t()))) + at::norm(minus_identity(at::mm(B.t(), B)));
      sum = ops::plus(sum, term);
    }
    return sum * (options_.orth_reg_weight / (2.0 * static_cast<double>(layers.size())));
  }

  std::optional<RankBudget> rank_budget() const override {
    return options_.budget({"lora_E", 0}, {{"lora_E", 0}, {"lora_A", 0}, {"lora_B", 1}}, options_.init_r);
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_adalora() {
  static const MethodSpec spec = make_spec<AdaLora>({
      .id = "adalora",
      .title = "AdaLoRA",
      .paper = "arXiv:2303.10512",
      .peft_type = "ADALORA",
      // PEFT inherits LoRA's keys, and reads other ones here.
      .in_peft = PeftSupport{.kinds = {LayerKind::conv1d, LayerKind::conv2d},
                             .unused_keys = {"r", "use_rslora", "alpha_pattern", "init_lora_weights", "lora_bias",
                                             "eva_config", "corda_config", "lora_ga_config"}},
      .default_targets =
          [](const FamilySpec& family) {
            const Json& own = family.adalora_target_modules;
            return own.is_null() ? family.lora_target_modules : own;
          },
      .training_options = BudgetOptions::training_options({"orth_reg_weight"}),
      .parameter_count = "init_r (d_in + d_out + 1)",
      .count = [](const LayerInfo& l, const Json& o) { return o.at("init_r").get<int64_t>() * (l.d_in + l.d_out + 1); },
  });
  return spec;
}

}  // namespace deltaw
