// What the two-factor methods have in common: rank, scale and the start of their factors.
#pragma once

#include <cmath>
#include <string>

#include "core/patterns.h"
#include "deltaw/method.h"

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

/// Options of LoRA and of the methods that are LoRA with something added.
struct LowRankOptions {
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  Json init_lora_weights = true;
  Json rank_pattern = Json::object();
  Json alpha_pattern = Json::object();

  void fields(FieldVisitor& f) {
    f.field("r", r, "Rank of the update.", at_least(1));
    f.field("lora_alpha", lora_alpha, "Numerator of the scale alpha / r.", above(0));
    f.field("lora_dropout", lora_dropout, "Dropout on the adapter's input.", fraction());
    f.field("use_rslora", use_rslora, "Scale by alpha / sqrt(r) instead (rsLoRA, arXiv:2312.03732).");
    f.field("init_lora_weights", init_lora_weights,
            "Start of A: true (Kaiming uniform) or \"gaussian\" (std 1/r), B zero; false draws B too, for tests.");
    f.field("rank_pattern", rank_pattern, "Ranks of layers whose name ends as the key says (a regular expression).");
    f.field("alpha_pattern", alpha_pattern, "The same for lora_alpha.");
  }

  int64_t rank(const LayerInfo& layer) const {
    return static_cast<int64_t>(pattern_value(rank_pattern, layer.name, static_cast<double>(r), at_least(1)));
  }
  double scale(const LayerInfo& layer) const {
    const double alpha = pattern_value(alpha_pattern, layer.name, lora_alpha, above(0));
    const auto rank_of_layer = static_cast<double>(rank(layer));
    return alpha / (use_rslora ? std::sqrt(rank_of_layer) : rank_of_layer);
  }

  Tensor start_A(const LayerInfo& layer, at::Generator& generator) const {
    if (init_lora_weights.is_string())
      return gaussian(rank(layer), layer.d_in, 1.0 / static_cast<double>(rank(layer)), generator);
    return kaiming_uniform(rank(layer), layer.d_in, generator);
  }
  Tensor start_B(const LayerInfo& layer, at::Generator& generator) const {
    if (init_lora_weights == false) return kaiming_uniform(layer.d_out, rank(layer), generator);
    return zeros(layer.d_out, rank(layer));
  }

  /// Refuses the starts that are not implemented, and patterns that are no maps.
  void check() const {
    refuse_unless(init_lora_weights.is_boolean() || init_lora_weights == "gaussian", "init_lora_weights",
                  init_lora_weights, "true, \"gaussian\" or false");
    refuse_unless(rank_pattern.is_object() || rank_pattern.is_null(), "rank_pattern", rank_pattern, "a map of ranks");
    refuse_unless(alpha_pattern.is_object() || alpha_pattern.is_null(), "alpha_pattern", alpha_pattern,
                  "a map of scales");
  }
};

}  // namespace deltaw
