#include "tasks/common/check_rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "deltaw/adapter.h"
#include "deltaw/error.h"

namespace deltaw::tasks {
namespace {

int64_t virtual_tokens(const Adapter* adapter) {
  const at::NoGradGuard no_grad;
  return adapter ? adapter->virtual_tokens().count() : 0;
}

void check_types(const Model& model, const EncodedRow& row, const std::string& where) {
  const int64_t types = model.type_vocab_size();
  if (types <= 1 || row.type_ids.empty()) return;  // they are not read
  const auto [least, most] = std::minmax_element(row.type_ids.begin(), row.type_ids.end());
  if (*least >= 0 && *most < types) return;
  throw Error(
      {.id = "data.token-type",
       .what = fmt::format("the tokenizer gives a token the segment {}, and the model has embeddings for {} (0 to {})",
                           *least < 0 ? *least : *most, types, types - 1),
       .where = where,
       .fix = "use the tokenizer that belongs to the checkpoint; \"model_input_names\" of tokenizer_config.json "
              "without token_type_ids leaves the segments out"});
}

void check_length(const Model& model, const EncodedRow& row, int64_t before, const std::string& where) {
  const auto length = static_cast<int64_t>(row.ids.size());
  if (!model.has_position_table() || length + before <= model.max_positions()) return;
  throw Error(
      {.id = "data.too-long",
       .what = fmt::format("a row has {} tokens{}, the model has {} positions", length,
                           before > 0 ? fmt::format(" behind {} virtual ones", before) : "", model.max_positions()),
       .where = where,
       .fix = fmt::format("--max_length {}", model.max_positions() - before)});
}

}  // namespace

int64_t longest_input(const Model& model, const Adapter* adapter) {
  return model.has_position_table() ? model.max_positions() - virtual_tokens(adapter) : model.max_positions();
}

void check_ids(const Model& model, const std::vector<int64_t>& ids, const std::string& where,
               const Tokenizer* tokenizer) {
  const int64_t size = model.vocab_size();
  if (ids.empty() || size == 0) return;
  const auto [least, most] = std::minmax_element(ids.begin(), ids.end());
  if (*least >= 0 && *most < size) return;
  const std::string whose = tokenizer ? fmt::format(" of the tokenizer's {} tokens", tokenizer->vocab_size()) : "";
  throw Error({.id = "data.token-id",
               .what = fmt::format("the token id {}{} is none of the model's {} (0 to {})", *least < 0 ? *least : *most,
                                   whose, size, size - 1),
               .where = where,
               .fix =
                   "use the tokenizer that belongs to the checkpoint; tokens that were added to it need a model that "
                   "was resized for them"});
}

void check_rows(const Model& model, const Adapter* adapter, const std::vector<EncodedRow>& rows,
                const Tokenizer* tokenizer) {
  const int64_t before = model.has_position_table() ? virtual_tokens(adapter) : 0;
  for (const EncodedRow& row : rows) {
    const std::string where = fmt::format("row {} of the data", row.index + 1);
    check_ids(model, row.ids, where, tokenizer);
    check_types(model, row, where);
    check_length(model, row, before, where);
  }
}

}  // namespace deltaw::tasks
