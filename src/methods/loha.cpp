// LoHa: low-rank Hadamard product. Hyeon-Woo et al. 2021 (FedPara), arXiv:2108.06098, proposition 1.
//
//   dW = (alpha / r) (w1_a w1_b) * (w2_a w2_b)        element by element
//
//   w1_a, w2_a [d_out, r]   uniform, bound sqrt(1 / r)
//   w1_b [r, d_in]          uniform, bound sqrt(1 / d_in)
//   w2_b [r, d_in]          zero
//
// Trained: 2 r (d_in + d_out) numbers a layer; the rank of dW is at most r^2. Tensors and options as HF PEFT's LOHA;
// differs from it in nothing.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class LoHa final : public Method {
 public:
  struct Options {
    int64_t r = 8;
    double alpha = 8;
    Json rank_pattern = Json::object();
    Json alpha_pattern = Json::object();

    void fields(FieldVisitor& f) {
      f.field("r", r, "Rank of either product.", at_least(1));
      f.field("alpha", alpha, "Numerator of the scale alpha / r.", above(0));
      f.field("rank_pattern", rank_pattern, "Ranks of layers whose name ends as the key says (a regular expression).");
      f.field("alpha_pattern", alpha_pattern, "The same for alpha.");
    }
  };
  explicit LoHa(Options options) : options_(std::move(options)) {}

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t r = rank(layer);
    return {{"w1_a", "hada_w1_a", kaiming_uniform(layer.d_out, r, generator)},
            {"w1_b", "hada_w1_b", kaiming_uniform(r, layer.d_in, generator)},
            {"w2_a", "hada_w2_a", kaiming_uniform(layer.d_out, r, generator)},
            {"w2_b", "hada_w2_b", zeros(r, layer.d_in)}};
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    const double alpha = pattern_value(options_.alpha_pattern, layer.name, options_.alpha, above(0));
    return {.scale = alpha / static_cast<double>(rank(layer)),
            .dense = at::mm(p["w1_a"], p["w1_b"]) * at::mm(p["w2_a"], p["w2_b"])};
  }

 private:
  int64_t rank(const LayerInfo& layer) const {
    return static_cast<int64_t>(
        pattern_value(options_.rank_pattern, layer.name, static_cast<double>(options_.r), at_least(1)));
  }

  Options options_;
};

}  // namespace

const MethodSpec& method_loha() {
  static const MethodSpec spec = make_spec<LoHa>({
      .id = "loha",
      .title = "LoHa",
      .paper = "arXiv:2108.06098",
      .peft_type = "LOHA",
      .parameter_count = "2 r (d_in + d_out)",
      .count = [](const LayerInfo& l, const Json& o) { return 2 * o.at("r").get<int64_t>() * (l.d_in + l.d_out); },
  });
  return spec;
}

}  // namespace deltaw
