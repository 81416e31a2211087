// Prompt tuning: trained embeddings before the input. Lester et al. 2021, arXiv:2104.08691, section 2.
//
//   prompt_embeddings [n, d]   N(0, 1), the embeddings of n words drawn at random, or of a text's tokens
//
// The rows stand before the word embeddings and take positions of their own. A classifier that reads the first hidden
// state reads the first of them, which is that of [CLS] where BERT starts from a text. A text is cut or repeated to n
// tokens. Trained: n d numbers. Tensor, options and starts as HF PEFT's PROMPT_TUNING.
#include "core/patterns.h"
#include "methods/layerless.h"
#include "methods/low_rank.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

class PromptTuning final : public Layerless {
 public:
  struct Options {
    int64_t num_virtual_tokens = 20;
    std::string prompt_tuning_init = "RANDOM";
    std::string prompt_tuning_init_text;
    std::string tokenizer_name_or_path;

    void fields(FieldVisitor& f) {
      f.field("num_virtual_tokens", num_virtual_tokens, "Rows before the input.", at_least(1));
      f.field("prompt_tuning_init", prompt_tuning_init,
              "Start: N(0, 1), the embeddings of words drawn at random, or those of a text's tokens.",
              one_of({"RANDOM", "SAMPLE_VOCAB", "TEXT"}));
      f.field("prompt_tuning_init_text", prompt_tuning_init_text,
              "The text of the start TEXT, cut or repeated to num_virtual_tokens tokens.");
      f.field("tokenizer_name_or_path", tokenizer_name_or_path, "Whose tokenizer reads it; empty: the model's.");
    }
  };
  explicit PromptTuning(Options options) : options_(std::move(options)) {
    refuse_unless(!from_text() || !options_.prompt_tuning_init_text.empty(), "prompt_tuning_init_text", "",
                  "a text, where prompt_tuning_init is TEXT");
  }

  std::vector<Param> declare_whole(const ModelShape& model, at::Generator& generator) const override {
    const Tensor ids = start_ids(model, generator);
    return {{"prompt", "prompt_embeddings",
             ids.defined() ? at::embedding(model.word_embeddings, ids).to(at::kFloat)
                           : gaussian(options_.num_virtual_tokens, model.word_embeddings.size(1), 1, generator)}};
  }

  VirtualTokens virtual_tokens(const ModelShape&, const Params& whole) const override {
    return {.embeddings = whole["prompt"]};
  }

 private:
  bool from_text() const { return options_.prompt_tuning_init == "TEXT"; }

  // The words to start from: [num_virtual_tokens], or undefined.
  Tensor start_ids(const ModelShape& model, at::Generator& generator) const {
    const int64_t n = options_.num_virtual_tokens, words = model.word_embeddings.size(0);
    const std::string& text = options_.prompt_tuning_init_text;
    const bool to_be_read = !model.token_ids;  // PEFT writes a text that it did not use
    refuse_unless(from_text() || text.empty() || to_be_read, "prompt_tuning_init_text", text,
                  "one only where prompt_tuning_init is TEXT");
    if (options_.prompt_tuning_init == "SAMPLE_VOCAB") return at::randint(words, {n}, generator, at::kLong);
    if (!from_text() || to_be_read) return {};
    const Tensor ids = at::tensor(model.token_ids(text, options_.tokenizer_name_or_path), at::kLong);
    refuse_unless(ids.numel() > 0 && ops::host_integer(ids.max()) < words, "prompt_tuning_init_text", text,
                  "a text of the model's own tokens");
    return ids.repeat({(n + ids.numel() - 1) / ids.numel()}).narrow(0, 0, n);
  }

  Options options_;
};

}  // namespace

const MethodSpec& method_prompt_tuning() {
  static const MethodSpec spec = make_spec<PromptTuning>({
      .id = "prompt_tuning",
      .title = "Prompt tuning",
      .paper = "arXiv:2104.08691",
      .peft_type = "PROMPT_TUNING",
      .other_peft_types = {"P_TUNING"},  // its files hold what its network made: the same tensor
      .identity_at_init = false,
      .acts_on = {ActsOn::virtual_tokens},
      .parameter_count = "num_virtual_tokens d, once",
  });
  return spec;
}

}  // namespace deltaw
