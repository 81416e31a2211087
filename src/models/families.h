// The model families, one function each. A family is added by its file and a line in load.cpp.
#pragma once

#include <memory>
#include <optional>

#include "deltaw/model.h"
#include "io/checkpoint.h"
#include "ops/quantised.h"

namespace deltaw {

/// What a family gets to build a model: the type is settled already, and of a classifier the labels.
struct FamilyInput {
  std::shared_ptr<const io::Checkpoint> checkpoint;
  at::ScalarType dtype = at::kFloat;
  std::vector<std::string> labels;
  int64_t vocab_size = 0;  // of ModelOptions, as are the embeddings
  std::map<std::string, Tensor> embeddings;
  bool new_head = false;        // draw what the checkpoint has in another size
  std::string drawn_head = {};  // a weight that is drawn whatever the checkpoint has, or empty
  uint64_t seed = 42;
  std::optional<Quantisation> quantisation = {};  // of the linear layers but for heads
};

std::unique_ptr<Model> load_bert(const FamilyInput& input);
std::unique_ptr<Model> load_roberta(const FamilyInput& input);
std::unique_ptr<Model> load_llama(const FamilyInput& input);
std::unique_ptr<Model> load_mistral(const FamilyInput& input);
std::unique_ptr<Model> load_qwen2(const FamilyInput& input);
std::unique_ptr<Model> load_qwen3(const FamilyInput& input);
std::unique_ptr<Model> load_phi3(const FamilyInput& input);
std::unique_ptr<Model> load_gemma2(const FamilyInput& input);
std::unique_ptr<Model> load_gpt2(const FamilyInput& input);

}  // namespace deltaw
