// MoSLoRA: mixture of subspaces in low-rank adaptation. Wu et al. 2024, arXiv:2406.11909, eq. 5.
//
//   dW = (alpha / r) B M A
//
//   A [r, d_in]    uniform, bound sqrt(1 / d_in)
//   M [r, r]       the mixer, started as mixer_init says
//   B [d_out, r]   zero
//
// Trained: r (d_in + d_out) + r^2 numbers a layer. Tensor names as the authors' fork of PEFT (wutaiqiang/MoSLoRA):
// lora_AB is the mixer. Their starts: kaiming (uniform, bound sqrt(1 / r)), orthogonal, xavier (uniform, bound
// sqrt(3 / r)), normal (variance 1), and the identity, which starts as LoRA. Theirs of zeros would never train.
//
// With mixer_init "butterfly" M is the constant of section 3.2, n x n blocks that are all the identity of r / n. Then
// dW = (alpha / r) (B_1 + ... + B_n) (A_1 + ... + A_n) over the n subspaces, of rank r / n, and is computed so.
//
// Not in the paper: a rank budget on the rows of M, asked for by target_r. A row of zeros switches off a column of B.
#include <fmt/format.h>

#include "methods/budget.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class MosLora final : public Method {
 public:
  struct Options : LowRankOptions {
    std::string mixer_init = "kaiming";
    int64_t mixer_subspaces = 2;
    OptionalBudget budget;

    void fields(FieldVisitor& f) {
      LowRankOptions::fields(f);
      f.field("mixer_init", mixer_init,
              "Start of the trained mixer; butterfly: a constant one, which is not trained and sums up subspaces.",
              one_of({"kaiming", "orthogonal", "xavier", "normal", "identity", "butterfly"}));
      f.field("mixer_subspaces", mixer_subspaces,
              "Subspaces of the butterfly (the paper has 2 and 4): divides r, and the update has rank r / subspaces.",
              at_least(2));
      budget.fields(f);
    }
  };
  explicit MosLora(Options options) : options_(std::move(options)) {
    options_.check();
    refuse_unless(!options_.follows_from_data() || !options_.budget.asked(), "target_r", options_.budget.target_r,
                  "left out with a start from data");
    refuse_unless(is_constant() || options_.mixer_subspaces == Options().mixer_subspaces, "mixer_subspaces",
                  options_.mixer_subspaces, "left out: only mixer_init butterfly has subspaces");
    if (!is_constant()) return;
    check_divides("r", options_.r);
    refuse_unless(!options_.budget.asked(), "target_r", options_.budget.target_r,
                  "left out: the butterfly is constant");
  }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const override {
    const int64_t r = options_.rank(layer), kept = options_.budget.kept(layer, "lora_AB", r);
    std::vector<Param> params = options_.factors(layer, base, generator);
    refuse_unless(params[0].value.size(0) == r, "r", r, "at most the width of " + layer.name);
    if (is_constant()) {
      check_divides("rank_pattern", r);
      return params;
    }
    params[1].value = params[1].value.narrow(1, 0, kept);
    params.push_back({"lora_AB", "lora_AB.weight", mixer(r, generator).narrow(0, 0, kept)});
    return params;
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    if (is_constant()) {
      const Tensor &A = p["lora_A"], &B = p["lora_B"];
      const int64_t n = options_.mixer_subspaces, rank = A.size(0) / n;
      return options_.update(layer, p, B.view({-1, n, rank}).sum(1), A.view({n, rank, -1}).sum(0));
    }
    return options_.update(layer, p, at::mm(p["lora_AB"], p["lora_A"]));
  }

  double dropout() const override { return options_.lora_dropout; }

  void check_training(const std::vector<LayerInfo>& layers) const override { options_.check_training(layers); }

  CalibrationNeeds needs() const override { return options_.needs(); }
  Allotment allot(const std::vector<LayerInfo>& layers, const std::vector<Observed>& observed) const override {
    return options_.allot(layers, observed);
  }

  std::optional<RankBudget> rank_budget() const override {
    return options_.budget.budget({"lora_AB", 0}, {{"lora_AB", 0}, {"lora_B", 1}}, options_.r);
  }

 private:
  bool is_constant() const { return options_.mixer_init == "butterfly"; }

  void check_divides(const char* key, int64_t r) const {
    refuse_unless(r % options_.mixer_subspaces == 0, key, r,
                  fmt::format("a multiple of the {} subspaces that the butterfly sums up", options_.mixer_subspaces));
  }

  Tensor mixer(int64_t r, at::Generator& generator) const {
    if (options_.mixer_init == "identity") return at::eye(r, at::kFloat);
    if (options_.mixer_init == "orthogonal") return random_orthogonal(r, generator);
    if (options_.mixer_init == "normal") return gaussian(r, r, 1, generator);
    const Tensor kaiming = kaiming_uniform(r, r, generator);
    return options_.mixer_init == "xavier" ? kaiming * std::sqrt(3.0) : kaiming;
  }

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
      .other_peft_types = {"LORA"},  // its authors' files
      .training_options = BudgetOptions::training_options(),
      .tensor_prefix = "lora_",
      .parameter_count = "r (d_in + d_out) + r^2, without r^2 for the butterfly",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const auto r = o.at("r").get<int64_t>();
            return r * (l.d_in + l.d_out) + (o.value("mixer_init", "") == "butterfly" ? 0 : r * r);
          },
  });
  return spec;
}

}  // namespace deltaw
