// LoHa: low-rank Hadamard product. Hyeon-Woo et al. 2021 (FedPara), arXiv:2108.06098, proposition 1.
//
//   dW = (alpha / r) (w1_a w1_b) * (w2_a w2_b)        element by element
//
//   w1_a, w2_a [d_out, r]   uniform, bound sqrt(1 / r)
//   w1_b [r, d_in]          uniform, bound sqrt(1 / d_in)
//   w2_b [r, d_in]          zero; drawn as w1_b with init_weights false
//
// Trained: 2 r (d_in + d_out) numbers a layer; the rank of dW is at most r^2. Tensors and options as HF PEFT's LOHA;
// differs from it in nothing.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class LoHa final : public Method {
 public:
  struct Options : RankOptions {
    bool init_weights = true;

    void fields(FieldVisitor& f) {
      RankOptions::fields(f, "alpha", "Rank of either product.");
      f.field("init_weights", init_weights, "Start with an update of zero; false draws all factors, for tests.");
    }
  };
  explicit LoHa(Options options) : options_(std::move(options)) { options_.check(); }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t r = options_.rank(layer);
    return {{"w1_a", "hada_w1_a", kaiming_uniform(layer.d_out, r, generator)},
            {"w1_b", "hada_w1_b", kaiming_uniform(r, layer.d_in, generator)},
            {"w2_a", "hada_w2_a", kaiming_uniform(layer.d_out, r, generator)},
            {"w2_b", "hada_w2_b",
             options_.init_weights ? zeros(r, layer.d_in) : kaiming_uniform(r, layer.d_in, generator)}};
  }

  void check_training(const std::vector<LayerInfo>& layers) const override { options_.check_training(layers, "alpha"); }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    return {.scale = options_.scale(layer), .dense = at::mm(p["w1_a"], p["w1_b"]) * at::mm(p["w2_a"], p["w2_b"])};
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_loha() {
  static const MethodSpec spec = make_spec<LoHa>({
      .id = "loha",
      .title = "LoHa",
      .paper = "arXiv:2108.06098",
      .peft_type = "LOHA",
      .in_peft = PeftSupport{.kinds = {LayerKind::conv2d}, .lacking_keys = {"trainable_token_indices"}},
      .parameter_count = "2 r (d_in + d_out)",
      .count = [](const LayerInfo& l, const Json& o) { return 2 * o.at("r").get<int64_t>() * (l.d_in + l.d_out); },
  });
  return spec;
}

}  // namespace deltaw
