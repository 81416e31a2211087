// What the two-factor methods have in common: rank, scale, and the start of their factors.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "core/patterns.h"
#include "deltaw/method.h"
#include "methods/data_starts.h"

namespace deltaw {

/// U(-1/sqrt(fan_in), 1/sqrt(fan_in)) [rows, fan_in]: Kaiming's uniform start with a = sqrt(5), as torch's Linear.
inline Tensor kaiming_uniform(int64_t rows, int64_t fan_in, at::Generator& generator) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return at::empty({rows, fan_in}, at::kFloat).uniform_(-bound, bound, generator);
}

inline Tensor gaussian(int64_t rows, int64_t columns, double std, at::Generator& generator) {
  return at::empty({rows, columns}, at::kFloat).normal_(0, std, generator);
}

inline Tensor zeros(int64_t rows, int64_t columns) {
  return at::zeros({rows, columns}, at::kFloat);
}

/// An orthogonal matrix, uniform over the group: Q of a Gaussian matrix, with signs that make R's diagonal positive.
inline Tensor random_orthogonal(int64_t n, at::Generator& generator) {
  const auto [q, r] = at::linalg_qr(gaussian(n, n, 1, generator));
  return q * r.diagonal().sign();
}

/// A rank and the scale alpha / r, one for every layer but those that a pattern names.
struct RankOptions {
  int64_t r = 8;
  double alpha = 8;
  Json rank_pattern = Json::object();
  Json alpha_pattern = Json::object();

  /// `name` is what the method calls alpha, `meaning` what its r is.
  void fields(FieldVisitor& f, const char* name, const char* meaning) {
    f.field("r", r, meaning, at_least(1));
    f.field(name, alpha, "Numerator of the scale alpha / r; any number but 0.");
    f.field("rank_pattern", rank_pattern,
            "Ranks of layers whose name ends as the key says, a regular expression: {\"query\": 4}.");
    f.field("alpha_pattern", alpha_pattern, "The same for alpha: {\"query\": 8}.");
  }

  int64_t rank(const LayerInfo& layer) const {
    return static_cast<int64_t>(pattern_value(rank_pattern, layer.name, static_cast<double>(r), at_least(1)));
  }
  double alpha_of(const LayerInfo& layer) const { return pattern_value(alpha_pattern, layer.name, alpha, {}); }
  double scale(const LayerInfo& layer) const { return alpha_of(layer) / static_cast<double>(rank(layer)); }

  void check_training(const std::vector<LayerInfo>& layers, const char* name) const {
    for (const LayerInfo& layer : layers)
      refuse_unless(alpha_of(layer) != 0, name, 0, "a number but 0, with which nothing trains, for " + layer.name);
  }

  void check() const {
    refuse_unless(rank_pattern.is_object() || rank_pattern.is_null(), "rank_pattern", rank_pattern, "a map of ranks");
    refuse_unless(alpha_pattern.is_object() || alpha_pattern.is_null(), "alpha_pattern", alpha_pattern,
                  "a map of scales");
  }
};

/// Options of LoRA and of the methods that are LoRA with something added: B [d_out, r] and A [r, d_in].
///
/// A start from the base's own factors (pissa, olora, corda) or from gradients (lora_ga) leaves a model that is no
/// longer the base, unless the start is taken off again: the layer then is W0 + s (B A - B0 A0), with B0 and A0 frozen.
/// They are stored unless they follow from W0 alone. PEFT subtracts them from its copy of W0, and stores none: it draws
/// those of pissa_niter_<n> anew when it reads an adapter.
///
/// On embeddings the tensors have PEFT's other names, and B is the random factor, A the zero one: so they start, as in
/// PEFT, whatever start is asked for.
struct LowRankOptions : RankOptions {
  double lora_dropout = 0;
  bool use_rslora = false;
  Json init_lora_weights = true;
  Json eva_config, corda_config, lora_ga_config;
  int64_t calibration_samples = 256;

  void fields(FieldVisitor& f) {
    RankOptions::fields(f, "lora_alpha", "Rank of the update.");
    f.field("lora_dropout", lora_dropout, "Dropout on the adapter's input.", fraction());
    f.field("use_rslora", use_rslora, "Scale by alpha / sqrt(r) instead (rsLoRA, arXiv:2312.03732).");
    f.field(
        "init_lora_weights", init_lora_weights,
        "Start: true (A Kaiming uniform, B zero), \"gaussian\" (A with std 1/r), \"orthogonal\", \"pissa\", "
        "\"pissa_niter_<n>\", \"olora\"; from training rows \"eva\", \"corda\", \"lora_ga\"; false draws B too, for "
        "tests.");
    f.field("eva_config", eva_config,
            "Options of the start eva, a map: rho (2.0), whiten (false), adjust_scaling_factors (true).");
    f.field("corda_config", corda_config, "Options of the start corda, a map: corda_method (ipm; or kpm).");
    f.field(
        "lora_ga_config", lora_ga_config,
        "Options of the start lora_ga, a map: direction (ArB2r; or A2rBr, ArBr, random), scale (stable; or weight_svd, "
        "gd_scale, unit), stable_gamma (16).");
    f.field("calibration_samples", calibration_samples, "Training rows that a start from data looks at.", at_least(1));
  }

