// MoSLoRA: mixture of subspaces in low-rank adaptation. Wu et al. 2024, arXiv:2406.11909, eq. 5.
//
//   dW = (alpha / r) B M A
//
//   A [r, d_in]    uniform, bound sqrt(1 / d_in)
//   M [r, r]       the mixer: uniform, bound sqrt(1 / r); orthogonal; or the identity, which starts as LoRA
//   B [d_out, r]   zero
//
// Trained: r (d_in + d_out) + r^2 numbers a layer. Tensor names as the authors' fork of PEFT (wutaiqiang/MoSLoRA):
// lora_AB is the mixer. A mixer of zeros would never train, so there is none. Differs from the fork in nothing.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

// Q of a Gaussian matrix, with the signs that make it uniform over the orthogonal group.
Tensor orthogonal(int64_t n, at::Generator& generator) {
  const auto [q, r] = at::linalg_qr(gaussian(n, n, 1, generator));
  return q * r.diagonal().sign();
}

class MosLora final : public Method {
 public:
  struct Options : LowRankOptions {
    std::string mixer_init = "kaiming";

    void fields(FieldVisitor& f) {
      LowRankOptions::fields(f);
      f.field("mixer_init", mixer_init, "Start of the mixer.", one_of({"kaiming", "orthogonal", "identity"}));
    }
  };
  explicit MosLora(Options options) : options_(std::move(options)) { options_.check(); }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView&, at::Generator& generator) const override {
    const int64_t r = options_.rank(layer);
    Tensor A = options_.start_A(layer, generator);
    Tensor mixer = options_.mixer_init == "identity"     ? at::eye(r, at::kFloat)
                   : options_.mixer_init == "orthogonal" ? orthogonal(r, generator)
                                                         : kaiming_uniform(r, r, generator);
    return {{"lora_A", "lora_A.weight", A},
            {"lora_AB", "lora_AB.weight", mixer},
            {"lora_B", "lora_B.weight", options_.start_B(layer, generator)}};
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    return {.left = p["lora_B"], .right = at::mm(p["lora_AB"], p["lora_A"]), .scale = options_.scale(layer)};
  }

  double dropout() const override { return options_.lora_dropout; }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_moslora() {
  static const MethodSpec spec = make_spec<MosLora>({
      .id = "moslora",
      .title = "MoSLoRA",
      .paper = "arXiv:2406.11909",
      .peft_type = "MOSLORA",
      .peft_settings = {{"lora_use_mixer", true}},
      .parameter_count = "r (d_in + d_out) + r^2",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const auto r = o.at("r").get<int64_t>();
            return r * (l.d_in + l.d_out) + r * r;
          },
  });
  return spec;
}

}  // namespace deltaw
