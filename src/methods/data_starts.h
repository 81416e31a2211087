// Starts of LoRA's factors that follow from data: EVA, CorDA and LoRA-GA, with PEFT's options and numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/patterns.h"
#include "deltaw/method.h"
#include "ops/host_read.h"

namespace deltaw {

/// A [r, d_in] and B [d_out, r].
using Factors = std::pair<Tensor, Tensor>;

/// The options that PEFT keeps in an object of their own: `values` is one, or null for the defaults.
template <class Options>
Options nested_options(const Json& values, const std::string& key) {
  Options options;
  refuse_unless(values.is_null() || values.is_object(), key, values, "a map of options");
  std::vector<std::string> known = Options::ignored();
  for (const FieldInfo& field : describe_fields(fields_of(options))) known.push_back(field.name);
  refuse_unknown_keys(values, known, "key \"" + key + "\"");
  if (values.is_object()) read_fields(fields_of(options), values, "key \"" + key + "\"");
  return options;
}

/// Explained variance adaptation: Paischer et al. 2024, arXiv:2410.07170, section 3.
///
/// The rows of A are the directions in which the layer's inputs vary most, the eigenvectors of their covariance; B is
/// zero. Ranks go to the layers whose directions explain the largest shares of their layer's variance: as many in all
/// as there would be without, at most rho times its own to a layer.
struct EvaOptions {
  double rho = 2;
  bool whiten = false;
  bool adjust_scaling_factors = true;

  void fields(FieldVisitor& f) {
    f.field("rho", rho, "The highest rank of a layer over its own.", at_least(1));
    f.field("whiten", whiten, "Divide each direction by the root of its singular value.");
    f.field("adjust_scaling_factors", adjust_scaling_factors, "Let alpha grow with the rank, so that s stays.");
  }
  // What PEFT needs to look at the data in pieces, and to leave labels out: the covariance is taken whole here.
  static std::vector<std::string> ignored() { return {"tau", "use_label_mask", "label_mask_value"}; }

  static Tensor covariance(const Observed& seen) { return seen.second_moment - at::outer(seen.mean, seen.mean); }

  Factors start(const Observed& seen, int64_t d_out, int64_t r) const {
    const auto [values, vectors] = at::linalg_eigh(covariance(seen));  // rising
    Tensor A = vectors.narrow(1, vectors.size(1) - r, r).flip(1).t().contiguous();
    const Tensor peaks = A.gather(1, A.abs().argmax(1, /*keepdim=*/true));
    A = A * peaks.sign();  // PEFT's signs
    if (whiten) {
      const Tensor variance = values.narrow(0, values.size(0) - r, r).flip(0).clamp_min(0);
      const Tensor singular = (variance * static_cast<double>(seen.rows)).sqrt();
      A = A / singular.sqrt().clamp_min(1e-6).unsqueeze(1);
    }
    return {A, at::zeros({d_out, r}, A.options())};
  }

  /// The rank of each layer, where `ranks` are those without redistribution.
  std::vector<int64_t> distribute(const std::vector<Observed>& observed, const std::vector<int64_t>& ranks) const {
    std::vector<std::pair<double, size_t>> shares;  // of the variance, and whose
    for (size_t i = 0; i < observed.size(); ++i) {
      const Tensor values = at::linalg_eigvalsh(covariance(observed[i])).flip(0).to(at::kDouble);
      const std::vector<double> shown = ops::host_values<double>(values);
      const double all = ops::host_number(values.sum());
      const auto most = static_cast<int64_t>(std::nearbyint(rho * static_cast<double>(ranks[i])));
      for (int64_t k = 0; k < std::min(most, values.size(0)); ++k) {
        shares.emplace_back(shown[static_cast<size_t>(k)] / all, i);
      }
    }
    std::stable_sort(shares.begin(), shares.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    const auto budget = static_cast<size_t>(std::accumulate(ranks.begin(), ranks.end(), int64_t{0}));
    std::vector<int64_t> result(ranks.size());
    for (size_t k = 0; k < std::min(budget, shares.size()); ++k) ++result[shares[k].second];
    return result;
  }
};

/// Context-oriented decomposition: Yang et al. 2024, arXiv:2406.05223, section 3.
///
/// With C = sum x x^T of the layer's inputs and U S V^T = W0 C, the factors are the leading (ipm) or the last (kpm) r
/// components of W0 = U S V^T C^-1.
struct CordaOptions {
  std::string corda_method = "ipm";

