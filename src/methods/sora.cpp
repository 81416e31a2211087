// SoRA: sparse low-rank adaptation. Ding et al. 2023, arXiv:2311.11696, eq. 5 to 9.
//
//   dW = (alpha / r) B diag(g) A
//
//   A [r, d_in]    uniform, bound sqrt(1 / d_in)
//   g [1, r]       N(0, 1)
//   B [d_out, r]   zero
//
//   penalty = sparse_lambda * mean |g| over the gates of all layers
//   after every step: g <- sign(g) max(|g| - xi, 0), the proximal step of the l1 norm, xi = sparse_lambda_2
//
// Trained: r (d_in + d_out + 1) numbers a layer. A gate that has come to zero is left out of the saved file with its
// row of A and column of B, so the adapter ends smaller. With sparse_rule "authors" the step is that of the authors'
// code (TsinghuaC3I/SoRA): it subtracts xi and then drops whatever is below xi, a dead zone of 2 xi. Tensor names as
// theirs; differs in that the gates share the optimiser and rate of the rest. target_r asks for a rank budget as
// AdaLoRA's instead of leaving the number of gates to xi.
#include "methods/budget.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class Sora final : public Method {
 public:
  struct Options {
    int64_t r = 8;
    double lora_alpha = 16;
    double lora_dropout = 0;
    double sparse_lambda = 1e-3;
    double sparse_lambda_2 = 3e-4;
    std::string sparse_rule = "soft";
    OptionalBudget budget;

    void fields(FieldVisitor& f) {
      f.field("r", r, "Gates of a layer at the start.", at_least(1));
      f.field("lora_alpha", lora_alpha, "Numerator of the scale alpha / r.", above(0));
      f.field("lora_dropout", lora_dropout, "Dropout on the adapter's input.", fraction());
      f.field("sparse_lambda", sparse_lambda, "Weight of the penalty on the gates.", at_least(0));
      f.field("sparse_lambda_2", sparse_lambda_2, "Threshold xi of the proximal step.", at_least(0));
      f.field("sparse_rule", sparse_rule, "soft threshold, or what the authors' code does.",
              one_of({"soft", "authors"}));
      budget.fields(f);
    }
  };
  explicit Sora(Options options) : options_(std::move(options)) {}

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t r = options_.budget.kept(layer, "gate", options_.r);
    return {{"lora_A", "lora_A", kaiming_uniform(r, layer.d_in, generator)},
            {"gate", "gate", gaussian(1, r, 1, generator)},
            {"lora_B", "lora_B", zeros(layer.d_out, r)}};
  }

  Update update(const LayerInfo&, const Params& p, const BaseView&) const override {
    return {.left = p["lora_B"],
            .right = p["gate"].t() * p["lora_A"],
            .scale = options_.lora_alpha / static_cast<double>(options_.r)};
  }

  double dropout() const override { return options_.lora_dropout; }

  Tensor penalty(const std::vector<const Params*>& layers) const override {
    if (options_.sparse_lambda == 0) return {};
    Tensor sum;
    int64_t gates = 0;
    for (const Params* p : layers) {
      const Tensor term = (*p)["gate"].abs().sum();
      sum = ops::plus(sum, term);
      gates += (*p)["gate"].numel();
    }
    return sum * (options_.sparse_lambda / static_cast<double>(std::max<int64_t>(gates, 1)));
  }

  void after_step(const LayerInfo&, Params& p) const override {
    const double xi = options_.sparse_lambda_2;
    if (xi == 0) return;
    Tensor gate = p["gate"];
    if (options_.sparse_rule == "soft") {
      gate.copy_(at::softshrink(gate, xi));
    } else {
      gate.copy_(at::where(gate.gt(xi), gate - xi, at::where(gate.lt(-xi), gate + xi, gate)));
      gate.masked_fill_(gate.abs().lt(xi), 0);
    }
  }

  std::optional<RankBudget> rank_budget() const override {
    RankBudget budget = options_.budget.schedule({"gate", 1}, {{"gate", 1}, {"lora_A", 0}, {"lora_B", 1}}, options_.r);
    budget.allocated = options_.budget.asked();
    return budget;
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_sora() {
  static const MethodSpec spec = make_spec<Sora>({
      .id = "sora",
      .title = "SoRA",
      .paper = "arXiv:2311.11696",
      .peft_type = "SORA",
      .own_options = OptionalBudget::names(),
      .training_options = BudgetOptions::training_options({"sparse_lambda", "sparse_lambda_2", "sparse_rule"}),
      .parameter_count = "r (d_in + d_out + 1)",
      .count = [](const LayerInfo& l, const Json& o) { return o.at("r").get<int64_t>() * (l.d_in + l.d_out + 1); },
  });
  return spec;
}

}  // namespace deltaw
