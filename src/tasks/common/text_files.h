// What models of text are read with: tokenizer, padding, lengths, chat template.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/chat.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/text_data.h"
#include "deltaw/tokenizer.h"

namespace deltaw::tasks {

/// The adapter's folder where it holds a tokenizer, else the base's. `adapter` may be empty.
std::filesystem::path tokenizer_folder(const std::filesystem::path& base, const std::filesystem::path& adapter);

/// The id that fills short rows: the tokenizer's, else config.json's, where the model has such a token. A causal model
/// takes any. Throws config.no-pad-token.
int64_t pad_id_of(const Tokenizer& tokenizer, const Model& model);

/// Tokens of the longest row: of the tokenizer's model_max_length and the model's positions, those of the adapter's
/// virtual tokens left out, the smaller one; 0 where neither is known.
int64_t readable_length(const Model& model, const Adapter* adapter, const Tokenizer& tokenizer);

/// max_length as the model allows it: one that was asked for and is too long is refused (config.max-length), the
/// default is shortened.
int64_t checked_length(const Model& model, int64_t max_length, bool asked_for);

/// Whether what is to be predicted is one file with a text on each line; others have names for what is in them.
bool is_lines(const DataFiles& files);
Dataset read_lines(const std::filesystem::path& file, const std::string& encoding);

/// The template that `text` names, else that of the first of the folders that has one.
std::optional<ChatTemplate> find_chat_template(const TextOptions& text,
                                               const std::vector<std::filesystem::path>& folders);

/// Empty without a template.
ChatRenderer renderer_of(const std::optional<ChatTemplate>& chat_template);

/// Copies the tokenizer's files into `folder`, a chat template among them; with `changed`, those that tokens were added
/// to are written anew.
void write_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder, bool changed = false);

/// Writes `file` or, where that is empty, the template file of the first of the folders that has one into `output`, so
/// that this folder stands alone. One inside tokenizer_config.json comes with that.
void write_chat_template(const std::filesystem::path& file, const std::vector<std::filesystem::path>& folders,
                         const std::filesystem::path& output);

}  // namespace deltaw::tasks
