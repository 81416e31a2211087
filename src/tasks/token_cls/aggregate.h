// Entities of a row from the scores of its tokens, as transformers' pipeline of token classification puts them
// together.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/encode_words.h"
#include "deltaw/options.h"
#include "deltaw/tokenizer.h"

namespace deltaw::token_cls {

/// Values of aggregation_strategy, with the pipeline's names.
const std::vector<std::string>& strategies();

/// Makes entities of rows. `tokenizer` and `labels` must outlive it.
class Aggregator {
 public:
  Aggregator(const Tokenizer& tokenizer, const std::vector<std::string>& labels, std::string strategy);

  /// The entities of a row as JSON, by `logits` [tokens, labels] row-major; those of the label "O" are left out.
  ///
  ///   none     {"entity", "score", "index", "word", "start", "end"} of every token; `index` counts from the row's
  ///   first
  ///            token, the special ones before it (`before`) included
  ///   others   {"entity_group", "score", "word", "start", "end"}: neighbours of one type. simple takes each token's
  ///            likeliest label; first, average and max that of whole words: of the first token, of the mean over the
  ///            word's tokens, of the token with the greatest score
  ///
  /// start and end are code points of the row's text; of a row of words, first_word and last_word stand beside them.
  /// The score is a probability, of several the mean.
  Json entities(const data::WordTokens& row, const float* logits, int64_t before) const;

 private:
  struct Piece {  // a token, or the tokens of a word
    std::string label;
    double score = 0;
    size_t begin = 0, end = 0;  // tokens of the row
  };

  std::vector<Piece> tokens(const std::vector<double>& scores) const;
  std::vector<Piece> words(const data::WordTokens& row, const std::vector<double>& scores) const;
  Piece word(size_t begin, size_t end, const std::vector<double>& scores) const;
  Json described(const data::WordTokens& row, const std::vector<Piece>& group) const;
  bool continues_word(const data::WordTokens& row, size_t token) const;
  std::string text(const data::WordTokens& row, size_t begin, size_t end) const;
  bool is_unknown(int64_t id) const;

  const Tokenizer& tokenizer_;
  const std::vector<std::string>& labels_;
  std::string strategy_;
  bool marks_pieces_ = false;  // the vocabulary writes "##" before what continues a word
  std::vector<int64_t> unknown_;
};

}  // namespace deltaw::token_cls
