// The decoder that Llama and its relatives share, in GGUF files. Keys and what they mean: llama.cpp,
// src/llama-model.cpp.
#include <algorithm>
#include <cmath>

#include "deltaw/error.h"
#include "deltaw/gguf.h"
#include "models/decoder_gguf.h"
#include "models/gguf.h"

namespace deltaw {
namespace {

const std::vector<GgufModule>& usual_modules() {
  static const std::vector<GgufModule> modules = {
      {"token_embd", "model.embed_tokens"},
      {"output_norm", "model.norm"},
      {"output", "lm_head"},
      {"blk.{}.attn_norm", "model.layers.{}.input_layernorm"},
      {"blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"},
      {"blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"},
      {"blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"},
      {"blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"},
      {"blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"},
      {"blk.{}.attn_qkv", "model.layers.{}.self_attn.qkv_proj"},
      {"blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"},
      {"blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"},
      {"blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"},
      {"blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"},
      {"blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"},
  };
  return modules;
}

double number_or(const Json& values, const char* key, double otherwise) {
  const auto found = values.find(key);
  return found != values.end() && found->is_number() ? found->get<double>() : otherwise;
}

[[noreturn]] void refuse(const GgufFacts& facts, const std::string& key, const std::string& why) {
  throw Error({.id = "config.unsupported",
               .what = why,
               .where = facts.where + ", \"" + key + "\"",
               .fix = "convert the model again with llama.cpp's convert_hf_to_gguf.py, or take its checkpoint folder"});
}

/// The factors that each frequency is divided by; nothing where the file has none.
const std::vector<float>* factors_of(const GgufFacts& facts, const char* name) {
  const auto found = facts.vectors.find(name);
  if (found == facts.vectors.end() || found->second.empty()) return nullptr;
  const bool right = std::all_of(found->second.begin(), found->second.end(),
                                 [](float factor) { return std::isfinite(factor) && factor > 0; });
  if (!right) refuse(facts, name, "factors of rotary frequencies are finite and above 0");
  return &found->second;
}

Json list_of(const std::vector<float>& factors) {
  Json list = Json::array();
  for (const float factor : factors) list.push_back(meant(factor));
  return list;
}

/// Llama 3's factors by its formula, where those of the file are these. A file holds them alone: original
/// length and both ends of the ramp can be multiplied by anything, and every release has 1 and 4 for these.
std::optional<Json> as_llama3(const std::vector<float>& factors, double theta) {
  constexpr double kLow = 1, kHigh = 4, kExact = 2e-6;
  const double factor = *std::max_element(factors.begin(), factors.end());
  const auto matches = [&](double original) {
    for (size_t i = 0; i < factors.size(); ++i) {
      const double wave = 2 * M_PI * std::pow(theta, static_cast<double>(i) / static_cast<double>(factors.size()));
      const double expected = llama3_factor(wave, original, factor, kLow, kHigh);
      if (!(std::abs(factors[i] - expected) <= kExact * expected)) return false;
    }
    return true;
  };
  std::vector<int64_t> lengths = {8192};
  for (int64_t length = 16; length <= 1 << 20; length *= 2) lengths.push_back(length);
  for (const int64_t length : lengths) {
    if (!matches(static_cast<double>(length))) continue;
    return Json{{"rope_type", "llama3"},
                {"factor", meant(static_cast<float>(factor))},
                {"low_freq_factor", kLow},
                {"high_freq_factor", kHigh},
                {"original_max_position_embeddings", length}};
  }
  return std::nullopt;
}

/// A factor for each frequency, one list for short rows and one for long.
Json longrope(const std::vector<float>& shorter, const std::vector<float>& longer, const Json& original) {
  return {{"rope_type", "longrope"},
          {"short_factor", list_of(shorter)},
          {"long_factor", list_of(longer)},
          {"original_max_position_embeddings", original}};
}

Json stretched(const GgufFacts& facts, const Json& original) {
  const Json& values = facts.values;
  const std::string type =
      values.value("rope.scaling.type", Json()).is_string() ? values["rope.scaling.type"].get<std::string>() : "linear";
  const double factor = number_or(values, "rope.scaling.factor", number_or(values, "rope.scale_linear", 0));
  if (type == "none" || (type == "linear" && (factor == 0 || factor == 1))) return {{"rope_type", "default"}};
  if (type == "linear") return {{"rope_type", "linear"}, {"factor", factor}};
  if (type != "yarn") refuse(facts, "rope.scaling.type", "positions that turn by '" + type + "' are not read");
  if (const double share = number_or(values, "rope.scaling.yarn_ext_factor", 1); share != 1 && share != -1) {
    refuse(facts, "rope.scaling.yarn_ext_factor", "yarn with another share of extrapolation than 1 is not read");
  }
  Json rope = {{"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", original}};
  for (const auto& [key, name] : {std::pair{"yarn_beta_fast", "beta_fast"}, std::pair{"yarn_beta_slow", "beta_slow"}}) {
    const std::string full = std::string("rope.scaling.") + key;
    if (values.contains(full)) rope[name] = values[full];
  }
  return rope;
}

/// The factor on attention that longrope has where nobody names one; Ding et al. 2024, arXiv:2402.13753.
double usual_attention_factor(double length, double original) {
  return length <= original || original <= 1 ? 1 : std::sqrt(1 + std::log(length / original) / std::log(original));
}

/// rope_parameters: how positions turn.
Json rope_of(const Json& config, const GgufFacts& facts) {
  const double theta = number_or(facts.values, "rope.freq_base", 10000);
  const Json length = config.value("max_position_embeddings", Json());
  const Json original = facts.values.value("rope.scaling.original_context_length", length);
  Json rope;
  const std::vector<float>*factors = factors_of(facts, kRopeFactors), *longer = factors_of(facts, kLongRopeFactors),
        *shorter = factors_of(facts, kShortRopeFactors);
  if (factors) {
    const bool same = std::all_of(factors->begin(), factors->end(), [](float factor) { return factor == 1; });
    const auto llama3 = as_llama3(*factors, theta);
    rope = same ? Json{{"rope_type", "default"}} : llama3 ? *llama3 : longrope(*factors, *factors, length);
    if (!same && !llama3) rope["attention_factor"] = 1;
  } else if (longer && shorter) {
    rope = longrope(*shorter, *longer, original);
    const double usual = usual_attention_factor(number_or(config, "max_position_embeddings", 0),
                                                original.is_number() ? original.get<double>() : 0);
    const double own = number_or(facts.values, "rope.scaling.attn_factor", usual);
    if (std::abs(own - usual) > 1e-5 * usual) rope["attention_factor"] = own;
  } else {
    rope = stretched(facts, original);
  }
  rope["rope_theta"] = theta;
  const double turned = number_or(facts.values, "rope.dimension_count", 0);
  const double width =
      number_or(config, "head_dim", number_or(config, "hidden_size", 0) / number_or(config, "num_attention_heads", 1));
  if (turned > 0 && turned < width) rope["partial_rotary_factor"] = turned / width;
  return rope;
}

}  // namespace

double llama3_factor(double wavelength, double original, double factor, double low, double high) {
  const double smooth = std::clamp((original / wavelength - low) / (high - low), 0.0, 1.0);
  return 1 / ((1 - smooth) / factor + smooth);
}

GgufForm decoder_gguf(DecoderGguf own) {
  GgufForm form{.architecture = own.architecture,
                .modules = own.modules,
                .keys = {{"context_length", "max_position_embeddings"},
                         {"embedding_length", "hidden_size"},
                         {"block_count", "num_hidden_layers"},
                         {"feed_forward_length", "intermediate_size"},
                         {"attention.head_count", "num_attention_heads"},
                         {"attention.head_count_kv", "num_key_value_heads"},
                         {"attention.key_length", "head_dim"},
                         {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
                         {"attention.sliding_window", "sliding_window"}},
                .vectors = {kRopeFactors, kLongRopeFactors, kShortRopeFactors}};
  for (const GgufModule& module : usual_modules()) {
    const bool differs = std::any_of(form.modules.begin(), form.modules.end(),
                                     [&](const GgufModule& other) { return other.gguf == module.gguf; });
    if (!differs) form.modules.push_back(module);
  }
  form.own_head = own.own_head;
  form.describe = [own](const Json& config, GgufFacts& facts) {
    const ConfigValues values(config, facts.where);
    const DecoderConfig read = own.read(values);
    describe_decoder(read, values, own, facts);
    if (own.describe) own.describe(read, values, facts);
  };
  form.settle = [settle = std::move(own.settle)](Json& config, const GgufFacts& facts) {
    if (config.value("sliding_window", Json()) == 0) config["sliding_window"] = nullptr;
    if (settle) settle(config, facts);
    Json rope = rope_of(config, facts);
    config["rope_parameters"] = rope;
    // The same for those who do not know that key: transformers 4, mlx-lm.
    config["rope_theta"] = rope["rope_theta"];
    rope.erase("rope_theta");
    if (rope["rope_type"] != "default") config["rope_scaling"] = rope;
  };
  return form;
}

}  // namespace deltaw
