// The text encoders of CLIP (Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/model.h"
#include "models/loader.h"
#include "models/text_encoder.h"
#include "models/two_towers.h"

namespace deltaw {

struct ClipTextConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t intermediate_size = 0;
  int64_t max_position_embeddings = 0;
  double layer_norm_eps = 1e-5;
  double attention_dropout = 0;
  std::string hidden_act;
  int64_t eos_token_id = 0;
  int64_t head_size = 0;  // of the dense layer behind the pooled token; 0: there is none

  // What a family sets.
  bool causal = true;  // else every token sees all, padding too
  bool last = false;   // the last token of a row is pooled, padding or not; else the first eos_token_id

  /// Throws config.* naming the key for what is missing, of the wrong type or not implemented.
  static ClipTextConfig from_json(const ConfigValues& values);
};

class ClipTextEncoder final : public TextEncoder {
 public:
  ClipTextEncoder(Loader& load, const ClipTextConfig& config, const std::string& base);

 private:
  Tensor embed(const ModelInput& input, const VirtualTokens& before, Pass& pass, Call& call) const override;
  Tensor run(const Tensor& x, BlockInput input, const Pass& pass, Call& call) const override;

  bool causal_;
  const Embedding* positions_;
};

/// Such an encoder as a part of another model: forward() gives the pooled token [batch, width] of a text. One that
/// reads padding throws data.text-length for texts that are not padded to its positions.
class ClipTextPart final : public Model, public ReadsPadding {
 public:
  /// Below "text_model". `others` as Loader::finish has them.
  ClipTextPart(const FamilyInput& input, const ClipTextConfig& config, const std::vector<std::string>& others);

  Tensor features(const ModelInput& input, Call& call) const override;
  Tensor logits(const Tensor& features, Call& call) const override;
  int64_t text_length() const override { return config_.last ? config_.max_position_embeddings : 0; }

 private:
  Tensor places(const Tensor& ids) const;

  ClipTextConfig config_;
  std::unique_ptr<ClipTextEncoder> encoder_;
  const Linear* head_layer_ = nullptr;
};

}  // namespace deltaw
