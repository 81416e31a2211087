// Bottleneck adapters: a small network with a residual connection, after a sublayer and before its residual sum.
#pragma once

#include "methods/low_rank.h"

namespace deltaw {

/// h <- h + W_up gelu(W_down h + b_down) + b_up
///
///   W_down [bottleneck_dim, d], W_up [d, bottleneck_dim]   N(0, 1e-6): near the identity at the start
///   b_down, b_up                                           zero
class Bottleneck : public Method {
 public:
  struct Options {
    int64_t bottleneck_dim = 64;

    void fields(FieldVisitor& f) {
      f.field("bottleneck_dim", bottleneck_dim, "Width of the adapter's hidden layer.", at_least(1));
    }
  };
  explicit Bottleneck(Options options) : options_(options) {}

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t m = options_.bottleneck_dim, d = layer.d_out;
    return {{"down", "adapter_down.weight", gaussian(m, d, 1e-3, generator)},
            {"down_bias", "adapter_down.bias", at::zeros({m}, at::kFloat)},
            {"up", "adapter_up.weight", gaussian(d, m, 1e-3, generator)},
            {"up_bias", "adapter_up.bias", at::zeros({d}, at::kFloat)}};
  }

  Update update(const LayerInfo&, const Params&, const BaseView&) const override { return {}; }

  Tensor map_output(const LayerInfo&, const Params& p, const Tensor& h) const override {
    const auto in_type = [&](const char* name) { return p[name].to(h.scalar_type()); };
    const Tensor inner = at::gelu(at::linear(h, in_type("down"), in_type("down_bias")));
    return h + at::linear(inner, in_type("up"), in_type("up_bias"));
  }

  static int64_t count(const LayerInfo& layer, const Json& options) {
    const auto m = options.at("bottleneck_dim").get<int64_t>();
    return 2 * layer.d_out * m + m + layer.d_out;
  }

 private:
  Options options_;
};

}  // namespace deltaw
