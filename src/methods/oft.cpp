// OFT: orthogonal finetuning. Qiu et al. 2023, arXiv:2306.07280; OFTv2's form on inputs, arXiv:2506.19847.
//
//   y = W0 (x R)^T + b        R = blockdiag(R_1 ... R_n) orthogonal, n = d_in / b
//
//   oft_R [n, b (b - 1) / 2]   zero: the upper triangles of skew-symmetric Q_i, row by row, and R_i = I
//
//   R_i = (I - Q)(I + Q)^-1                             Cayley's transform, or its series (use_cayley_neumann)
//   R_i = I + 2 Q + 2 Q^2 + ... + 2 Q^(t-2) + Q^(t-1)   t = num_cayley_neumann_terms
//
// The series is that of (I + Q)(I - Q)^-1, so the same numbers turn the other way under the two; PEFT has it so. With
// coft, Q_i stays within eps / sqrt(n) of zero (section 3.2). Trained: d_in (b - 1) / 2 numbers a layer. Tensors and
// options as HF PEFT's OFT; differs from it in nothing.
#include <algorithm>
#include <cmath>

#include "core/patterns.h"
#include "deltaw/method.h"

namespace deltaw {
namespace {

// The divisor of `width` nearest to `wanted`, the smaller of two.
int64_t nearest_divisor(int64_t width, int64_t wanted) {
  if (wanted >= width) return width;
  int64_t below = wanted, above = wanted;
  while (width % below != 0) --below;
  while (width % above != 0) ++above;
  return wanted - below <= above - wanted ? below : above;
}

Tensor skew(const Tensor& upper, int64_t b) {
  const Tensor at_upper = at::triu_indices(b, b, 1, at::kLong);
  const Tensor place = at_upper[0] * b + at_upper[1];
  const Tensor flat = at::zeros({upper.size(0), b * b}, upper.options()).index_copy(1, place, upper);
  const Tensor U = flat.view({upper.size(0), b, b});
  return U - U.transpose(1, 2);
}

class Oft final : public Method {
 public:
  struct Options {
    int64_t r = 0;
    int64_t oft_block_size = 32;
    bool coft = false;
    double eps = 6e-5;
    bool block_share = false;
    bool use_cayley_neumann = true;
    int64_t num_cayley_neumann_terms = 5;

    void fields(FieldVisitor& f) {
      f.field("r", r, "Number of blocks; 0 where oft_block_size is given.", at_least(0));
      f.field("oft_block_size", oft_block_size, "Width of a block, taken to the nearest divisor of d_in; 0 where r is.",
              at_least(0));
      f.field("coft", coft, "Keep the rotation near the identity.");
      f.field("eps", eps, "How near, with coft.", above(0));
      f.field("block_share", block_share, "One block for all.");
      f.field("use_cayley_neumann", use_cayley_neumann, "The series in place of the exact transform.");
      f.field("num_cayley_neumann_terms", num_cayley_neumann_terms, "Terms of the series.", at_least(2));
    }
  };
  explicit Oft(Options options) : options_(options) {
    refuse_unless((options_.r == 0) != (options_.oft_block_size == 0), "oft_block_size", options_.oft_block_size,
                  "0 where r is given, and the other way round");
  }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator&) const override {
    const int64_t b = block_size(layer.d_in, options_.r, options_.oft_block_size);
    const int64_t n = options_.block_share ? 1 : layer.d_in / b;
    return {{"oft_R", "oft_R.weight", at::zeros({n, b * (b - 1) / 2}, at::kFloat)}};
  }

  void check_training(const std::vector<LayerInfo>& layers) const override {
    for (const LayerInfo& layer : layers) {
      const int64_t b = block_size(layer.d_in, options_.r, options_.oft_block_size);
      refuse_unless(b > 1, "oft_block_size", b, "above 1: a block of one number cannot turn (" + layer.name + ")");
    }
  }

  bool acts_on_inputs() const override { return true; }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    const int64_t b = block_size(layer.d_in, options_.r, options_.oft_block_size), n = layer.d_in / b;
    const Tensor& stored = p["oft_R"];
    // The projection is no part of the gradient: it holds at the projected point.
    const Tensor value = options_.coft ? stored + (projected(stored) - stored).detach() : stored;
    const Tensor R = rotation(skew(value, b)).expand({n, b, b});
    return {.before = [R, n, b](const Tensor& x) {
      const Tensor blocks = x.reshape({x.size(0), n, b}).transpose(0, 1);
      return at::bmm(blocks, R.to(x.scalar_type())).transpose(0, 1).reshape(x.sizes());
    }};
  }

  void before_step(const LayerInfo&, Params& p) const override {
    if (options_.coft) Tensor(p["oft_R"]).copy_(projected(p["oft_R"]));
  }

  static int64_t block_size(int64_t d_in, int64_t r, int64_t wanted) {
    return wanted > 0 ? nearest_divisor(d_in, wanted) : d_in / nearest_divisor(d_in, r);
  }

 private:
  // Every block's Q within a ball; Q's norm counts every number twice.
  Tensor projected(const Tensor& value) const {
    const at::NoGradGuard no_grad;
    const Tensor norm = at::linalg_vector_norm(value, 2, {1}, /*keepdim=*/true) * std::sqrt(2.0);
    const double radius = static_cast<float>(options_.eps) / std::sqrt(static_cast<float>(value.size(0)));
    return value * (radius / norm.clamp_min(1e-30)).clamp_max(1);
  }

  Tensor rotation(const Tensor& Q) const {
    const Tensor I = at::eye(Q.size(1), Q.options());
    // Never singular, so that nothing needs to be read to see it.
    if (!options_.use_cayley_neumann) return std::get<0>(at::linalg_solve_ex(I + Q, I - Q, /*left=*/false));
    if (options_.num_cayley_neumann_terms == 2) return I + 2 * Q;
    Tensor power = at::bmm(Q, Q);
    Tensor R = I + 2 * Q + 2 * power;
    for (int64_t i = 3; i < options_.num_cayley_neumann_terms - 1; ++i) {
      power = at::bmm(power, Q);
      R = R + 2 * power;
    }
    return R + at::bmm(power, Q);
  }

  Options options_;
};

}  // namespace

const MethodSpec& method_oft() {
  static const MethodSpec spec = make_spec<Oft>({
      .id = "oft",
      .title = "OFT",
      .paper = "arXiv:2306.07280",
      .peft_type = "OFT",
      .in_peft =
          PeftSupport{.kinds = {LayerKind::conv2d, LayerKind::embedding}, .lacking_keys = {"trainable_token_indices"}},
      .tensor_prefix = "oft_",
      .parameter_count = "d_in (b - 1) / 2, b the block size",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const int64_t b = Oft::block_size(l.d_in, o.at("r").get<int64_t>(), o.at("oft_block_size").get<int64_t>());
            return (o.at("block_share").get<bool>() ? 1 : l.d_in / b) * b * (b - 1) / 2;
          },
  });
  return spec;
}

}  // namespace deltaw
