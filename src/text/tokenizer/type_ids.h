// Which tokenizers of transformers 5 hand segment ids to the model.
#pragma once

#include <filesystem>

#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::text {

/// Tokenizer::gives_type_ids() of such a tokenizer beside the config.json of `model_folder`, if there is one.
bool gives_type_ids(const TokenizerConfig& config, const std::filesystem::path& model_folder);

}  // namespace deltaw::text
