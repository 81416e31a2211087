// BERT with a classification head: Devlin et al. 2018, arXiv:1810.04805. Names and dropouts as transformers'
// BertForSequenceClassification.
#include "models/encoder.h"
#include "models/family_input.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"

namespace deltaw {
namespace {

class Bert final : public Model {
 public:
  explicit Bert(const FamilyInput& input) {
    const auto config = EncoderConfig::from_json(config_of(input), 0);
    Loader load(*this, input, "bert");
    encoder_ = std::make_unique<Encoder>(load, config, "bert");
    pooler_ = load.head("bert.pooler.dense", config.hidden_size, config.hidden_size, config.initializer_range);
    classifier_ = load.head("classifier", num_labels(), config.hidden_size, config.initializer_range);
    load.finish({"cls.", "embeddings.position_ids"});
    classifier_dropout_ = config.classifier_dropout;
    shape_ = encoder_->shape();
    vocab_size_ = config.vocab_size;
    type_vocab_size_ = config.type_vocab_size;
    max_positions_ = config.max_position_embeddings;
    position_table_ = true;
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    const VirtualTokens before = virtual_tokens_of(call, input, max_positions_);
    const int64_t rows = input.input_ids.size(0), end = before.count() + input.input_ids.size(1);
    // A prefix has no hidden states, yet the text's positions begin behind it.
    const int64_t begin = before.prefix.defined() ? before.count() : 0;
    const Tensor positions = at::arange(begin, end, input.input_ids.options()).expand({rows, -1});
    const Tensor first = encoder_->first_states(input, before, positions, call);
    return at::tanh(ops::linear(first, *pooler_, call));
  }

  Tensor logits(const Tensor& pooled, Call& call) const override {
    return ops::linear(ops::dropout(pooled, classifier_dropout_, call), *classifier_, call);
  }

 private:
  std::unique_ptr<Encoder> encoder_;
  const Linear *pooler_ = nullptr, *classifier_ = nullptr;
  double classifier_dropout_ = 0;
};

}  // namespace

const FamilySpec& family_bert() {
  static const FamilySpec spec = encoder_family({
      .model_type = "bert",
      .architecture = "BertForSequenceClassification",
      .head = "classifier",
      .head_weight = "classifier.weight",
      .word_embeddings = "bert.embeddings.word_embeddings",
      .load = [](const FamilyInput& input) { return std::make_unique<Bert>(input); },
  });
  return spec;
}

}  // namespace deltaw
