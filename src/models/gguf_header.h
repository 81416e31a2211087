// What a GGUF file says of a model besides the tensors of its modules.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "deltaw/model.h"
#include "io/gguf_writer.h"

namespace deltaw {

struct GgufHeader {
  std::vector<io::GgufValue> values;                  // general.* and those of the architecture, without the file type
  std::map<std::string, std::vector<float>> vectors;  // tensors of no module: "rope_freqs.weight"
  std::vector<std::string> lost;                      // what llama.cpp passes over: ends of a sentence
};

/// From the config.json of a model of a checkpoint folder. Throws config.unsupported for families without a GGUF form,
/// for heads that are no language model's, and for what llama.cpp would compute in another way.
GgufHeader gguf_header(const Model& model);

/// How many numbers, in llama.cpp's words: "135M", "1.1B".
std::string size_label(int64_t numbers);

}  // namespace deltaw
