#include "models/text_encoder.h"

#include <fmt/format.h>

#include <utility>

#include "deltaw/error.h"
#include "models/virtual_tokens.h"
#include "ops/gradient_checkpointing.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

void check_length(const ModelInput& input, int64_t virtual_ones, int64_t longest) {
  const int64_t length = input.input_ids.size(1);
  if (length <= longest - virtual_ones) return;
  throw Error(
      {.id = "data.too-long",
       .what = fmt::format("a row has {} tokens{}, the model has {} positions", length,
                           virtual_ones > 0 ? fmt::format(" behind {} virtual ones", virtual_ones) : "", longest),
       .where = "the batch",
       .fix = fmt::format("--max_length {}", longest - virtual_ones)});
}

// The mask of rows behind `count` tokens that all see.
Tensor mask_behind(int64_t count, const Tensor& mask) {
  return count > 0 ? at::cat({at::ones({mask.size(0), count}, mask.options()), mask}, 1) : mask;
}

Tensor mean_of(const Tensor& states, const Tensor& mask) {
  const Tensor kept = mask.ne(0).to(states.device(), at::kLong);
  return (states * kept.unsqueeze(-1)).sum(1) / kept.sum(1, /*keepdim=*/true);
}

}  // namespace

Tensor TextEncoder::states(const ModelInput& input, Reads reads, Call& call) const {
  const VirtualTokens before = virtual_tokens_of(call);
  check_length(input, before.count(), max_positions_);
  const int64_t prompts = before.embeddings.defined() ? before.count() : 0;
  const Tensor mask = mask_behind(prompts, input.attention_mask);
  Pass pass{.prompts = prompts, .mask = mask, .padding = Padding(mask, input.input_ids.device())};
  Tensor x = embed(input, before, pass, call);
  const Tensor bias = ops::attention_bias(mask_behind(before.count(), input.attention_mask), x.options());
  const std::vector<Tensor> shared = std::exchange(pass.shared, {});
  const auto last = static_cast<int64_t>(blocks_.size()) - 1;
  for (int64_t i = 0; i <= last; ++i) {
    // An observer is to see every token.
    const bool firsts_only = i == last && reads == Reads::first && !call.observer;
    const auto block = [this, i, pass, bias, firsts_only](const std::vector<Tensor>& inputs, Call& own) {
      Pass seen = pass;
      seen.shared.assign(inputs.begin() + 2, inputs.end());
      return run(inputs[0],
                 {.layer = i,
                  .padding = pass.padding,
                  .firsts_only = firsts_only,
                  .mask = pass.causal ? ops::AttentionMask{.causal = pass.causal} : ops::AttentionMask{.bias = bias},
                  .prefix = inputs[1]},
                 seen, own);
    };
    std::vector<Tensor> inputs = {x, prefix_of(before.prefix, i)};
    inputs.insert(inputs.end(), shared.begin(), shared.end());
    x = ops::checkpointed(block, inputs, call);
  }
  if (reads == Reads::first && call.observer) x = pass.padding.firsts(x);
  if (final_norm_) x = ops::normalised(x, *final_norm_, call);
  if (reads == Reads::first) return x;
  x = pass.padding.add(x);
  return reads == Reads::mean ? mean_of(x, mask) : x.narrow(1, prompts, input.input_ids.size(1));
}

Tensor TextEncoder::types_of(const ModelInput& input, const Pass& pass, int64_t table_rows) {
  const bool given = input.token_type_ids.defined() && table_rows > 1;
  const Tensor types = given ? input.token_type_ids : at::zeros_like(input.input_ids);
  if (pass.prompts == 0) return types;
  return at::cat({at::zeros({types.size(0), pass.prompts}, types.options()), types}, 1);
}

bool reads_first_tokens(const HeadSpec& head) {
  return head.task_type == "SEQ_CLS" || head.task_type == "multiple-choice";
}

void EncoderModel::take(std::unique_ptr<TextEncoder> encoder, const Facts& facts) {
  encoder_ = std::move(encoder);
  const Attention& attention = encoder_->blocks().at(0).attention;
  const Tensor& words = encoder_->words().weight.value;
  const int64_t hidden = attention.heads * attention.width;
  vocab_size_ = words.size(0);
  type_vocab_size_ = facts.type_vocab_size;
  max_positions_ = facts.max_positions;
  position_table_ = facts.position_table;
  shape_ = {.layers = static_cast<int64_t>(encoder_->blocks().size()),
            .hidden = hidden,
            .heads = attention.heads,
            .prefix_heads = facts.takes_prefix ? attention.heads : 0,
            .prefix_width = facts.takes_prefix ? hidden : 0,
            .word_embeddings = words};
}

void EncoderModel::load_pooler(Loader& load, const std::string& pooler, double std) {
  if (pooler.empty()) {
    throw Error({.id = "config.unsupported",
                 .what = fmt::format("model_type '{}' has no pooler, with which a part of another model ends",
                                     load.family().model_type),
                 .where = folder().string(),
                 .fix = "use a text encoder that transformers gives one, such as BERT or RoBERTa"});
  }
  reads_ = Reads::first;
  layers_.linear(load.pooler(pooler, shape_.hidden, std)).tanh();
}

void EncoderModel::load_head(Loader& load, const EncoderHeads& form, double std) {
  if (load.is_part()) return load_pooler(load, form.pooler, std);
  const HeadSpec& head = load.head_spec();
  const int64_t hidden = shape_.hidden;
  reads_ = reads_first_tokens(head) ? Reads::first : Reads::every;
  if (head.module.empty()) return;  // the hidden states are what is asked for
  if (reads_ == Reads::first) {
    const bool chooses = head.task_type != "SEQ_CLS" && form.choices;
    layers_ = row_head(load, chooses ? *form.choices : form.rows, num_labels(), hidden, std);
  } else if (head.weight.empty()) {
    layers_ = masked_lm_head(load, form.masked, hidden, encoder_->words());
  } else {
    layers_.last(load, num_labels(), hidden, std, form.token_dropout, form.answers_dropout);
  }
}

}  // namespace deltaw
