// Text for causal language models: the chat template that wraps it and the rows that come of it.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "deltaw/chat.h"
#include "deltaw/model.h"
#include "deltaw/text_data.h"
#include "deltaw/tokenizer.h"
#include "setup.h"

namespace deltaw::cli {

/// Tokens of a row where max_length is not given, as in TRL.
inline constexpr int64_t kTextLength = 1024;

/// The template that `text` names, else that of the first of the folders that has one.
std::optional<ChatTemplate> find_chat_template(const TextOptions& text,
                                               const std::vector<std::filesystem::path>& folders);

/// Empty without a template.
ChatRenderer renderer_of(const std::optional<ChatTemplate>& chat_template);

/// The end-of-text token that rows get: the tokenizer's, else the first of end_token_ids().
std::optional<int64_t> end_id_of(const Tokenizer& tokenizer, const Model& model);

/// Adds the tokens that the keys name to the tokenizer; the ids of those that are new to it.
std::vector<int64_t> add_new_tokens(const VocabularyKeys& keys, Tokenizer& tokenizer);

/// Writes the template file that find_chat_template would read into `output`, so that this folder stands alone. One
/// inside tokenizer_config.json comes with that.
void write_chat_template(const TextOptions& text, const std::vector<std::filesystem::path>& folders,
                         const std::filesystem::path& output);

}  // namespace deltaw::cli
