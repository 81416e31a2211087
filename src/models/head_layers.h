// The layers of a head, as transformers' class applies them one after the other.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/model.h"
#include "models/loader.h"

namespace deltaw {

/// What a head reads: of an encoder the first token of each row or the mean of its tokens, of a decoder the last token,
/// of either every token.
enum class Reads { first, mean, last, every };

class HeadLayers {
 public:
  HeadLayers& dropout(double p);
  HeadLayers& linear(const Linear* layer);
  HeadLayers& tanh();
  /// As config.json names it under `key`: "gelu".
  HeadLayers& activation(const std::string& name, const char* key = "hidden_act");
  HeadLayers& norm(const Norm* norm);
  /// x becomes cap tanh(x / cap).
  HeadLayers& softcap(double cap);
  /// The layer that gives the logits: the module that the head names, with a row for each of its outputs or for each of
  /// `labels`, drawn as Loader::head says where the checkpoint lacks it. Before it dropout: `p`, or `answers_p` where
  /// the rows are outputs.
  HeadLayers& last(Loader& load, int64_t labels, int64_t d_in, double std, double p, double answers_p = 0);

  Tensor operator()(Tensor x, Call& call) const;

 private:
  std::vector<std::function<Tensor(const Tensor& x, Call& call)>> steps_;
};

/// What reads a row's state [batch, d]: dropout, a dense layer [d, d], an activation, dropout, and the layer that has
/// the head's weight, with a row for each label or output.
struct RowHeadForm {
  std::string dense;                // the layer's name; empty: there is none
  std::string activation = "tanh";  // as config.json names it; empty: there is none
  const char* activation_key = "hidden_act";
  double dense_dropout = 0, dropout = 0;
};
HeadLayers row_head(Loader& load, const RowHeadForm& form, int64_t labels, int64_t d, double std);

/// What BERT and its relatives predict masked tokens with: a dense layer [embeddings' width, d], an activation, a norm,
/// and the decoder, which is the module of the head that is loaded.
struct MaskedLmForm {
  std::string dense, norm;
  std::string bias;  // of the decoder: the parameter's name
  std::string activation = "gelu";
  double eps = 1e-12;
  bool tied = true;  // the decoder's weight is that of the word embeddings
};
HeadLayers masked_lm_head(Loader& load, const MaskedLmForm& form, int64_t d, const Embedding& words);

}  // namespace deltaw