  double scale(const LayerInfo& layer) const {
    return use_rslora ? alpha_of(layer) / std::sqrt(static_cast<double>(rank(layer))) : RankOptions::scale(layer);
  }

  /// lora_A and lora_B, and the frozen start that changes the base where there is one.
  std::vector<Param> factors(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const {
    const auto [A, B] = start_of_factors(layer, base, generator);
    const bool table = layer.kind == LayerKind::embedding;
    std::vector<Param> params{{"lora_A", table ? "lora_embedding_A" : "lora_A.weight", A},
                              {"lora_B", table ? "lora_embedding_B" : "lora_B.weight", B}};
    // PEFT's factors of a convolution are convolutions, the second of single points.
    params[0].file_shape = layer.conv_shape({-1, layer.channels(), layer.kernel[0], layer.kernel[1]});
    params[1].file_shape = layer.conv_shape({layer.d_out, -1, 1, 1});
    if (!changes_base(layer)) return params;
    const bool saved = start() != "pissa" && start() != "olora";
    params.push_back({"A0", "lora_A0.weight", A.clone(), /*trained=*/false, saved});
    params.push_back({"B0", "lora_B0.weight", B.clone(), /*trained=*/false, saved});
    for (size_t i : {2, 3}) params[i].may_lack = pissa_iterations() > 0;
    return params;
  }

  /// scale B right less the start, for the `right` that the method makes of A.
  Update update(const LayerInfo& layer, const Params& p, const Tensor& right) const {
    return update(layer, p, p.matrix("lora_B"), right);
  }

  /// The same where the method makes something of B too.
  Update update(const LayerInfo& layer, const Params& p, const Tensor& left, const Tensor& right) const {
    Update result{.left = left, .right = right, .scale = scale(layer)};
    if (changes_base(layer)) {
      result.left = at::cat({result.left, -p["B0"]}, 1);
      result.right = at::cat({result.right, p["A0"]}, 0);
    }
    return result;
  }

  bool changes_base(const LayerInfo& layer) const {
    const std::string name = start();
    if (layer.kind == LayerKind::embedding) return false;
    return name.starts_with("pissa") || name == "olora" || name == "corda" || name == "lora_ga";
  }

  CalibrationNeeds needs() const {
    const std::string name = start();
    if (name == "lora_ga") return {Observations::gradients, calibration_samples};
    if (name == "eva" || name == "corda") return {Observations::inputs, calibration_samples};
    return {};
  }

  /// EVA's redistribution of the ranks, under PEFT's keys.
  Allotment allot(const std::vector<LayerInfo>& layers, const std::vector<Observed>& observed) const {
    if (start() != "eva") return {};
    std::vector<int64_t> before;
    for (const LayerInfo& layer : layers) before.push_back(rank(layer));
    const EvaOptions eva = nested_options<EvaOptions>(eva_config, "eva_config");
    const std::vector<int64_t> ranks = eva.distribute(observed, before);
    Allotment result;
    Json new_ranks = Json::object(), new_alphas = Json::object();
    for (size_t i = 0; i < layers.size(); ++i) {
      if (ranks[i] == 0) {
        result.left_out.push_back(layers[i].name);
        continue;
      }
      const double growth = static_cast<double>(ranks[i]) / static_cast<double>(before[i]);
      const double own = alpha_of(layers[i]) * (eva.adjust_scaling_factors ? growth : 1);
      if (ranks[i] != r) new_ranks[layers[i].name] = ranks[i];
      if (own != alpha) new_alphas[layers[i].name] = own;
    }
    result.options = {{"rank_pattern", std::move(new_ranks)}, {"alpha_pattern", std::move(new_alphas)}};
    return result;
  }

  /// Refuses the starts that are not implemented, options of a start that are none, and patterns that are no maps.
  void check() const {
    const std::string name = start();
    const bool known = init_lora_weights.is_boolean() || name == "gaussian" || name == "orthogonal" ||
                       name == "pissa" || name == "olora" || pissa_iterations() > 0 || follows_from_data();
    refuse_unless(known, "init_lora_weights", init_lora_weights,
                  "true, \"gaussian\", \"orthogonal\", \"pissa\", \"pissa_niter_<n>\", \"olora\", \"eva\", \"corda\", "
                  "\"lora_ga\" or false");
    nested_options<EvaOptions>(eva_config, "eva_config");
    nested_options<CordaOptions>(corda_config, "corda_config");
    nested_options<LoraGaOptions>(lora_ga_config, "lora_ga_config");
    refuse_unless(name != "orthogonal" || r % 2 == 0, "r", r, "an even number for the orthogonal start");
    RankOptions::check();
  }

  void check_training(const std::vector<LayerInfo>& layers) const {
    RankOptions::check_training(layers, "lora_alpha");
    for (const LayerInfo& layer : layers) {
      refuse_unless(!changes_base(layer) || alpha_of(layer) > 0, "lora_alpha", alpha_of(layer),
                    "a number above 0 for the start " + start() + " (" + layer.name + ")");
    }
  }

  bool follows_from_data() const { return needs().what != Observations::none; }

 private:
  std::string start() const { return init_lora_weights.is_string() ? init_lora_weights.get<std::string>() : ""; }

  // n of "pissa_niter_<n>", or 0.
  int64_t pissa_iterations() const {
    const std::string name = start(), prefix = "pissa_niter_";
    int64_t n = 0;
    if (!name.starts_with(prefix)) return 0;
    const char* end = name.data() + name.size();
    const auto [stop, problem] = std::from_chars(name.data() + prefix.size(), end, n);
    return problem == std::errc() && stop == end ? n : 0;
  }

  Factors start_from(const Observed& seen, const LayerInfo& layer, const BaseView& base,
                     at::Generator& generator) const {
    const int64_t n = rank(layer), thin = std::min(layer.d_in, layer.d_out);
    const std::string name = start();
    const auto at_most = [&](int64_t most, const std::string& what) {
      refuse_unless(n <= most, "r", n, "at most " + what + " of " + layer.name + " for the start " + name);
    };
    if (name == "eva") {
      at_most(layer.d_in, "the inputs");
      return nested_options<EvaOptions>(eva_config, "eva_config").start(seen, layer.d_out, n);
    }
    if (name == "corda") {
      at_most(thin, "the width");
      return nested_options<CordaOptions>(corda_config, "corda_config").start(seen, base, n, scale(layer));
    }
    at_most(thin / 2, "half the width");
    return nested_options<LoraGaOptions>(lora_ga_config, "lora_ga_config")
        .start(seen, base, n, scale(layer), generator);
  }

  Factors start_of_factors(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const {
    const int64_t n = rank(layer);
    const std::string name = layer.kind == LayerKind::embedding ? "" : start();
    if (follows_from_data() && !name.empty()) {
      if (base.observed()) {
        const auto [A, B] = start_from(*base.observed(), layer, base, generator);
        return {A.to(at::kFloat), B.to(at::kFloat)};
      }
      return {zeros(n, layer.d_in), zeros(layer.d_out, n)};  // to be read from a file
    }
    if (changes_base(layer)) {
      const int64_t most = std::min(n, std::min(layer.d_in, layer.d_out));  // W0 has no more
      if (name == "olora") {  // Buyukakyuz 2024, arXiv:2406.01775: W0 = Q R
        const auto [Q, R] = base.qr(most);
        return {R, Q};
      }
      // Meng et al. 2024, arXiv:2404.02948, eq. 2 and 3: the root of the singular values on either side
      const auto [U, S, Vt] = name == "pissa" ? base.svd(most) : base.svd_lowrank(most, pissa_iterations(), generator);
      const Tensor root = (S / scale(layer)).sqrt();
      return {root.unsqueeze(1) * Vt, U * root};
    }
    if (name == "orthogonal") {  // both factors non-zero, and B A = 0: odd and even rows of Q are orthogonal
      refuse_unless(n % 2 == 0, "r", n, "an even number for the orthogonal start");
      const Tensor Q = random_orthogonal(n, generator).view({n / 2, 2, n});
      return {at::mm(gaussian(layer.d_in, n / 2, 0.1, generator), Q.select(1, 0)).t().contiguous(),
              at::mm(gaussian(layer.d_out, n / 2, 0.1, generator), Q.select(1, 1))};
    }
    if (layer.kind == LayerKind::embedding) {
      const bool drawn = init_lora_weights == false;
      return {drawn ? gaussian(n, layer.d_in, 1, generator) : zeros(n, layer.d_in),
              gaussian(layer.d_out, n, 1, generator)};
    }
    Tensor A = name == "gaussian" ? gaussian(n, layer.d_in, 1.0 / static_cast<double>(n), generator)
                                  : kaiming_uniform(n, layer.d_in, generator);
    Tensor B = init_lora_weights == false ? kaiming_uniform(layer.d_out, n, generator) : zeros(layer.d_out, n);
    return {A, B};
  }
};

/// PEFT's LORA, which LoRA and DoRA are there.
inline PeftSupport peft_lora() {
  const auto differences = [](const Json& options, const std::vector<LayerInfo>& layers) {
    std::vector<std::string> found;
    const Json given = options.value("init_lora_weights", Json(true));
    const std::string start = given.is_string() ? given.get<std::string>() : "";
    const bool on_conv1d = std::any_of(layers.begin(), layers.end(),
                                       [](const LayerInfo& layer) { return layer.kind == LayerKind::conv1d; });
    if (options.value("lora_bias", Json()) == true && !given.is_boolean())
      found.push_back("PEFT refuses lora_bias with the start " + start);
    if (start == "olora" && on_conv1d) found.emplace_back("PEFT cannot read OLoRA on Conv1D");
    if (start.starts_with("pissa_niter_"))
      found.push_back("PEFT draws the start " + start + " anew and computes other outputs");
    return found;
  };
  return {.kinds = {LayerKind::conv1d, LayerKind::conv2d, LayerKind::embedding}, .differences = differences};
}

}  // namespace deltaw
