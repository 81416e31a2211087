// What adapter files hold of the base's embeddings and head where the vocabulary has grown.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "adapt/targets.h"
#include "deltaw/adapter.h"

namespace deltaw {

/// Which rows of which embedding or head train by trainable_token_indices: a list is meant for the word embeddings. A
/// tied head shares the rows of the embedding; it has an entry of its own only where it is named with
/// other rows. Throws config.tokens, in training also for a row that is named twice.
std::map<const Layer*, std::vector<int64_t>> tokens_by_table(const Model& model, const Json& wanted, Purpose purpose);

/// The embedding that the model's family calls its words; the first one where no family loaded it. Null: there is none.
const Layer* word_embedding_of(const Model& model);

/// The rows that the file holds for a parameter: null for none, and for a tied head that shares its embedding's.
const TrainedTokens* own_tokens(const Adapter& adapter, const Parameter& parameter);

/// The names, less the prefix, under which PEFT keeps the base's own weight of a module, whichever way the adapter
/// trains that. Where several stand in a file, the first is the base's; the last may be a trained stand-in.
std::vector<std::string> base_copies(const std::string& module);

/// What PEFT adds to the file of an adapter whose base has added rows: the whole weights of embeddings and head, in the
/// checkpoint's type, by name less the prefix.
std::vector<NamedTensor> resized_weights(const Adapter& adapter);

}  // namespace deltaw
