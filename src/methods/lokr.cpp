// LoKr: Kronecker product. Edalati et al. 2022 (KronA), arXiv:2212.10650; Yeh et al. 2023 (LyCORIS), arXiv:2309.14859.
//
//   dW = (alpha / r) w1 (x) w2        d_out = out_l out_k, d_in = in_m in_n
//
//   w1 [out_l, in_m]   zero; or w1_a [out_l, r] zero times w1_b [r, in_m], where decompose_both asks and it is smaller
//   w2 [out_k, in_n]   uniform, bound sqrt(1 / in_n); or w2_a [out_k, r] times w2_b [r, in_n] where r is below half of
//                      the larger side; with init_weights "lycoris" w2 or w2_b is zero and w1 drawn
//
// On a Conv2d in_m in_n are its input channels, and w2 [out_k, in_n, rows, columns] has the whole of the kernel.
//
// dW is never formed: with x as a matrix X [in_m, in_n], (w1 (x) w2) x = w1 X w2^T.
//
// Trained: at most out_l in_m + out_k in_n numbers a layer. Tensors, options and the way the sides are split as HF
// PEFT's LOKR; differs from it in nothing.
#include <utility>

#include "methods/low_rank.h"

namespace deltaw {
namespace {

// `dimension` as a product of two: (factor, rest) where the factor divides it, else the pair nearest to its root, the
// smaller first and not above the factor. -1 for no factor.
std::pair<int64_t, int64_t> split(int64_t dimension, int64_t factor) {
  if (factor > 0 && dimension % factor == 0) return {factor, dimension / factor};
  const int64_t limit = factor == -1 ? dimension : factor;
  std::pair<int64_t, int64_t> best{1, dimension};
  for (int64_t small = 2; small * small <= dimension && small <= limit; ++small) {
    if (dimension % small == 0) best = {small, dimension / small};
  }
  return best;
}

class LoKr final : public Method {
 public:
  struct Options : RankOptions {
    bool decompose_both = false;
    int64_t decompose_factor = -1;
    Json init_weights = true;

    void fields(FieldVisitor& f) {
      RankOptions::fields(f, "alpha", "Rank of a decomposed factor.");
      f.field("decompose_both", decompose_both, "Decompose w1 too, where that is smaller.");
      f.field("decompose_factor", decompose_factor, "First side of the split of d_in and d_out; -1 for the root.",
              at_least(-1));
      f.field("init_weights", init_weights,
              "Start: true (w1 zero), \"lycoris\" (w2 zero, w1 drawn), or false (both drawn, for tests).");
    }
  };
  explicit LoKr(Options options) : options_(std::move(options)) {
    options_.check();
    refuse_unless(options_.init_weights.is_boolean() || options_.init_weights == "lycoris", "init_weights",
                  options_.init_weights, "true, false or \"lycoris\"");
    refuse_unless(options_.decompose_factor != 0, "decompose_factor", options_.decompose_factor, "-1 or at least 1");
  }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const auto [out_l, out_k] = split(layer.d_out, options_.decompose_factor);
    const auto [in_m, in_n] = split(layer.channels(), options_.decompose_factor);
    const int64_t r = options_.rank(layer), width = in_n * layer.kernel_area();
    std::vector<Param> params;
    if (options_.decompose_both && 2 * r < std::max(out_l, in_m)) {
      params.push_back({"w1_a", "lokr_w1_a", start(out_l, r, options_.init_weights == true, generator)});
      params.push_back({"w1_b", "lokr_w1_b", kaiming_uniform(r, in_m, generator)});
    } else {
      params.push_back({"w1", "lokr_w1", start(out_l, in_m, options_.init_weights == true, generator)});
    }
    if (2 * r < std::max(out_k, in_n)) {
      params.push_back({"w2_a", "lokr_w2_a", kaiming_uniform(out_k, r, generator)});
      params.push_back({"w2_b", "lokr_w2_b", start(r, width, lycoris(), generator)});
    } else {
      params.push_back({.name = "w2",
                        .file_name = "lokr_w2",
                        .value = start(out_k, width, lycoris(), generator),
                        .file_shape = layer.conv_shape({out_k, in_n, layer.kernel[0], layer.kernel[1]})});
    }
    return params;
  }

  void check_training(const std::vector<LayerInfo>& layers) const override { options_.check_training(layers, "alpha"); }

  bool acts_on_inputs() const override { return true; }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    const Tensor w1 = factor(p, "w1"), w2 = factor(p, "w2");
    return {.scale = options_.scale(layer), .beside = [w1, w2](const Tensor& x) {
              const int64_t T = x.size(0), out_l = w1.size(0), in_m = w1.size(1), out_k = w2.size(0), in_n = w2.size(1);
              const Tensor inner = at::mm(x.reshape({T * in_m, in_n}), w2.t().to(x.scalar_type()));
              const Tensor columns = inner.view({T, in_m, out_k}).transpose(1, 2).reshape({T * out_k, in_m});
              const Tensor outer = at::mm(columns, w1.t().to(x.scalar_type()));
              return outer.view({T, out_k, out_l}).transpose(1, 2).reshape({T, out_l * out_k});
            }};
  }

 private:
  bool lycoris() const { return options_.init_weights == "lycoris"; }

  static Tensor start(int64_t rows, int64_t columns, bool zero, at::Generator& generator) {
    return zero ? zeros(rows, columns) : kaiming_uniform(rows, columns, generator);
  }

  static Tensor factor(const Params& p, const std::string& name) {
    const auto named = [&](const Param& param) { return param.name == name; };
    if (std::any_of(p.all().begin(), p.all().end(), named)) return p[name];
    return at::mm(p[name + "_a"], p[name + "_b"]);
  }

  Options options_;
};

// The same decisions as declare(), in numbers.
int64_t count(const LayerInfo& layer, const Json& o) {
  const auto r = o.at("r").get<int64_t>(), factor = o.at("decompose_factor").get<int64_t>();
  const auto [out_l, out_k] = split(layer.d_out, factor);
  const auto [in_m, in_n] = split(layer.channels(), factor);
  const int64_t width = in_n * layer.kernel_area();
  const bool both = o.at("decompose_both").get<bool>() && 2 * r < std::max(out_l, in_m);
  const bool second = 2 * r < std::max(out_k, in_n);
  return (both ? r * (out_l + in_m) : out_l * in_m) + (second ? r * (out_k + width) : out_k * width);
}

}  // namespace

const MethodSpec& method_lokr() {
  static const MethodSpec spec = make_spec<LoKr>({
      .id = "lokr",
      .title = "LoKr",
      .paper = "arXiv:2309.14859",
      .peft_type = "LOKR",
      .in_peft = PeftSupport{.kinds = {LayerKind::conv2d}, .lacking_keys = {"trainable_token_indices"}},
      .parameter_count = "out_l in_m + r (out_k + in_n), d_out = out_l out_k, d_in = in_m in_n",
      .count = count,
  });
  return spec;
}

}  // namespace deltaw
