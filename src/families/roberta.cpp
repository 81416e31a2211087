// RoBERTa with a classification head: Liu et al. 2019, arXiv:1907.11692. Names and dropouts as transformers'
// RobertaForSequenceClassification.
#include <fmt/format.h>

#include "models/encoder.h"
#include "models/family_input.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"

namespace deltaw {
namespace {

// Positions are counted from the padding's id on.
void check_padding(const EncoderConfig& config, const ConfigValues& values) {
  const int64_t id = config.pad_token_id;
  if (id >= -1 && id < config.vocab_size && id + 1 < config.max_position_embeddings) return;
  values.refuse("pad_token_id", fmt::format("a token of the vocabulary ({}) that leaves positions free (of {})",
                                            config.vocab_size, config.max_position_embeddings));
}

class Roberta final : public Model {
 public:
  explicit Roberta(const FamilyInput& input) {
    const auto config = EncoderConfig::from_json(config_of(input), 1);
    check_padding(config, config_of(input));
    Loader load(*this, input, "roberta");
    encoder_ = std::make_unique<Encoder>(load, config, "roberta");
    dense_ = load.head("classifier.dense", config.hidden_size, config.hidden_size, config.initializer_range);
    out_proj_ = load.head("classifier.out_proj", num_labels(), config.hidden_size, config.initializer_range);
    load.finish({"lm_head.", "pooler.", "embeddings.position_ids"});
    classifier_dropout_ = config.classifier_dropout;
    padding_ = config.pad_token_id;
    shape_ = encoder_->shape();
    vocab_size_ = config.vocab_size;
    type_vocab_size_ = config.type_vocab_size;
    max_positions_ = config.max_position_embeddings - padding_ - 1;
    position_table_ = true;
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    const VirtualTokens before = virtual_tokens_of(call, input, max_positions_);
    return encoder_->first_states(input, before, positions(input.input_ids, before), call);
  }

  Tensor logits(const Tensor& features, Call& call) const override {
    const Tensor x = at::tanh(ops::linear(ops::dropout(features, classifier_dropout_, call), *dense_, call));
    return ops::linear(ops::dropout(x, classifier_dropout_, call), *out_proj_, call);
  }

 private:
  // They count the tokens from padding_ + 1, a prefix among them; padding itself stays at padding_. Behind embeddings,
  // which have no ids, transformers counts the padding too.
  Tensor positions(const Tensor& ids, const VirtualTokens& before) const {
    if (before.embeddings.defined()) {
      return (at::arange(before.count() + ids.size(1), ids.options()) + padding_ + 1).expand({ids.size(0), -1});
    }
    const Tensor token = ids.ne(padding_).to(at::kLong);
    return (token.cumsum(1) + before.count()) * token + padding_;
  }

  std::unique_ptr<Encoder> encoder_;
  const Linear *dense_ = nullptr, *out_proj_ = nullptr;
  double classifier_dropout_ = 0;
  int64_t padding_ = 1;
};

}  // namespace

const FamilySpec& family_roberta() {
  static const FamilySpec spec = encoder_family({
      .model_type = "roberta",
      .architecture = "RobertaForSequenceClassification",
      .head = "classifier",
      .head_weight = "classifier.out_proj.weight",
      .word_embeddings = "roberta.embeddings.word_embeddings",
      .adalora_target_modules = {"query", "key", "value", "dense"},
      .load = [](const FamilyInput& input) { return std::make_unique<Roberta>(input); },
  });
  return spec;
}

}  // namespace deltaw
