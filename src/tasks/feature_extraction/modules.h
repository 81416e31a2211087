// What turns hidden states into the embedding of a text, and the files in which sentence-transformers says so.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace deltaw::feature_extraction {

using at::Tensor;

struct Modules {
  std::string pooling = "mean";  // one of poolings()
  bool normalize = false;        // embeddings have length 1
  int64_t max_seq_length = 0;    // tokens of a text; 0: nobody says
  /// What may stand before a text, by name ("query"), and the name of that which does; empty: none.
  std::map<std::string, std::string> prompts = {};
  std::string prompt_name = {};
  bool include_prompt = true;  // whether pooling reads the tokens of the prompt too

  /// Before each text; empty: nothing. Throws config.unknown-prompt for a name that is none of `prompts`, and
  /// format.unsupported for one whose tokens pooling is to leave out.
  std::string prompt() const;
};

/// mean, cls, max
const std::vector<std::string>& poolings();

/// What modules.json of the first of these folders that has one says, with the files that it names; nothing where none
/// has. Of older and newer versions: max_seq_length may stand in sentence_bert_config.json or, as model_max_length, in
/// tokenizer_config.json. Throws format.unsupported for a module or a pooling that is not implemented, unless `pooling`
/// takes its place, and for do_lower_case; format.* for files that are none of sentence-transformers'.
std::optional<Modules> read_modules(const std::vector<std::filesystem::path>& folders, const std::string& pooling = {});

/// Writes modules.json, 1_Pooling/config.json, sentence_bert_config.json and config_sentence_transformers.json, as all
/// versions of sentence-transformers from 2 on load them. `width` is that of an embedding.
void write_modules(const Modules& modules, int64_t width, const std::filesystem::path& folder);

/// One vector a text, [texts, width], of its hidden states [texts, length, width]: the mean or the maximum of its
/// tokens, special ones included, or the first token's; of length 1 with `normalize`. `mask` [texts, length] is 0 on
/// padding. In float32 or wider.
Tensor embedding_of(const Tensor& states, const Tensor& mask, const Modules& modules);

}  // namespace deltaw::feature_extraction
