// Prompt tuning: trained embeddings before the input. Lester et al. 2021, arXiv:2104.08691, section 2.
//
//   prompt_embeddings [n, d]   N(0, 1), or the embeddings of n words drawn at random
//
// The rows stand before the word embeddings and take positions of their own. A classifier that reads the first hidden
// state reads the first of them. Trained: n d numbers. Tensor and options as HF PEFT's PROMPT_TUNING; differs from it
// in that a prompt from a text is not made.
#include "methods/layerless.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class PromptTuning final : public Layerless {
 public:
  struct Options {
    int64_t num_virtual_tokens = 20;
    std::string prompt_tuning_init = "RANDOM";

    void fields(FieldVisitor& f) {
      f.field("num_virtual_tokens", num_virtual_tokens, "Rows before the input.", at_least(1));
      f.field("prompt_tuning_init", prompt_tuning_init, "Start: N(0, 1), or embeddings of words drawn at random.",
              one_of({"RANDOM", "SAMPLE_VOCAB"}));
    }
  };
  explicit PromptTuning(Options options) : options_(std::move(options)) {}

  std::vector<Param> declare_whole(const ModelShape& model, at::Generator& generator) const override {
    const int64_t n = options_.num_virtual_tokens, words = model.word_embeddings.size(0);
    const bool drawn = options_.prompt_tuning_init == "SAMPLE_VOCAB";
    return {{"prompt", "prompt_embeddings",
             drawn ? at::embedding(model.word_embeddings, at::randint(words, {n}, generator, at::kLong)).to(at::kFloat)
                   : gaussian(n, model.hidden, 1, generator)}};
  }

  VirtualTokens virtual_tokens(const ModelShape&, const Params& whole) const override {
    return {.embeddings = whole["prompt"]};
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_prompt_tuning() {
  static const MethodSpec spec = make_spec<PromptTuning>({
      .id = "prompt_tuning",
      .title = "Prompt tuning",
      .paper = "arXiv:2104.08691",
      .peft_type = "PROMPT_TUNING",
      .identity_at_init = false,
      .mergeable = false,
      .virtual_tokens = true,
      .on_layers = false,
      .parameter_count = "num_virtual_tokens d, once",
  });
  return spec;
}

}  // namespace deltaw
