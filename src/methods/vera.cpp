// VeRA: vector-based random matrix adaptation. Kopiczko et al. 2023, arXiv:2310.11454, eq. 2.
//
//   dW = diag(b) B diag(d) A
//
//   A [r, P], B [Q, r]   random, frozen, one pair for the whole model; P and Q are the widest input and output, and a
//                        layer takes the leading part. U(-sqrt(6 / fan_in), sqrt(6 / fan_in))
//   d [r]                d_initial
//   b [d_out]            zero
//
// Trained: r + d_out numbers a layer. Tensors, options and the draw of the bases as HF PEFT's VERA; differs from it in
// nothing.
#include <cmath>

#include "core/patterns.h"
#include "methods/random_bases.h"

namespace deltaw {
namespace {

// Kaiming's uniform start for a ReLU: a gain of sqrt(2).
Tensor draw(int64_t rows, int64_t fan_in, at::Generator& generator) {
  const double bound = std::sqrt(6 / static_cast<double>(fan_in));
  return at::empty({rows, fan_in}, at::kFloat).uniform_(-bound, bound, generator);
}

class Vera final : public Method {
 public:
  struct Options : RandomBasesOptions {
    int64_t r = 256;
    double vera_dropout = 0;
    double d_initial = 0.1;

    void fields(FieldVisitor& f) {
      f.field("r", r, "Rank of the bases.", at_least(1));
      f.field("vera_dropout", vera_dropout, "Dropout on the adapter's input.", fraction());
      f.field("d_initial", d_initial, "Start of d.");
      RandomBasesOptions::fields(f);
    }
  };
  explicit Vera(Options options) : options_(options) {}

  std::vector<Param> declare_shared(const std::vector<LayerInfo>& layers) const override {
    const LayerInfo wide = widest(layers);
    at::Generator generator = options_.generator();
    const Tensor A = draw(options_.r, wide.d_in, generator);
    return {{"vera_A", "vera_A", A, false}, {"vera_B", "vera_B", draw(wide.d_out, options_.r, generator), false}};
  }
  void use_shared(const Params& shared) override {
    A_ = shared["vera_A"];
    B_ = shared["vera_B"];
  }
  bool saves_shared() const override { return options_.save_projection; }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator&) const override {
    return {{"vera_lambda_b", "vera_lambda_b", at::zeros({layer.d_out}, at::kFloat)},
            {"vera_lambda_d", "vera_lambda_d", at::full({options_.r}, options_.d_initial, at::kFloat)}};
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    const Tensor &b = p["vera_lambda_b"], &d = p["vera_lambda_d"];
    return {.left = b.unsqueeze(1) * B_.narrow(0, 0, layer.d_out).to(b.scalar_type()),
            .middle = d,
            .right = A_.narrow(1, 0, layer.d_in).to(d.scalar_type())};
  }

  double dropout() const override { return options_.vera_dropout; }

  void check_training(const std::vector<LayerInfo>&) const override {
    refuse_unless(options_.d_initial != 0, "d_initial", options_.d_initial, "not zero: nothing would ever train");
  }

 private:
  Options options_;
  Tensor A_, B_;
};

}  // namespace

const MethodSpec& method_vera() {
  static const MethodSpec spec = make_spec<Vera>({
      .id = "vera",
      .title = "VeRA",
      .paper = "arXiv:2310.11454",
      .peft_type = "VERA",
      .in_peft =
          PeftSupport{.kinds = {LayerKind::conv1d}, .lacking_keys = {"trainable_token_indices", "exclude_modules"}},
      .parameter_count = "r + d_out",
      .count = [](const LayerInfo& l, const Json& o) { return o.at("r").get<int64_t>() + l.d_out; },
  });
  return spec;
}

}  // namespace deltaw
