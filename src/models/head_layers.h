// The layers of a head, as transformers' class applies them one after the other.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/model.h"
#include "models/loader.h"

namespace deltaw {

class HeadLayers {
 public:
  HeadLayers& dropout(double p);
  HeadLayers& linear(const Linear* layer);
  HeadLayers& tanh();
  /// As config.json names it under `key`: "gelu".
  HeadLayers& activation(const std::string& name, const char* key = "hidden_act");
  HeadLayers& norm(const Norm* norm);
  /// The layer that gives the logits: the module that the head names, with a row for each of its outputs or for each of
  /// `labels`, drawn as Loader::head says where the checkpoint lacks it. Before it dropout: `p`, or `answers_p` where
  /// the rows are outputs.
  HeadLayers& last(Loader& load, int64_t labels, int64_t d_in, double std, double p, double answers_p = 0);

  Tensor operator()(Tensor x, Call& call) const;

 private:
  std::vector<std::function<Tensor(const Tensor& x, Call& call)>> steps_;
};

/// What BERT and its relatives predict masked tokens with: a dense layer [embeddings' width, d_in], an activation, a
/// norm, and the decoder, which is the module of the head that is loaded.
struct MaskedLmForm {
  std::string dense, norm;
  std::string bias;  // of the decoder: the parameter's name
  int64_t d_in = 0;
  std::string activation = "gelu";
  double eps = 1e-12;
  bool tied = true;  // the decoder's weight is that of the word embeddings
};
HeadLayers masked_lm_head(Loader& load, const MaskedLmForm& form, const Embedding& words);

}  // namespace deltaw
