// MoSLoRA: mixture of subspaces in low-rank adaptation. Wu et al. 2024, arXiv:2406.11909, eq. 5.
//
//   dW = (alpha / r) B M A
//
//   A [r, d_in]    uniform, bound sqrt(1 / d_in)
//   M [r, r]       the mixer: uniform, bound sqrt(1 / r); orthogonal; or the identity, which starts as LoRA
//   B [d_out, r]   zero
//
// Trained: r (d_in + d_out) + r^2 numbers a layer. Tensor names as the authors' fork of PEFT (wutaiqiang/MoSLoRA):
// lora_AB is the mixer. A mixer of zeros would never train, so there is none. With mixer_init "butterfly" M is the
// constant [[I, I], [I, I]] of section 3.2, which mixes two subspaces, trains and stores nothing, and has rank r / 2.
//
// Not in the paper: a rank budget on the rows of M, asked for by target_r. A row of zeros switches off a column of B.
#include "methods/budget.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class MosLora final : public Method {
 public:
  struct Options : LowRankOptions {
    std::string mixer_init = "kaiming";
    OptionalBudget budget;

    void fields(FieldVisitor& f) {
      LowRankOptions::fields(f);
      f.field("mixer_init", mixer_init, "Start of the mixer; butterfly is constant.",
              one_of({"kaiming", "orthogonal", "identity", "butterfly"}));
      budget.fields(f);
    }
  };
  explicit MosLora(Options options) : options_(std::move(options)) {
    options_.check();
    refuse_unless(!options_.follows_from_data() || !options_.budget.asked(), "target_r", options_.budget.target_r,
                  "left out with a start from data");
    if (!is_constant()) return;
    refuse_unless(options_.r % 2 == 0, "r", options_.r, "an even number for the butterfly mixer");
    refuse_unless(!options_.budget.asked(), "target_r", options_.budget.target_r,
                  "left out: the butterfly is constant");
  }

  std::vector<Param> declare(const LayerInfo& layer, const BaseView& base, at::Generator& generator) const override {
    const int64_t r = options_.rank(layer), kept = options_.budget.kept(layer, "lora_AB", r);
    std::vector<Param> params = options_.factors(layer, base, generator);
    params[1].value = params[1].value.narrow(1, 0, kept);
    const bool constant = is_constant();
    params.push_back({"lora_AB", "lora_AB.weight", mixer(r, generator).narrow(0, 0, kept), !constant, !constant});
    return params;
  }

  Update update(const LayerInfo& layer, const Params& p, const BaseView&) const override {
    return options_.update(layer, p, at::mm(p["lora_AB"], p["lora_A"]));
  }

  double dropout() const override { return options_.lora_dropout; }

  CalibrationNeeds needs() const override { return options_.needs(); }
  Allotment allot(const std::vector<LayerInfo>& layers, const std::vector<Observed>& observed) const override {
    return options_.allot(layers, observed);
  }

  std::optional<RankBudget> rank_budget() const override {
    return options_.budget.budget({"lora_AB", 0}, {{"lora_AB", 0}, {"lora_B", 1}}, options_.r);
  }

 private:
  bool is_constant() const { return options_.mixer_init == "butterfly"; }

  Tensor mixer(int64_t r, at::Generator& generator) const {
    if (options_.mixer_init == "identity") return at::eye(r, at::kFloat);
    if (options_.mixer_init == "orthogonal") return random_orthogonal(r, generator);
    if (is_constant()) {
      refuse_unless(r % 2 == 0, "rank_pattern", r, "even numbers for the butterfly mixer");
      return at::eye(r / 2, at::kFloat).repeat({2, 2});
    }
    return kaiming_uniform(r, r, generator);
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
      .parameter_count = "r (d_in + d_out) + r^2",
      .count =
          [](const LayerInfo& l, const Json& o) {
            const auto r = o.at("r").get<int64_t>();
            return r * (l.d_in + l.d_out) + (o.value("mixer_init", "") == "butterfly" ? 0 : r * r);
          },
  });
  return spec;
}

}  // namespace deltaw
