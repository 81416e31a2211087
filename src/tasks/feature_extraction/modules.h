// What turns hidden states into the embedding of a text, and the files in which sentence-transformers says so.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace deltaw::feature_extraction {

using at::Tensor;

struct Modules {
  std::string pooling = "mean";  // one of poolings()
  bool normalize = false;        // embeddings have length 1
  int64_t max_seq_length = 0;    // tokens of a text; 0: nobody says
};

/// mean, cls, max
const std::vector<std::string>& poolings();

/// What modules.json of the first of these folders that has one says, with the files that it names; nothing where none
/// has. Throws format.unsupported for a module or a pooling that is not implemented, unless `pooling` takes its place;
/// format.* for files that are none of sentence-transformers'.
std::optional<Modules> read_modules(const std::vector<std::filesystem::path>& folders, const std::string& pooling = {});

/// Writes modules.json, 1_Pooling/config.json and sentence_bert_config.json, so that sentence-transformers loads the
/// folder. `width` is that of an embedding.
void write_modules(const Modules& modules, int64_t width, const std::filesystem::path& folder);

/// One vector a text, [texts, width], of its hidden states [texts, length, width]: the mean or the maximum of its
/// tokens, special ones included, or the first token's; of length 1 with `normalize`. `mask` [texts, length] is 0 on
/// padding. In float32 or wider.
Tensor embedding_of(const Tensor& states, const Tensor& mask, const Modules& modules);

/// Each row scaled to length 1, as torch's normalize: a row of zeros stays one.
Tensor unit_rows(const Tensor& rows);

}  // namespace deltaw::feature_extraction
