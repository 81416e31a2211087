// Whether the model has embeddings for what a tokenizer made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/tokenizer.h"

namespace deltaw::tasks {

/// The longest input in tokens: max_positions(), less the virtual tokens of the adapter (null: none) where these take
/// rows of a table of positions too.
int64_t longest_input(const Model& model, const Adapter* adapter);

/// Throws data.token-id for an id outside the model's vocabulary. `tokenizer`, where there is one, is named in it.
void check_ids(const Model& model, const std::vector<int64_t>& ids, const std::string& where,
               const Tokenizer* tokenizer = nullptr);

/// The same for rows; also throws data.token-type for segment ids that the model has no embedding for, data.too-long
/// for a row that leaves its table of positions.
void check_rows(const Model& model, const Adapter* adapter, const std::vector<EncodedRow>& rows,
                const Tokenizer* tokenizer = nullptr);

}  // namespace deltaw::tasks
