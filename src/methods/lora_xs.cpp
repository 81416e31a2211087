// LoRA-XS: a trained r x r matrix between frozen singular vectors. Balazy et al. 2024, arXiv:2405.17604, eq. 3.
//
//   dW = (alpha / r) B R A        W0 = U S V^T, its r leading triplets
//
//   A [r, d_in]    S V^T, frozen
//   B [d_out, r]   U, frozen
//   R [r, r]       N(0, 1e-10): the first forward is the base model's but for 1e-5
//
// Trained: r^2 numbers a layer. A and B are stored, since another SVD may turn their signs. Tensor names after the
// authors' code (MohammadrezaBanaei/LoRA-XS); differs from it in that the SVD is exact.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class LoraXs final : public Method {
 public:
  struct Options {
    int64_t r = 16;
    double lora_alpha = 16;
    double lora_dropout = 0;

    void fields(FieldVisitor& f) {
      f.field("r", r, "Rank of the update.", at_least(1));
      f.field("lora_alpha", lora_alpha, "Numerator of the scale alpha / r.", above(0));
      f.field("lora_dropout", lora_dropout, "Dropout on the adapter's input.", fraction());
    }
  };
  explicit LoraXs(Options options) : options_(options) {}

  std::vector<Param> declare(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const override {
    const int64_t r = options_.r;
    refuse_unless(r <= std::min(layer.d_in, layer.d_out), "r", r, "at most the width of " + layer.name);
    const auto [U, S, Vt] = base.svd(r);
    return {{"lora_A", "lora_A.weight", S.unsqueeze(1) * Vt, /*trained=*/false},
            {"lora_B", "lora_B.weight", U, /*trained=*/false},
            {"R", "lora_latent_mapping.weight", gaussian(r, r, 1e-5, generator)}};
  }

  Update update(const LayerInfo&, const Params& p, const BaseView&) const override {
    return {.left = p["lora_B"],
            .right = at::mm(p["R"], p["lora_A"]),
            .scale = options_.lora_alpha / static_cast<double>(options_.r)};
  }

  double dropout() const override { return options_.lora_dropout; }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_lora_xs() {
  static const MethodSpec spec = make_spec<LoraXs>({
      .id = "lora_xs",
      .title = "LoRA-XS",
      .paper = "arXiv:2405.17604",
      .peft_type = "LORA_XS",
      .identity_at_init = false,
      .tensor_prefix = "lora_",
      .parameter_count = "r^2",
      .count = [](const LayerInfo&, const Json& o) { return o.at("r").get<int64_t>() * o.at("r").get<int64_t>(); },
  });
  return spec;
}

}  // namespace deltaw
