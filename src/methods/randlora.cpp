// RandLoRA: full-rank updates from random bases. Albert et al. 2025, arXiv:2502.00987, eq. 3.
//
//   dW = s sum_j B_j diag(lambda_j) A diag(gamma_j)         j = 1 ... n, n = ceil(m / r)
//
//   s = alpha / r as HF PEFT, or alpha / (r sqrt(n)) as the paper's language models (section 5.1, alpha = 2 r)
//   m, M = the smaller and the larger of d_in and d_out
//   A [r, 1, m*], B [M*, n*, r]   random, frozen, one pair for the whole model; a layer takes their leading part
//   lambda [r, n]                 zero
//   gamma [n, m]                  1 / max(n, m)
//
// Sparse bases (section 6.4) hold -1, 0 and 1 before they are normalised: each sign with probability 1/6 (sparse), or
// 1 / (2 sqrt(m)) (very_sparse).
//
// Trained: n (r + m) numbers a layer; a smaller r trains more. In matrices, S [n r, m] holds lambda A gamma and F [M, n
// r] the bases side by side: dW = s F S, or s S^T F^T where d_in > d_out. S counts (rank, basis) and F (basis, rank),
// as in HF PEFT's RANDLORA, whose bases are drawn here bit for bit as it draws them under torch 2.13 on a machine with
// bf16.
//
// Not in the paper: a rank budget on whole terms j, asked for by target_r; lambda_j = 0 switches a term off.
#include <cmath>

#include "core/patterns.h"
#include "methods/budget.h"
#include "methods/random_bases.h"

namespace deltaw {
namespace {

// PEFT draws in bf16: a float32 draw of U(-bound, bound) rounded, where the rounded upper bound becomes the lower.
Tensor draw(at::IntArrayRef shape, double fan_in, at::Generator& generator) {
  const double bound = 1 / std::sqrt(fan_in);
  const Tensor rounded = at::empty(shape, at::kFloat).uniform_(-bound, bound, generator).to(at::kBFloat16);
  const Tensor limit = at::scalar_tensor(bound, at::kFloat).to(at::kBFloat16);
  return at::where(rounded.ge(limit), limit.neg(), rounded);
}

// -1 and 1 with probability 1 / (2 sigma) each, else 0; float32 draws.
Tensor draw_ternary(at::IntArrayRef shape, double sigma, at::Generator& generator) {
  const Tensor u = at::empty(shape, at::kFloat).uniform_(0, 1, generator);
  const double tail = 1 / (2 * sigma);
  return u.gt(1 - tail).to(at::kFloat) - u.lt(tail).to(at::kFloat);
}

Tensor unit_std(const Tensor& t) {
  return (t / t.std()).to(at::kFloat);
}

int64_t count_bases(int64_t m, int64_t r) {
  return (m + r - 1) / r;
}

class RandLora final : public Method {
 public:
  struct Options : RandomBasesOptions {
    int64_t r = 32;
    double randlora_alpha = 640;
    double randlora_dropout = 0;
    bool sparse = false;
    bool very_sparse = false;
    std::string randlora_scaling = "r";
    OptionalBudget budget;

    void fields(FieldVisitor& f) {
      f.field("r", r, "Rank of each basis; a smaller one trains more parameters.", at_least(1));
      f.field("randlora_alpha", randlora_alpha,
              "Numerator of the scale alpha / r; any number but 0. At the default scale of 20 use a low learning rate "
              "(1e-4).");
      f.field("randlora_dropout", randlora_dropout, "Dropout on the adapter's input.", fraction());
      RandomBasesOptions::fields(f);
      f.field("sparse", sparse, "Ternary bases, two thirds of them zero.");
      f.field("very_sparse", very_sparse, "Ternary bases with 1 / sqrt(m) non-zero; goes before sparse.");
      f.field("randlora_scaling", randlora_scaling, "Scale alpha / r (r) or alpha / (r sqrt(n)) (r_sqrt_n).",
              one_of({"r", "r_sqrt_n"}));
      budget.fields(f,
                    "Rank budget: random terms (of n) that a layer has at the end, on average over the layers; -1: "
                    "nothing is pruned.");
    }
  };
  explicit RandLora(Options options) : options_(options) {}

