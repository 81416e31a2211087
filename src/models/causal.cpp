#include "models/causal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "deltaw/error.h"
#include "models/virtual_tokens.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

void check_mask(const ModelInput& input, int64_t seen) {
  const Tensor &ids = input.input_ids, &mask = input.attention_mask;
  const bool fits = mask.defined() && ids.dim() == 2 && mask.dim() == 2 && mask.size(0) == ids.size(0) &&
                    mask.size(1) == seen + ids.size(1);
  if (fits) return;
  throw Error({.id = "shape.mismatch",
               .what = fmt::format("attention_mask is {}, input_ids are {} behind {} tokens in the cache",
                                   mask.defined() ? fmt::format("{}", fmt::join(mask.sizes(), " x ")) : "missing",
                                   fmt::join(ids.sizes(), " x "), seen),
               .where = "the batch",
               .fix = "attention_mask is [batch, tokens read + new ones]"});
}

// One document a row, nothing but padding behind it.
bool plain(const Tensor& mask) {
  const Tensor tokens = mask.ne(0);
  const int64_t length = mask.size(1);
  const Tensor begins = tokens.narrow(1, 1, length - 1).logical_and(tokens.narrow(1, 0, length - 1).logical_not());
  return !ops::known_flag(begins.any()) && ops::known_flag(mask.le(1).all());
}

// Where in its document each token stands; padding has some place.
Tensor places_of(const Tensor& mask) {
  if (ops::known_flag(mask.le(1).all())) return (mask.ne(0).cumsum(1) - 1).clamp_min(0);
  const Tensor slots = at::arange(mask.size(1), mask.options()).expand_as(mask);
  Tensor starts = at::zeros_like(mask);
  starts.narrow(1, 1, mask.size(1) - 1)
      .copy_(slots.narrow(1, 1, mask.size(1) - 1) * mask.diff(1, 1).ne(0).to(mask.scalar_type()));
  return slots - std::get<0>(starts.cummax(1));
}

}  // namespace

CausalPass causal_pass(const ModelInput& input, int64_t window, const Call& call) {
  const VirtualTokens before = virtual_tokens_of(call);
  const int64_t n = before.count();
  const bool begins = !call.cache || call.cache->length() == 0;
  const Tensor& mask = input.attention_mask;
  check_mask(input, begins ? 0 : call.cache->length() - n);

  CausalPass pass;
  if (begins) pass.prompt = before.embeddings;
  if (begins) pass.prefix = before.prefix;
  const int64_t keys = n + mask.size(1), queries = input.input_ids.size(1) + (pass.prompt.defined() ? n : 0);
  Tensor places, documents;
  if (plain(mask)) {
    places = at::arange(keys, mask.options()).unsqueeze(0);
  } else {
    const int64_t rows = mask.size(0);
    const Tensor every = at::full({rows, n}, ops::CausalKeys::kEveryDocument, mask.options());
    places = at::cat({at::arange(n, mask.options()).expand({rows, n}), places_of(mask) + n}, 1);
    documents = at::cat({every, mask}, 1);
  }
  pass.positions = places.narrow(1, keys - queries, queries);
  pass.end = documents.defined() ? ops::known_range(pass.positions).second + 1 : keys;
  const at::Device device = input.input_ids.device();
  for (Tensor* made : {&pass.positions, &places, &documents}) {
    if (made->defined()) *made = made->to(device);
  }
  if (!call.cache) {
    pass.padding =
        Padding(queries == mask.size(1) ? mask : at::cat({mask.new_ones({mask.size(0), n}), mask}, 1), device);
  }
  const auto mask_of = [&](int64_t w) -> ops::AttentionMask {
    auto seen = std::make_shared<const ops::CausalKeys>(documents, places, queries, w);
    if (queries == 1 && seen->all()) return {};
    return {.causal = std::move(seen)};
  };
  pass.full = mask_of(0);
  if (window > 0) pass.windowed = mask_of(window);
  return pass;
}

double token_dropout(const ConfigValues& config) {
  return config.dropout_or("classifier_dropout", config.dropout_or("hidden_dropout", 0.1));
}

Tensor last_tokens(const Tensor& states, const ModelInput& input) {
  const Tensor mask = input.attention_mask.ne(0).to(states.device());
  const Tensor places = at::arange(mask.size(1), mask.options().dtype(at::kLong));
  const Tensor last = (places * mask).argmax(1);
  return states.index({at::arange(states.size(0), last.options()), last});
}

}  // namespace deltaw
