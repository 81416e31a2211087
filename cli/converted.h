// What the verbs share that make one folder of weights from another: merge and export.
#pragma once

#include <filesystem>

#include "serve.h"

namespace deltaw::cli {

/// A batch to compare logits on: sentences, or tokens spread over the vocabulary where there is no tokenizer.
ModelInput probe_of(const Served& served);

/// Throws config.output-exists when the folder holds something and may not be overwritten.
void claim_folder(const std::filesystem::path& folder, bool overwrite);

/// Throws config.output-is-input when both are one folder.
void refuse_same_folder(const std::filesystem::path& output, const std::filesystem::path& input);

}  // namespace deltaw::cli
