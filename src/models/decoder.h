// The decoder that Llama and its relatives share (Touvron et al. 2023, arXiv:2302.13971): rotary positions, grouped
// heads, RMSNorm before each sublayer, a gated feed-forward. A family says in its own file where it differs.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/gguf.h"
#include "deltaw/model.h"
#include "models/config_values.h"
#include "models/family_input.h"
#include "models/loader.h"
#include "models/rotary.h"
#include "models/text_decoder.h"

namespace deltaw {

/// What transformers' configuration class of a family assumes where config.json is silent.
struct DecoderDefaults {
  int64_t max_position_embeddings = 2048;
  int64_t num_key_value_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  int64_t pad_token_id = -1;    // -1: none
  bool partial_rotary = false;  // the family knows partial_rotary_factor
};

struct DecoderConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  int64_t padding_idx = -1;  // the embeddings' row for padding, or -1
  bool tie_word_embeddings = false;
  std::string hidden_act = "silu";
  double attention_dropout = 0;
  double initializer_range = 0.02;
  double token_dropout = 0.1;             // of a classifier of tokens
  bool token_classification_bias = true;  // that it has one
  std::optional<Rotary> rotary;

  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norms = false;                            // RMSNorm over each head's queries and keys
  bool fused = false;                               // qkv_proj and gate_up_proj are one layer each
  bool norms_behind = false;                        // a further norm behind each sublayer
  double norm_offset = 0;                           // added to the norms' weights
  double resid_pdrop = 0;                           // dropout behind each sublayer
  bool scaled_embeddings = false;                   // times sqrt(hidden_size)
  double attention_scale = 0;                       // 0: 1 / sqrt(head_dim)
  double attention_softcap = 0, final_softcap = 0;  // 0: none
  int64_t window = 0;                               // tokens that a layer with a window sees
  std::vector<bool> windowed;                       // by layer; empty: none

  /// The keys that all families have. Throws config.bad-model and config.unsupported.
  static DecoderConfig from_json(const ConfigValues& values, const DecoderDefaults& defaults);
  /// Which layers have a window: layer_types where config.json has it, else what `usual` says of a layer.
  void set_windows(const ConfigValues& values, int64_t width, const std::function<bool(int64_t)>& usual);
  /// The same for Qwen's keys: use_sliding_window, and from layer max_window_layers on.
  void set_upper_windows(const ConfigValues& values);
};

class Decoder final : public DecoderModel {
 public:
  Decoder(const FamilyInput& input, const DecoderConfig& config);
};

/// Llama's rows of queries and keys, which llama.cpp turns by neighbours.
inline const std::vector<GgufModule> kTurnedPairs = {
    {"blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", GgufLayout::query_pairs},
    {"blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", GgufLayout::key_pairs}};

/// Which stretched frequencies llama.cpp takes as factors from a file.
enum class GgufFactors { none, longrope, any };

/// A family of this decoder in GGUF files.
struct DecoderGguf {
  std::string architecture;
  DecoderConfig (*read)(const ConfigValues& values);                      // as the family loads it
  std::vector<GgufModule> modules = {};                                   // that differ
  std::function<void(Json& config, const GgufFacts& facts)> settle = {};  // what else config.json holds
  std::function<void(const DecoderConfig& config, const ConfigValues& values, GgufFacts& facts)> describe =
      {};  // and a file
  GgufFactors factors = GgufFactors::none;
  std::vector<std::string> activations = {"silu", "swish"};  // that llama.cpp computes
  bool own_head = true;                                      // as in GgufForm
};
GgufForm decoder_gguf(DecoderGguf own);

/// The spec of a family of this decoder: what `own` leaves open are the names of the decoder's modules.
FamilySpec decoder_family(FamilySpec own);

}  // namespace deltaw
