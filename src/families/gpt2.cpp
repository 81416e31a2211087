// GPT-2: Radford et al. 2019. Learned positions, LayerNorm before each sublayer, Conv1D layers. Names and dropouts as
// transformers' GPT2LMHeadModel.
#include <fmt/format.h>

#include <cmath>

#include "deltaw/error.h"
#include "deltaw/gguf.h"
#include "models/causal.h"
#include "models/config_values.h"
#include "models/family_input.h"
#include "models/loader.h"
#include "ops/activations.h"
#include "ops/checkpoint.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

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

class Gpt2 final : public Model {
 public:
  explicit Gpt2(const FamilyInput& input, const ConfigValues& values)
      : config_(values), activation_(config_.activation_function, "activation_function") {
    const Gpt2Config& c = config_;
    Loader load(*this, input, "transformer");
    const std::string &words = load.family().word_embeddings, &head = load.head_spec().module;
    word_ = c.tie_word_embeddings ? load.tied_embedding(words, "lm_head", c.vocab_size, c.n_embd)
                                  : load.word_embedding(words, c.vocab_size, c.n_embd);
    position_ = load.embedding("transformer.wpe", c.n_positions, c.n_embd);
    for (int64_t i = 0; i < c.n_layer; ++i) load_block(load, fmt::format("transformer.h.{}.", i));
    norm_ = load.layer_norm("transformer.ln_f", c.n_embd, c.layer_norm_epsilon);
    if (load.head_spec().has_labels()) {
      reads_tokens_ = load.head_spec().task_type != "SEQ_CLS";
      score_ = load.head(head, num_labels(), c.n_embd, c.initializer_range, /*bias=*/reads_tokens_);
    } else if (c.tie_word_embeddings) {
      lm_head_ = load.tied_head(head, *word_);
    } else {
      lm_head_ = load.word_head(head, c.vocab_size, c.n_embd);
    }
    load.finish({}, {".attn.bias", ".attn.masked_bias"});
    vocab_size_ = word_->weight.value.size(0);
    max_positions_ = c.n_positions;
    position_table_ = true;
    shape_ = {.layers = c.n_layer,
              .hidden = c.n_embd,
              .heads = c.n_head,
              .prefix_heads = c.n_head,
              .prefix_width = c.n_embd,
              .word_embeddings = word_->weight.value};
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    const CausalPass pass = causal_pass(input, 0, call);
    Tensor x = ops::dropout(embed(input, pass, call), config_.embd_pdrop, call);
    for (int64_t i = 0; i < config_.n_layer; ++i) {
      const auto block = [this, i, pass](const std::vector<Tensor>& inputs, Call& own) {
        return run_block(inputs[0], i, inputs[1], pass, own);
      };
      x = ops::checkpointed(block, {x, pass.prefix_of(i)}, call);
    }
    if (pass.prompt.defined()) x = x.narrow(1, pass.prompt.size(0), input.input_ids.size(1));
    x = ops::normalised(x, *norm_, call);
    return reads_tokens_ ? x : last_tokens(x, input);
  }

  Tensor logits(const Tensor& features, Call& call) const override {
    if (!score_) return ops::linear(features, *lm_head_, call);
    return ops::linear(reads_tokens_ ? ops::dropout(features, config_.token_dropout, call) : features, *score_, call);
  }

 private:
  struct Block {
    const Norm *ln_1, *ln_2;
    const Linear *c_attn, *attention_output, *c_fc, *mlp_output;
  };

  void load_block(Loader& load, const std::string& p) {
    const Gpt2Config& c = config_;
    constexpr LinearForm kForm{.kind = LayerKind::conv1d};
    Block b{};
    b.ln_1 = load.layer_norm(p + "ln_1", c.n_embd, c.layer_norm_epsilon);
    b.c_attn = load.linear(p + "attn.c_attn", 3 * c.n_embd, c.n_embd, kForm);
    b.attention_output = load.linear(p + "attn.c_proj", c.n_embd, c.n_embd, kForm);
    b.ln_2 = load.layer_norm(p + "ln_2", c.n_embd, c.layer_norm_epsilon);
    b.c_fc = load.linear(p + "mlp.c_fc", c.n_inner, c.n_embd, kForm);
    b.mlp_output = load.linear(p + "mlp.c_proj", c.n_embd, c.n_inner, kForm);
    blocks_.push_back(b);
  }

  Tensor embed(const ModelInput& input, const CausalPass& pass, const Call& call) const {
    const int64_t end = pass.positions.max().item<int64_t>() + 1;
    if (end > config_.n_positions) {
      throw Error({.id = "data.too-long",
                   .what = fmt::format("a row reaches position {}, the model has {}", end, config_.n_positions),
                   .where = "the batch",
                   .fix = fmt::format("--max_length {}", config_.n_positions)});
    }
    Tensor words = ops::embedding(input.input_ids, *word_, call);
    if (pass.prompt.defined()) {
      words = at::cat({pass.prompt.to(words.scalar_type()).expand({words.size(0), -1, -1}), words}, 1);
    }
    return words + ops::embedding(pass.positions, *position_, call);
  }

  Tensor run_block(const Tensor& input, int64_t index, const Tensor& prefix, const CausalPass& pass, Call& call) const {
    const Block& block = blocks_[index];
    const auto added = [&](const Tensor& output, const Linear& last) {
      return ops::mapped_output(ops::dropout(output, config_.resid_pdrop, call), last, call);
    };
    const Tensor mixed = attend(ops::normalised(input, *block.ln_1, call), index, prefix, pass, call);
    const auto [x, fed] = ops::add_normalised(added(mixed, *block.attention_output), input, *block.ln_2, call);
    const Tensor inner = ops::linear(fed, *block.c_fc, call);
    return x + added(ops::activated_linear(activation_, inner, {}, *block.mlp_output, call), *block.mlp_output);
  }

  Tensor attend(const Tensor& x, int64_t index, const Tensor& prefix, const CausalPass& pass, Call& call) const {
    const Gpt2Config& c = config_;
    const Block& block = blocks_[index];
    const int64_t width = c.n_embd / c.n_head;
    std::vector<Tensor> qkv = ops::linear(x, *block.c_attn, call).chunk(3, -1);
    for (Tensor& part : qkv) part = part.unflatten(-1, {c.n_head, width}).transpose(1, 2);
    const auto [k, v] = with_past(index, qkv[1], qkv[2], prefix, call);
    const double scale = c.scale_attn_weights ? 1 / std::sqrt(static_cast<double>(width)) : 1;
    const Tensor mixed =
        ops::attention(qkv[0], k, v, pass.full,
                       {.scale = c.scale_attn_by_inverse_layer_idx ? scale / static_cast<double>(index + 1) : scale,
                        .dropout = c.attn_pdrop,
                        .float32_scores = c.reorder_and_upcast_attn},
                       call);
    return ops::linear(mixed.transpose(1, 2).flatten(2), *block.attention_output, call);
  }

  Gpt2Config config_;
  const Embedding *word_ = nullptr, *position_ = nullptr;
  const Norm* norm_ = nullptr;
  const Linear* lm_head_ = nullptr;  // or, of a classifier:
  const Linear* score_ = nullptr;
  bool reads_tokens_ = true;  // each of them, or a row's last one
  std::vector<Block> blocks_;
  ops::Activation activation_;
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
      .load = [](const FamilyInput& input) { return std::make_unique<Gpt2>(input, config_of(input)); },
      .gguf = &gguf(),
      .is_decoder = true,
  };
  return spec;
}

}  // namespace deltaw
