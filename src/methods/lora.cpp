// LoRA: low-rank adaptation. Hu et al. 2021, arXiv:2106.09685, eq. 3.
//
//   dW = s B A            s = alpha / r, or alpha / sqrt(r) (rsLoRA)
//
//   A [r, d_in]   uniform, bound sqrt(1 / d_in); or another start (low_rank.h)
//   B [d_out, r]  zero, so the first forward equals the base model
//   b [d_out]     with lora_bias: added to the output, times s; zero
//
// Trained: r (d_in + d_out) numbers a layer. Tensors and options as HF PEFT's LORA; differs from it in nothing.
//
// LoRA+ (Hayou et al. 2024, arXiv:2402.12354): B learns loraplus_lr_ratio times as fast as A. As with PEFT's optimiser
// for it, so does every vector that trains, the head's bias included, and factors of embeddings have a rate of their
// own. LoRA-FA (Zhang et al. 2023, arXiv:2308.03303): A stays at its start, and B's gradient is corrected so that dW
// moves along the gradient of W: g <- g (A A^T + 1e-8 I)^-1 / s^2, as PEFT's optimiser for it does.
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class Lora final : public Method {
 public:
  struct Options : LowRankOptions {
    double loraplus_lr_ratio = 1;
    double loraplus_lr_embedding = 1e-6;
    bool lora_fa = false;
    bool lora_bias = false;

    void fields(FieldVisitor& f) {
      LowRankOptions::fields(f);
      f.field("loraplus_lr_ratio", loraplus_lr_ratio,
              "LoRA+: learning rate of B, biases and other vectors over that of the rest; 1: all learn alike.",
              above(0));
      f.field("loraplus_lr_embedding", loraplus_lr_embedding,
              "LoRA+: learning rate of A and B on embeddings, in place of learning_rate.", above(0));
      f.field("lora_fa", lora_fa, "Train B only, with its gradient corrected for A (LoRA-FA).");
      f.field("lora_bias", lora_bias, "A trained bias beside B.");
    }
  };
  explicit Lora(Options options) : options_(std::move(options)) { options_.check(); }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const override {
    const bool linear = layer.kind != LayerKind::embedding;
    refuse_unless(linear || !options_.lora_fa, "lora_fa", true, "false on an embedding: " + layer.name);
    refuse_unless(linear || !options_.lora_bias, "lora_bias", true, "false on an embedding: " + layer.name);
    std::vector<Param> params = options_.factors(layer, base, generator);
    params[0].trained = !options_.lora_fa;
    params[1].rate = options_.loraplus_lr_ratio;
    if (options_.lora_bias) {
      params.push_back({.name = "bias",
                        .file_name = "lora_B.bias",
                        .value = at::zeros({layer.d_out}, at::kFloat),
                        .rate = options_.loraplus_lr_ratio});
    }
    return params;
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    Update update = options_.update(layer, p, p.matrix("lora_A"));
    if (options_.lora_bias) update.bias = p["bias"];
    return update;
  }

  double dropout() const override { return options_.lora_dropout; }
  void check_training(const std::vector<LayerInfo>& layers) const override { options_.check_training(layers); }
  double vector_rate() const override { return options_.loraplus_lr_ratio; }
  double embedding_rate() const override {
    return options_.loraplus_lr_ratio == 1 ? 0 : options_.loraplus_lr_embedding;
  }

  CalibrationNeeds needs() const override { return options_.needs(); }
  Allotment allot(const std::vector<LayerInfo>& layers, const std::vector<Observed>& observed) const override {
    return options_.allot(layers, observed);
  }

  bool may_share() const override { return !options_.lora_fa; }

  void before_step(const LayerInfo& layer, Params& p) const override {
    if (!options_.lora_fa || !p["lora_B"].grad().defined()) return;
    const Tensor A = p["lora_A"], s = at::scalar_tensor(options_.scale(layer), A.options());
    const Tensor gram = at::mm(A, A.t()) + 1e-8 * at::eye(A.size(0), A.options());
    const Tensor& gradient = p["lora_B"].grad();
    gradient.copy_(at::mm(gradient, at::linalg_pinv(gram)) / s.square());
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_lora() {
  static const MethodSpec spec = make_spec<Lora>({
      .id = "lora",
      .title = "LoRA",
      .paper = "arXiv:2106.09685",
      .peft_type = "LORA",
      .in_peft = peft_lora(),
      .presets = {{"rslora", "rsLoRA", "arXiv:2312.03732", {{"use_rslora", true}}},
                  {"pissa", "PiSSA", "arXiv:2404.02948", {{"init_lora_weights", "pissa"}}},
                  {"olora", "OLoRA", "arXiv:2406.01775", {{"init_lora_weights", "olora"}}},
                  {"eva", "EVA", "arXiv:2410.07170", {{"init_lora_weights", "eva"}}},
                  {"corda", "CorDA", "arXiv:2406.05223", {{"init_lora_weights", "corda"}}},
                  {"lora_ga", "LoRA-GA", "arXiv:2407.05000", {{"init_lora_weights", "lora_ga"}}},
                  {"loraplus", "LoRA+", "arXiv:2402.12354", {{"loraplus_lr_ratio", 16.0}}},
                  {"lora_fa", "LoRA-FA", "arXiv:2308.03303", {{"lora_fa", true}}}},
      .own_options = {"loraplus_lr_ratio", "loraplus_lr_embedding", "lora_fa", "calibration_samples"},
      .ties_factors = true,
      .training_options = {"loraplus_lr_ratio", "loraplus_lr_embedding", "lora_fa"},
      .tensor_prefix = "lora_",
      .parameter_count = "r (d_in + d_out), r d_out with lora_fa, d_out more with lora_bias",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const int64_t factors = o.at("r").get<int64_t>() * (o.at("lora_fa") ? l.d_out : l.d_in + l.d_out);
            return factors + (o.at("lora_bias") ? l.d_out : 0);
          },
  });
  return spec;
}

}  // namespace deltaw
