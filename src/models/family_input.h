// What a family gets to build a model.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/family.h"
#include "deltaw/model.h"
#include "io/checkpoint.h"
#include "ops/quantised.h"

namespace deltaw {

/// The head is chosen already, and its labels are settled.
struct FamilyInput {
  std::shared_ptr<const io::Checkpoint> checkpoint;
  const FamilySpec* family = nullptr;  // null for a model that none of the table loads
  HeadSpec head = {};                  // that the family is to give it
  at::ScalarType dtype = at::kFloat;
  std::vector<std::string> labels;
  int64_t vocab_size = 0;  // of ModelOptions, as are the embeddings
  std::map<std::string, Tensor> embeddings;
  bool new_head = false;        // draw what the checkpoint has in another size
  std::string drawn_head = {};  // a weight that is drawn whatever the checkpoint has, or empty
  uint64_t seed = 42;
  std::optional<Quantisation> quantisation = {};  // of the linear layers but for heads
  bool dequantize = true;                         // of ModelOptions
};

}  // namespace deltaw