  void fields(FieldVisitor& f) {
    f.field("corda_method", corda_method, "What trains: ipm the leading components, kpm the last.",
            one_of({"ipm", "kpm"}));
  }
  // Where PEFT keeps what it computes, and what it says meanwhile.
  static std::vector<std::string> ignored() {
    return {"cache_file", "covariance_file", "verbose", "use_float16_for_covariance", "prune_temporary_fields"};
  }

  Factors start(const Observed& seen, const BaseView& base, int64_t r, double scale) const {
    // PEFT's measure of C. The product B A does not depend on it, the sizes of B and A do.
    const double measure =
        static_cast<double>(seen.rows) / static_cast<double>(seen.samples) / (seen.largest * seen.largest);
    const Tensor C = seen.second_moment.to(at::kFloat) * measure;
    const Tensor identity = at::eye(C.size(0), C.options());
    Tensor damped, inverse;
    for (double damp = 0.01;; damp *= 2) {
      damped = C + identity * (C.diagonal().mean() * damp);
      inverse = at::linalg_inv(damped);
      if (ops::host_number((at::mm(damped, inverse) - identity).norm()) < 0.05) break;
    }
    const auto [U, S, Vt] = at::linalg_svd(base.times(damped).to(at::kFloat), /*full_matrices=*/false);
    const int64_t first = corda_method == "ipm" ? 0 : S.size(0) - r;
    const Tensor root = (S.narrow(0, first, r) / scale).sqrt();
    return {root.unsqueeze(1) * at::mm(Vt.narrow(0, first, r), inverse), U.narrow(1, first, r) * root};
  }
};

/// Gradient approximation: Wang et al. 2024, arXiv:2407.05000, section 3.
///
/// The factors share 2 r singular triplets of the gradient of W0, so that the first step of B A goes where that of W0
/// would. As in PEFT, B has the singular values, which its authors leave out.
struct LoraGaOptions {
  std::string direction = "ArB2r";
  std::string scale = "stable";
  double stable_gamma = 16;

  void fields(FieldVisitor& f) {
    f.field("direction", direction,
            "Which triplets make A and B: the first r and the next, the other way round, "
            "every other, or a random r for both.",
            one_of({"ArB2r", "A2rBr", "ArBr", "random"}));
    f.field("scale", scale,
            "Size of B: times d_out^1/4 / sqrt(stable_gamma); W0's first singular value over B's; both "
            "factors over s; as it is.",
            one_of({"stable", "weight_svd", "gd_scale", "unit"}));
    f.field("stable_gamma", stable_gamma, "gamma of scale stable.", above(0));
  }
  static std::vector<std::string> ignored() { return {}; }

  Factors start(const Observed& seen, const BaseView& base, int64_t r, double s, at::Generator& generator) const {
    const auto [U, S, Vt] = at::linalg_svd(seen.gradient, /*full_matrices=*/false);
    const auto [of_A, of_B] = triplets(r, generator);
    Tensor A = Vt.index_select(0, of_A);
    const Tensor values = S.index_select(0, of_B);
    Tensor B = U.index_select(1, of_B) * values;
    if (scale == "stable") B = B * (std::pow(static_cast<double>(base.d_out()), 0.25) / std::sqrt(stable_gamma));
    if (scale == "weight_svd" && ops::host_number(values[0]) > 0) B = B * (base.svd(1).S[0] / values[0]);
    if (scale == "gd_scale") return {A / s, B / s};
    return {A, B};
  }

 private:
  std::pair<Tensor, Tensor> triplets(int64_t r, at::Generator& generator) const {
    const Tensor first = at::arange(r, at::kLong);
    if (direction == "ArB2r") return {first, first + r};
    if (direction == "A2rBr") return {first + r, first};
    if (direction == "ArBr") return {2 * first + 1, 2 * first};
    const Tensor drawn = at::randperm(2 * r, generator, at::kLong).narrow(0, 0, r);
    return {drawn, drawn};
  }
};

}  // namespace deltaw
