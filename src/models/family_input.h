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

class Loader;

/// What a family is told where its encoder becomes a part of another model. Its modules then stand below `scope`, and
/// in place of a head it gets what transformers calls the pooler: forward() gives one vector a row.
struct PartOfModel {
  Loader* whole = nullptr;  // of the model that gets the layers
  std::string scope;        // "vision_model"
  Json config;              // in place of config.json
  std::string where;        // it stands, for messages
  bool of_images = false;   // which encoder a family with one of images and one of texts is asked for
};

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
  const PartOfModel* part = nullptr;              // null: a model of its own
};

}  // namespace deltaw
