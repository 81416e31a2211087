// GPT-2: Radford et al. 2019. Learned positions, LayerNorm before each sublayer, Conv1D layers. Names and dropouts as
// transformers' GPT2LMHeadModel.
#include <fmt/format.h>

#include <cmath>

#include "deltaw/gguf.h"
#include "models/causal.h"
#include "models/family_input.h"
#include "models/text_decoder.h"

namespace deltaw {
namespace {

struct Gpt2Config {
  int64_t vocab_size = 0, n_positions = 0, n_embd = 0, n_layer = 0, n_head = 0, n_inner = 0;
  double layer_norm_epsilon = 1e-5, initializer_range = 0.02;
  double embd_pdrop = 0.1, attn_pdrop = 0.1, resid_pdrop = 0.1, token_dropout = 0.1;
  bool scale_attn_weights = true, scale_attn_by_inverse_layer_idx = false, reorder_and_upcast_attn = false;
  bool tie_word_embeddings = true;
  std::string activation_function = "gelu_new";

  explicit Gpt2Config(const ConfigValues& values)
      : vocab_size(values.size("vocab_size")),
        n_positions(values.size_or("n_positions", 1024)),
        n_embd(values.size("n_embd")),
        n_layer(values.layers("n_layer")),
        n_head(values.size("n_head")),
        n_inner(values.size_or("n_inner", 4 * n_embd)) {
    layer_norm_epsilon = values.not_negative_or("layer_norm_epsilon", layer_norm_epsilon);
    initializer_range = values.not_negative_or("initializer_range", initializer_range);
    embd_pdrop = values.dropout_or("embd_pdrop", embd_pdrop);
    attn_pdrop = values.dropout_or("attn_pdrop", attn_pdrop);
    resid_pdrop = values.dropout_or("resid_pdrop", resid_pdrop);
    token_dropout = deltaw::token_dropout(values);
    scale_attn_weights = values.get_or("scale_attn_weights", scale_attn_weights);
    scale_attn_by_inverse_layer_idx = values.get_or("scale_attn_by_inverse_layer_idx", scale_attn_by_inverse_layer_idx);
    reorder_and_upcast_attn = values.get_or("reorder_and_upcast_attn", reorder_and_upcast_attn);
    tie_word_embeddings = values.get_or("tie_word_embeddings", tie_word_embeddings);
    activation_function = values.get_or<std::string>("activation_function", activation_function);
    values.accept_only("add_cross_attention", false);
    if (n_embd % n_head != 0) values.refuse("n_head", fmt::format("a divisor of n_embd {}", n_embd));
  }
};

Block load_block(Loader& load, const Gpt2Config& c, const ops::Activation& activation, int64_t index) {
  const std::string name = fmt::format("transformer.h.{}.", index);
  const auto linear = [&](const std::string& own, int64_t d_out, int64_t d_in) {
    return load.linear(name + own, d_out, d_in, {.kind = LayerKind::conv1d});
  };
  const auto norm = [&](const std::string& own) { return load.layer_norm(name + own, c.n_embd, c.layer_norm_epsilon); };
  const int64_t width = c.n_embd / c.n_head;
  double scale = c.scale_attn_weights ? 1 / std::sqrt(static_cast<double>(width)) : 1;
  if (c.scale_attn_by_inverse_layer_idx) scale /= static_cast<double>(index + 1);
  Block b{.norms_first = true};
  b.attention_norm = norm("ln_1");
  b.attention = {
      .qkv = {linear("attn.c_attn", 3 * c.n_embd, c.n_embd)},
      .heads = c.n_head,
      .key_heads = c.n_head,
      .width = width,
      .form = {.scale = scale, .dropout = c.attn_pdrop, .float32_scores = c.reorder_and_upcast_attn},
      .output = {.layer = linear("attn.c_proj", c.n_embd, c.n_embd), .dropout = c.resid_pdrop},
  };
  b.feed_forward_norm = norm("ln_2");
  b.feed_forward = {
      .inner = {linear("mlp.c_fc", c.n_inner, c.n_embd)},
      .activation = activation,
      .output = {.layer = linear("mlp.c_proj", c.n_embd, c.n_inner), .dropout = c.resid_pdrop},
  };
  return b;
}

class Gpt2 final : public DecoderModel {
 public:
  Gpt2(const FamilyInput& input, const Gpt2Config& c) {
    const ops::Activation activation(c.activation_function, "activation_function");
    Loader load(*this, input, "transformer");
    const HeadForm head{.vocab_size = c.vocab_size,
                        .tied = c.tie_word_embeddings,
                        .initializer_range = c.initializer_range,
                        .token_dropout = c.token_dropout};
    decoder_ = {.words = load_words(load, head, c.n_embd),
                .positions = load.embedding("transformer.wpe", c.n_positions, c.n_embd),
                .embedding_dropout = c.embd_pdrop};
    for (int64_t i = 0; i < c.n_layer; ++i) decoder_.blocks.push_back(load_block(load, c, activation, i));
    decoder_.norm = load.layer_norm("transformer.ln_f", c.n_embd, c.layer_norm_epsilon);
    load_head(load, head);
    load.finish({}, {".attn.bias", ".attn.masked_bias"});
    settle(c.n_positions);
  }
};

/// What a file says of the model.
void describe(const Json& json, GgufFacts& facts) {
  const ConfigValues values(json, facts.where);
  const Gpt2Config config(values);
  if (config.activation_function != "gelu_new" && config.activation_function != "gelu_pytorch_tanh") {
    values.refuse("activation_function", "llama.cpp computes gelu_new; write a folder (--to hf)");
  }
  values.accept_only("scale_attn_weights", true);
  values.accept_only("scale_attn_by_inverse_layer_idx", false);
  facts.values["block_count"] = config.n_layer;
  facts.values["context_length"] = config.n_positions;
  facts.values["embedding_length"] = config.n_embd;
  facts.values["feed_forward_length"] = config.n_inner;
  facts.values["attention.head_count"] = config.n_head;
  facts.values["attention.layer_norm_epsilon"] = config.layer_norm_epsilon;
}

const GgufForm& gguf() {
  constexpr GgufLayout kTurned = GgufLayout::transposed;
  static const GgufForm form = {
      .architecture = "gpt2",
      .modules = {{"token_embd", "transformer.wte"},
                  {"position_embd", "transformer.wpe", GgufLayout::same, /*wide=*/true},
                  {"output_norm", "transformer.ln_f"},
                  {"output", "lm_head"},
                  {"blk.{}.attn_norm", "transformer.h.{}.ln_1"},
                  {"blk.{}.attn_qkv", "transformer.h.{}.attn.c_attn", kTurned},
                  {"blk.{}.attn_output", "transformer.h.{}.attn.c_proj", kTurned},
                  {"blk.{}.ffn_norm", "transformer.h.{}.ln_2"},
                  {"blk.{}.ffn_up", "transformer.h.{}.mlp.c_fc", kTurned},
                  {"blk.{}.ffn_down", "transformer.h.{}.mlp.c_proj", kTurned}},
      .keys = {{"context_length", "n_positions"},
               {"embedding_length", "n_embd"},
               {"block_count", "n_layer"},
               {"attention.head_count", "n_head"},
               {"attention.layer_norm_epsilon", "layer_norm_epsilon"}},
      .settle =
          [](Json& config, const GgufFacts& facts) {
            config["n_ctx"] = config["n_positions"];  // which others ask for
            // llama.cpp's converter writes 4 n_embd whatever it is.
            const auto down = facts.shapes.find("blk.0.ffn_down.weight");
            if (down != facts.shapes.end() && down->second.size() == 2) config["n_inner"] = down->second[1];
          },
      .describe = describe,
  };
  return form;
}

}  // namespace

const FamilySpec& family_gpt2() {
  static const FamilySpec spec = {
      .model_type = "gpt2",
      .heads = {{.task_type = "CAUSAL_LM", .architecture = "GPT2LMHeadModel", .module = "lm_head"},
                {.task_type = "SEQ_CLS",
                 .architecture = "GPT2ForSequenceClassification",
                 .module = "score",
                 .weight = "score.weight",
                 .problem_type = true},
                {.task_type = "TOKEN_CLS",
                 .architecture = "GPT2ForTokenClassification",
                 .module = "classifier",
                 .weight = "classifier.weight"}},
      .word_embeddings = "transformer.wte",
      .lora_target_modules = {"c_attn"},
      .ia3_target_modules = {"c_attn", "mlp.c_proj"},
      .ia3_feedforward_modules = {"mlp.c_proj"},
      .sublayer_outputs = {"c_proj"},
      .feedforward_outputs = {"mlp.c_proj"},
      .load = [](const FamilyInput& input) { return std::make_unique<Gpt2>(input, Gpt2Config(config_of(input))); },
      .gguf = &gguf(),
      .is_decoder = true,
  };
  return spec;
}

}  // namespace deltaw
