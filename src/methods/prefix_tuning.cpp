// Prefix tuning: trained keys and values before those of every attention layer. Li and Liang 2021, arXiv:2101.00190,
// section 4, without the network that produces them in training.
//
//   prompt_embeddings [n, layers * 2 * d]   N(0, 1), or zero; a row holds layer by layer a key and a value of all key
//                                           heads, d numbers each
//
// The text's positions begin behind the prefix. Zeros change the attention too: a key of zeros takes a share of it.
// Trained: 2 n d numbers a layer of the model. Tensor and options as HF PEFT's PREFIX_TUNING with prefix_projection
// off.
#include "core/patterns.h"
#include "deltaw/error.h"
#include "methods/layerless.h"
#include "methods/low_rank.h"

namespace deltaw {
namespace {

class PrefixTuning final : public Layerless {
 public:
  struct Options {
    int64_t num_virtual_tokens = 20;
    Json init_weights;

    void fields(FieldVisitor& f) {
      f.field("num_virtual_tokens", num_virtual_tokens, "Keys and values before each layer's own.", at_least(1));
      f.field("init_weights", init_weights, "Start: null for N(0, 1), or \"zero\".");
    }
  };
  explicit PrefixTuning(Options options) : options_(std::move(options)) {
    const Json& start = options_.init_weights;
    refuse_unless(start.is_null() || start == "zero", "init_weights", start, "null or \"zero\"");
  }

  std::vector<Param> declare_whole(const ModelShape& model, at::Generator& generator) const override {
    if (model.prefix_width == 0) {
      throw Error({.id = "config.no-virtual-tokens",
                   .what = "the attention of this model has no place for keys and values before its own",
                   .where = "key \"method\"",
                   .fix = "prompt_tuning puts tokens before the input; other methods adapt layers"});
    }
    const int64_t n = options_.num_virtual_tokens, width = model.layers * 2 * model.prefix_width;
    return {{"prefix", "prompt_embeddings",
             options_.init_weights == "zero" ? zeros(n, width) : gaussian(n, width, 1, generator)}};
  }

  VirtualTokens virtual_tokens(const ModelShape& model, const Params& whole) const override {
    return {.prefix = whole["prefix"].view({-1, model.layers, 2, model.prefix_width})};
  }

 private:
  Options options_;
};

}  // namespace

const MethodSpec& method_prefix_tuning() {
  static const MethodSpec spec = make_spec<PrefixTuning>({
      .id = "prefix_tuning",
      .title = "Prefix tuning",
      .paper = "arXiv:2101.00190",
      .peft_type = "PREFIX_TUNING",
      .identity_at_init = false,
      .acts_on = {ActsOn::virtual_tokens},
      .parameter_count = "2 num_virtual_tokens d per layer of the model",
  });
  return spec;
}

}  // namespace deltaw
