// How files become rows of texts that belong together, and what is said of them.
#pragma once

#include <cstdint>
#include <memory>

#include "deltaw/task_reader.h"

namespace deltaw::feature_extraction {

/// Tokens of a text where neither max_length nor a sentence_bert_config.json says: what most encoders read. A model
/// that reads less shortens it.
inline constexpr int64_t kMaxLength = 512;

std::unique_ptr<TaskReader> make_reader();

}  // namespace deltaw::feature_extraction
