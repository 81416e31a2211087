#include "models/text_decoder.h"

#include <fmt/format.h>

#include "deltaw/error.h"
#include "models/causal.h"
#include "models/virtual_tokens.h"
#include "ops/gradient_checkpointing.h"
#include "ops/layers.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

void check_positions(int64_t end, int64_t longest) {
  if (end <= longest) return;
  throw Error({.id = "data.too-long",
               .what = fmt::format("a row reaches position {}, the model has {}", end, longest),
               .where = "the batch",
               .fix = fmt::format("--max_length {}", longest)});
}

Tensor embed(const TextDecoder& decoder, const ModelInput& input, const CausalPass& pass, Call& call) {
  Tensor x = ops::embedding(input.input_ids, *decoder.words, call);
  if (decoder.embedding_scale != 1) {  // by a number of the model's type, as transformers does
    x = x * at::scalar_tensor(decoder.embedding_scale, at::kFloat).to(x.scalar_type());
  }
  x = behind_prompt(pass.prompt, x);
  if (decoder.positions) {
    check_positions(pass.end, decoder.positions->weight.value.size(0));
    x = x + ops::embedding(pass.positions, *decoder.positions, call);
  }
  return ops::dropout(x, decoder.embedding_dropout, call);
}

}  // namespace

Tensor TextDecoder::states(const ModelInput& input, Reads reads, Call& call) const {
  const CausalPass pass = causal_pass(input, window, call);
  const at::ScalarType type = words->weight.value.scalar_type();
  const Rotary::Turn turn = rotary ? rotary->turn(pass.positions, pass.end, type) : Rotary::Turn{};
  Tensor x = pass.padding.remove(embed(*this, input, pass, call));
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    const auto block = [this, layer, pass, turn](const std::vector<Tensor>& inputs, Call& own) {
      const Block& parts = blocks[layer];
      const bool windowed = parts.attention.window > 0;
      const BlockInput seen{.layer = layer,
                            .padding = pass.padding,
                            .mask = windowed ? pass.windowed : pass.full,
                            .turn = turn,
                            .prefix = inputs[1]};
      return parts(inputs[0], seen, own);
    };
    x = ops::checkpointed(block, {x, prefix_of(pass.prefix, layer)}, call);
  }
  x = pass.padding.add(ops::normalised(x, *norm, call));
  if (pass.prompt.defined()) x = x.narrow(1, pass.prompt.size(0), input.input_ids.size(1));
  return reads == Reads::last ? last_tokens(x, input) : x;
}

bool DecoderModel::keeps_scores() const {
  return !decoder_.blocks.empty() && decoder_.blocks[0].attention.form.softcap != 0;
}

const Embedding* DecoderModel::load_words(Loader& load, const HeadForm& form, int64_t width, int64_t padding_idx) {
  const std::string& name = load.family().word_embeddings;
  return form.tied ? load.tied_embedding(name, "lm_head", form.vocab_size, width, padding_idx)
                   : load.word_embedding(name, form.vocab_size, width, padding_idx);
}

void DecoderModel::load_head(Loader& load, const HeadForm& form) {
  const HeadSpec& head = load.head_spec();
  const int64_t width = decoder_.words->weight.value.size(1);
  if (head.has_labels()) {
    const bool of_tokens = head.task_type != "SEQ_CLS";
    reads_ = of_tokens ? Reads::every : Reads::last;
    layers_.dropout(of_tokens ? form.token_dropout : 0)
        .linear(load.head(head.module, num_labels(), width, form.initializer_range, of_tokens && form.token_bias));
    return;
  }
  layers_.linear(form.tied ? load.tied_head(head.module, *decoder_.words)
                           : load.word_head(head.module, form.vocab_size, width));
  if (form.softcap != 0) layers_.softcap(form.softcap);
}

void DecoderModel::settle(int64_t max_positions) {
  const Attention& attention = decoder_.blocks.at(0).attention;
  const Tensor& words = decoder_.words->weight.value;
  vocab_size_ = words.size(0);
  max_positions_ = max_positions;
  position_table_ = decoder_.positions != nullptr;
  shape_ = {.layers = static_cast<int64_t>(decoder_.blocks.size()),
            .hidden = words.size(1),
            .heads = attention.heads,
            .prefix_heads = attention.key_heads,
            .prefix_width = attention.key_heads * attention.width,
            .word_embeddings = words};
}

}  // namespace deltaw
