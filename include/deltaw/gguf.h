// How a family's checkpoints stand in GGUF files, by llama.cpp's names (its src/llama-arch.cpp and conversion scripts).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/options.h"

namespace deltaw {

/// What llama.cpp's converter changes in a tensor; reading a file undoes it.
enum class GgufLayout {
  same,
  query_pairs,  // rows of a head: two that turn together are neighbours, and not half a head apart
  key_pairs,    // the same, with as many heads as there are keys
  transposed,   // a Conv1D's weight: [d_out, d_in]
  plus_one,     // a norm's weight, with 1 added
};

/// A module by both names, without ".weight" or ".bias"; "{}" stands for the number of the block.
struct GgufModule {
  std::string gguf;    // "blk.{}.attn_q"
  std::string module;  // "model.layers.{}.self_attn.q_proj"
  GgufLayout layout = GgufLayout::same;
  bool wide = false;  // float32, whatever the type of the other matrices
};

/// What a file says besides the numbers of its modules.
struct GgufFacts {
  Json values = {};                                         // by key, that of the architecture left out: "block_count"
  std::map<std::string, std::vector<float>> vectors = {};   // those of GgufForm::vectors that it has
  std::map<std::string, std::vector<int64_t>> shapes = {};  // of all tensors, row-major: "blk.0.attn_q.bias"
  std::string where;                                        // the file or config.json, for messages
  std::vector<std::string> lost = {};  // on the way to a file, what llama.cpp passes over: ends of a sentence

  bool has(const std::string& tensor) const { return shapes.contains(tensor); }
};

struct GgufForm {
  std::string architecture;  // general.architecture
  std::vector<GgufModule> modules;
  std::vector<std::pair<std::string, std::string>> keys;  // of GgufFacts::values, and config.json's for the same
  std::vector<std::string> vectors = {};                  // tensors of no module: "rope_freqs.weight"
  /// The rest of config.json.
  std::function<void(Json& config, const GgufFacts& facts)> settle = {};
  /// The way back: the values and vectors of a file from config.json. Throws config.unsupported for what llama.cpp
  /// would compute in another way. None: files are read, and not written.
  std::function<void(const Json& config, GgufFacts& facts)> describe = {};
  bool own_head = true;  // llama.cpp takes a head that is not the word embeddings
};

}  // namespace deltaw