  std::vector<Param> declare_shared(const std::vector<LayerInfo>& layers) const override {
    const LayerInfo wide = widest(layers);
    const int64_t r = options_.r, m = std::min(wide.d_out, wide.d_in);
    const int64_t M = std::max(wide.d_out, wide.d_in);
    at::Generator generator = options_.generator();
    if (options_.sparse || options_.very_sparse) {
      const double sigma = options_.very_sparse ? std::sqrt(static_cast<double>(m)) : 3;
      const Tensor A = draw_ternary({r, 1, m}, sigma, generator);
      const Tensor B = draw_ternary({M, count_bases(m, r), r}, sigma, generator);
      return named(A, B);
    }
    const Tensor A = draw({r, 1, m}, static_cast<double>(m), generator);
    std::vector<Tensor> B;
    for (int64_t j = 0; j < count_bases(m, r); ++j) B.push_back(draw({M, 1, r}, static_cast<double>(r), generator));
    return named(A, at::cat(B, 1));
  }
  void use_shared(const Params& shared) override {
    A_ = shared["randlora_A"];
    B_ = shared["randlora_B"];
  }
  bool saves_shared() const override { return options_.save_projection; }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator&) const override {
    const int64_t m = std::min(layer.d_in, layer.d_out), n = count_bases(m, options_.r);
    const int64_t kept = options_.budget.kept(layer, "randlora_lambda", n);
    const double start = 1.0 / static_cast<double>(std::max(n, m));
    return {{"randlora_lambda", "randlora_lambda", at::zeros({options_.r, kept}, at::kFloat)},
            {"randlora_gamma", "randlora_gamma", at::full({kept, m}, start, at::kFloat)}};
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    const Tensor &lambda = p["randlora_lambda"], &gamma = p["randlora_gamma"];
    const int64_t m = gamma.size(1), n = count_bases(m, options_.r);
    const Tensor A = A_.narrow(2, 0, m).to(gamma.scalar_type());
    const Tensor S = (lambda.unsqueeze(2) * A * gamma.unsqueeze(0)).reshape({-1, m});
    Tensor F = bases(std::max(layer.d_in, layer.d_out), n).to(gamma.scalar_type());
    if (gamma.size(0) != n) F = columns_of_kept_terms(F, layer, n);
    double s = options_.randlora_alpha / static_cast<double>(options_.r);
    if (options_.randlora_scaling == "r_sqrt_n") s /= std::sqrt(static_cast<double>(n));
    if (layer.d_in <= layer.d_out) return {.left = F, .right = S, .scale = s};
    return {.left = S.t(), .right = F.t(), .scale = s};
  }

  double dropout() const override { return options_.randlora_dropout; }

  void check_training(const std::vector<LayerInfo>&) const override {
    refuse_unless(options_.randlora_alpha != 0, "randlora_alpha", 0, "a number but 0, with which nothing trains");
  }

  std::optional<RankBudget> rank_budget() const override {
    return options_.budget.budget({"randlora_lambda", 1}, {{"randlora_lambda", 1}, {"randlora_gamma", 0}}, 0);
  }

 private:
  static std::vector<Param> named(const Tensor& A, const Tensor& B) {
    return {{"randlora_A", "randlora_A", unit_std(A), false}, {"randlora_B", "randlora_B", unit_std(B), false}};
  }

  // S counts (rank, term): so does this reading of F's columns.
  Tensor columns_of_kept_terms(const Tensor& F, const LayerInfo& layer, int64_t n) const {
    std::vector<int64_t> kept;
    const Json& flags = options_.budget.kept_components.at(layer.name + ".randlora_lambda");
    for (size_t j = 0; j < flags.size(); ++j) {
      if (flags[j].get<bool>()) kept.push_back(static_cast<int64_t>(j));
    }
    const Tensor index = at::tensor(kept, at::kLong);
    return F.unflatten(1, {options_.r, n}).index_select(2, index).reshape({F.size(0), -1});
  }

  // B's leading part as a matrix [M, n r].
  Tensor bases(int64_t M, int64_t n) const { return B_.narrow(0, 0, M).narrow(1, 0, n).flatten(1); }

  Options options_;
  Tensor A_, B_;
};

std::vector<std::string> unlike_peft(const Json& options, const std::vector<LayerInfo>&) {
  if (options.at("randlora_scaling") != "r_sqrt_n") return {};
  return {"PEFT has no randlora_scaling and takes alpha / r for the scale, which is sqrt(n) times as large"};
}

std::vector<std::string> likely_mistakes(const Json& options, double learning_rate) {
  const double scale = options.at("randlora_alpha").get<double>() / options.at("r").get<double>();
  if (scale < 20 || learning_rate < 5e-4) return {};
  return {
      "RandLoRA at a scale (randlora_alpha / r) of 20 and a learning rate of 5e-4 or more tends to "
      "fall to the majority class; lower one of them"};
}

std::vector<std::string> own_options() {
  std::vector<std::string> names = OptionalBudget::names();
  names.emplace_back("randlora_scaling");
  return names;
}

}  // namespace

const MethodSpec& method_randlora() {
  static const MethodSpec spec = make_spec<RandLora>({
      .id = "randlora",
      .title = "RandLoRA",
      .paper = "arXiv:2502.00987",
      .peft_type = "RANDLORA",
      .in_peft = PeftSupport{.kinds = {LayerKind::conv1d},
                             .lacking_keys = {"trainable_token_indices", "exclude_modules"},
                             .differences = unlike_peft},
      .own_options = own_options(),
      .training_options = BudgetOptions::training_options(),
      .parameter_count = "n (r + m), m = min(d_in, d_out), n = ceil(m / r)",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const auto r = o.at("r").get<int64_t>();
            const int64_t m = std::min(l.d_in, l.d_out);
            return count_bases(m, r) * (r + m);
          },
      .likely_mistakes = likely_mistakes,
  });
  return spec;
}

}  // namespace deltaw
