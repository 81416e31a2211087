// The decoder that Llama and its relatives share, on its way into a GGUF file. Keys and what llama.cpp computes by
// them: its conversion scripts and src/llama-model.cpp.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "deltaw/error.h"
#include "models/decoder_gguf.h"

namespace deltaw {
namespace {

std::vector<float> numbers(const ConfigValues& rope, const char* key) {
  return rope.json().at(key).get<std::vector<float>>();
}

void describe_llama3(const Rotary& rotary, const ConfigValues& rope, GgufFacts& facts) {
  const double theta = rope.positive("rope_theta"), factor = rope.positive("factor");
  const auto original = static_cast<double>(rope.size("original_max_position_embeddings"));
  std::vector<float>& factors = facts.vectors[kRopeFactors];
  for (int64_t i = 0; i < rotary.width(); i += 2) {
    const double wave = 2 * M_PI * std::pow(theta, static_cast<double>(i) / static_cast<double>(rotary.width()));
    factors.push_back(static_cast<float>(
        llama3_factor(wave, original, factor, rope.positive("low_freq_factor"), rope.positive("high_freq_factor"))));
  }
}

void describe_longrope(const Rotary& rotary, const ConfigValues& rope, GgufFactors factors, GgufFacts& facts) {
  const std::vector<float> longer = numbers(rope, "long_factor"), shorter = numbers(rope, "short_factor");
  if (factors == GgufFactors::any && longer == shorter && rotary.attention_factor() == 1) {
    facts.vectors[kRopeFactors] = longer;
    return;
  }
  facts.vectors[kLongRopeFactors] = longer;
  facts.vectors[kShortRopeFactors] = shorter;
  facts.values["rope.scaling.attn_factor"] = rotary.attention_factor();
  facts.values["rope.scaling.original_context_length"] = rope.size("original_max_position_embeddings");
  if (factors == GgufFactors::any) facts.values["rope.scaling.type"] = "longrope";
}

/// llama.cpp computes the factor on attention itself, and rounds the ends of the ramp.
void describe_yarn(const DecoderConfig& config, const ConfigValues& rope, GgufFacts& facts) {
  const int64_t original = rope.size("original_max_position_embeddings");
  const double factor =
      rope.positive_or("factor", static_cast<double>(config.max_position_embeddings) / static_cast<double>(original));
  const double usual = factor <= 1 ? 1 : 0.1 * std::log(factor) + 1, own = config.rotary->attention_factor();
  if (std::abs(own - usual) > 1e-6) {
    refuse_in_gguf(
        facts, "attention_factor",
        fmt::format("positions turn by yarn with a factor of {} on attention, and llama.cpp takes {}", own, usual));
  }
  if (!rope.get_or("truncate", true)) {
    refuse_in_gguf(facts, "truncate", "positions turn by yarn with a ramp whose ends are not whole");
  }
  facts.values["rope.scaling.type"] = "yarn";
  facts.values["rope.scaling.factor"] = factor;
  facts.values["rope.scaling.original_context_length"] = original;
  for (const auto& [key, name] :
       {std::pair{"attention_factor", "rope.scaling.yarn_attn_factor"},
        std::pair{"beta_fast", "rope.scaling.yarn_beta_fast"}, std::pair{"beta_slow", "rope.scaling.yarn_beta_slow"}}) {
    if (const double value = rope.get_or(key, 0.0); value != 0) facts.values[name] = value;
  }
}

void describe_turns(const DecoderConfig& config, const ConfigValues& values, GgufFactors factors, GgufFacts& facts) {
  const ConfigValues rope = Rotary::parameters(values, config.max_position_embeddings);
  const auto type = rope.get<std::string>("rope_type");
  facts.values["rope.freq_base"] = rope.positive("rope_theta");
  if (type == "linear") {
    facts.values["rope.scaling.type"] = type;
    facts.values["rope.scaling.factor"] = rope.positive("factor");
  } else if (type == "dynamic") {
    facts.lost.push_back(
        fmt::format("how positions beyond {} are stretched (rope_type dynamic)", config.max_position_embeddings));
  } else if (type == "yarn") {
    describe_yarn(config, rope, facts);
  } else if (type == "llama3" && factors == GgufFactors::any) {
    describe_llama3(*config.rotary, rope, facts);
  } else if (type == "longrope" && factors != GgufFactors::none) {
    describe_longrope(*config.rotary, rope, factors, facts);
  } else if (type != "default") {
    refuse_in_gguf(facts, "rope_type", fmt::format("llama.cpp has no {} for models of this architecture", type));
  }
}

}  // namespace

void refuse_in_gguf(const GgufFacts& facts, const std::string& key, const std::string& why) {
  throw Error({.id = "config.unsupported",
               .what = "the model cannot become a GGUF file: " + why,
               .where = facts.where + ", key \"" + key + "\"",
               .fix = "write a folder (--to hf), and run it with transformers or deltaw"});
}

void lose_windows(const DecoderConfig& config, GgufFacts& facts) {
  const bool any = std::find(config.windowed.begin(), config.windowed.end(), true) != config.windowed.end();
  if (any) facts.lost.push_back(fmt::format("the window of {} tokens (sliding_window)", config.window));
}

void need_usual_heads(const DecoderConfig& config, const GgufFacts& facts) {
  if (config.head_dim * config.num_attention_heads == config.hidden_size) return;
  refuse_in_gguf(facts, "head_dim",
                 fmt::format("llama.cpp takes heads of hidden_size / num_attention_heads numbers, and these have {}",
                             config.head_dim));
}

void need_no_biases(const DecoderConfig& config, const GgufFacts& facts) {
  if (config.qkv_bias || config.o_bias) refuse_in_gguf(facts, "attention_bias", "llama.cpp has none of these biases");
}

void describe_turned_pairs(const DecoderConfig& config, const ConfigValues&, GgufFacts& facts) {
  facts.values["attention.key_length"] = config.head_dim;
  facts.values["attention.value_length"] = config.head_dim;
  facts.values["vocab_size"] = config.vocab_size;
  facts.values["rope.dimension_count"] = config.head_dim;
  lose_windows(config, facts);
}

void describe_decoder(const DecoderConfig& config, const ConfigValues& values, const DecoderGguf& form,
                      GgufFacts& facts) {
  if (std::find(form.activations.begin(), form.activations.end(), config.hidden_act) == form.activations.end()) {
    refuse_in_gguf(facts, "hidden_act",
                   fmt::format("llama.cpp computes {} for this architecture, and the model has {}",
                               fmt::join(form.activations, " or "), config.hidden_act));
  }
  Json& own = facts.values;
  own["block_count"] = config.num_hidden_layers;
  own["context_length"] = config.max_position_embeddings;
  own["embedding_length"] = config.hidden_size;
  own["feed_forward_length"] = config.intermediate_size;
  own["attention.head_count"] = config.num_attention_heads;
  own["attention.head_count_kv"] = config.num_key_value_heads;
  describe_turns(config, values, form.factors, facts);
  own["attention.layer_norm_rms_epsilon"] = config.rms_norm_eps;
  if (values.has("head_dim") || config.head_dim * config.num_attention_heads != config.hidden_size) {
    own["attention.key_length"] = config.head_dim;
    own["attention.value_length"] = config.head_dim;
  }
}

}  // namespace deltaw
