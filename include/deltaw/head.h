// A head that transformers gives a family of models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deltaw {

struct HeadSpec {
  std::string task_type;          // of the task that it is for: "SEQ_CLS"
  std::string architecture = {};  // transformers' class: "BertForSequenceClassification"
  std::string module = {};        // "classifier"; empty: a head without tensors
  std::string weight = {};        // of its own, with a row for each label; empty: it has none, or is the vocabulary's
  int64_t outputs = 0;            // the rows of `weight` where they are no labels; 0: a row for each label
  bool problem_type = false;      // config.json's problem_type says what the labels mean

  bool has_labels() const { return !weight.empty() && outputs == 0; }
};

/// The heads of a decoder whose classes transformers names as it does Llama's: "LlamaForCausalLM" with `lm_head`, then
/// two with a module `score`: "LlamaForSequenceClassification", which reads each row's last token, and
/// "LlamaForTokenClassification", which reads every token.
std::vector<HeadSpec> decoder_heads(const std::string& name);

}  // namespace deltaw
