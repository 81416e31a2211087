// LoRA^2: multi-scale low-rank approximations. Zhang et al. 2024, arXiv:2408.06854, eq. 4, with the shapes that
// multiply.
//
//   dW = s V K v        K = U diag(E) u        s = alpha / (r + 1e-5), for ever
//
//   v [k, d_in]   lora_A     the outer plane on the input side       N(0, 0.02^2)
//   u [r, k]      lora_B     the inner plane on the input side       N(0, 0.02^2)
//   E [r, 1]      lora_E     zero; pruned as AdaLoRA's
//   U [k, r]      lora_aa    the inner plane on the output side      N(0, 0.02^2)
//   V [d_out, k]  lora_bb    the outer plane on the output side      N(0, 0.02^2)
//
//   penalty = orth_reg_weight * mean over layers of R(u, v) + R(U, V) + R(P, Q)      P = u v [r, d_in], Q = V U [d_out,
//   r] R(X, Y) = || X X^T - I ||^2 + || Y Y^T - I ||^2, each Gram matrix taken on its smaller side
//
// A pruned layer with fewer components r' than k is stored as the same update with planes r' wide: v' = u v, V' = V U,
// and the identity for both inner planes.
//
// Trained: k (d_in + d_out) + 2 k r + r numbers a layer; the rank of dW is at most min(k, r). Components are scored
// over the inner planes and E only (section 3.3). Tensor names as the authors' code (Godz-z/LoRA-2); differs from it in
// that k is an option, the penalties are the paper's squared ones, each Gram matrix on its small side, and merging
// works.
#include "methods/budget.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

// || M M^T - I ||^2, or M^T M where that is smaller: the larger Gram matrix could never be the identity.
Tensor off_orthogonal(const Tensor& M) {
  return minus_identity(M.size(0) <= M.size(1) ? at::mm(M, M.t()) : at::mm(M.t(), M)).square().sum();
}

class Lora2 final : public Method {
 public:
  struct Options : BudgetOptions {
    int64_t r = 8;
    int64_t k = 8;
    double lora_alpha = 16;
    double lora_dropout = 0;
    double orth_reg_weight = 0.1;
    std::vector<std::string> regularizers = {"uv", "UV", "PQ"};
    Json rank_pattern;
    bool compact = false;

    void fields(FieldVisitor& f) {
      f.field("r", r, "Components of the inner planes at the start.", at_least(1));
      f.field("k", k, "Width of the outer planes, and the highest rank of the update.", at_least(1));
      f.field("lora_alpha", lora_alpha, "Numerator of the scale alpha / r.", above(0));
      f.field("lora_dropout", lora_dropout, "Dropout on the adapter's input.", fraction());
      f.field("orth_reg_weight", orth_reg_weight, "Weight of the penalties.", at_least(0));
      f.field("regularizers", regularizers, "Which penalties act: uv, UV, PQ.", one_of({"uv", "UV", "PQ"}));
      BudgetOptions::fields(f);
      f.field("rank_pattern", rank_pattern, "Written on saving, not to be given: what each layer keeps.");
      f.field("compact", compact, "Written on saving: planes of pruned layers are as narrow as their components.");
    }
  };
  explicit Lora2(Options options) : options_(std::move(options)) {}

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t r = kept_rank(options_.rank_pattern, layer, "lora_E", options_.r);
    const bool narrow = options_.compact && options_.rank_pattern.contains(layer.name + ".lora_E");
    const int64_t k = narrow ? std::min(options_.k, r) : options_.k;
    return {{"lora_A", "lora_A", gaussian(k, layer.d_in, 0.02, generator)},
            {"lora_B", "lora_B", gaussian(r, k, 0.02, generator)},
            {"lora_E", "lora_E", zeros(r, 1)},
            {"lora_aa", "lora_aa", gaussian(k, r, 0.02, generator)},
            {"lora_bb", "lora_bb", gaussian(layer.d_out, k, 0.02, generator)}};
  }

  Update update(const LayerInfo&, const Params& p, const BaseView&) const override {
    const Tensor K = at::mm(p["lora_aa"], p["lora_E"] * p["lora_B"]);
    return {.left = p["lora_bb"],
            .right = at::mm(K, p["lora_A"]),
            .scale = options_.lora_alpha / (static_cast<double>(options_.r) + 1e-5)};
  }

  double dropout() const override { return options_.lora_dropout; }

  Tensor penalty(const std::vector<const Params*>& layers) const override {
    if (options_.orth_reg_weight == 0 || options_.regularizers.empty()) return {};
    Tensor sum;
    for (const Params* p : layers) {
      const Tensor &v = (*p)["lora_A"], &u = (*p)["lora_B"], &U = (*p)["lora_aa"], &V = (*p)["lora_bb"];
      for (const std::string& name : options_.regularizers) {
        const Tensor term = name == "uv"   ? off_orthogonal(v) + off_orthogonal(u)
                            : name == "UV" ? off_orthogonal(U) + off_orthogonal(V)
                                           : off_orthogonal(at::mm(u, v)) + off_orthogonal(at::mm(V, U));
        sum = ops::plus(sum, term);
      }
    }
    return sum * (options_.orth_reg_weight / static_cast<double>(layers.size()));
  }

  std::optional<RankBudget> rank_budget() const override {
    RankBudget budget = options_.budget({"lora_E", 0}, {{"lora_E", 0}, {"lora_B", 0}, {"lora_aa", 1}}, options_.r);
    budget.compact = "compact";
    return budget;
  }

  Params compact(const LayerInfo&, Params p) const override {
    const int64_t r = p["lora_E"].size(0), k = p["lora_A"].size(0);
    if (r >= k) return p;
    const at::NoGradGuard no_grad;
    const Tensor v = at::mm(p["lora_B"], p["lora_A"]), V = at::mm(p["lora_bb"], p["lora_aa"]);
    const Tensor identity = at::eye(r, v.options());
    for (Param& param : p.all()) {
      if (param.name == "lora_A") param.value = v;
      if (param.name == "lora_bb") param.value = V;
      if (param.name == "lora_B" || param.name == "lora_aa") param.value = identity;
    }
    return p;
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_lora2() {
  static const MethodSpec spec = make_spec<Lora2>({
      .id = "lora2",
      .title = "LoRA^2",
      .paper = "arXiv:2408.06854",
      .peft_type = "LORA2",
      .training_options = BudgetOptions::training_options({"orth_reg_weight", "regularizers"}),
      .parameter_count = "k (d_in + d_out) + 2 k r + r",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const auto k = o.at("k").get<int64_t>(), r = o.at("r").get<int64_t>();
            return k * (l.d_in + l.d_out) + 2 * k * r + r;
          },
  });
  return spec;
}

}  // namespace deltaw
