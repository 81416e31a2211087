// Windows of rows of words as batches, and what is put together of what a model makes of them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/encode_words.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "tasks/token_cls/entities.h"

namespace deltaw::token_cls {

/// The windows as rows of a model, with the rows that they are of.
class WordWindows final : public TextRows {
 public:
  static constexpr const char* kName = "WordWindows";
  WordWindows(data::EncodedWords words, int64_t pad_id, bool pads_left);

  const std::vector<data::WordTokens>& tokens() const { return tokens_; }
  const std::vector<data::Window>& places() const { return places_; }
  int64_t before() const { return before_; }

 private:
  std::vector<data::WordTokens> tokens_;
  std::vector<data::Window> places_;
  int64_t before_;
};

/// Where the tokens of windows stand among those of all rows. Rows that are no WordWindows are a window each, all of
/// whose tokens count and whose labelled tokens are words.
class TokenPlaces {
 public:
  explicit TokenPlaces(const RowSource& rows);

  struct Part {
    int64_t input = 0;  // in the window's row of tokens
    int64_t token = 0;  // in all rows
    int64_t count = 0;
  };
  /// The tokens of a window whose prediction is taken from it.
  Part part(int64_t window) const { return parts_[static_cast<size_t>(window)]; }
  /// The row that a window is of, and a row's tokens among all, [begin, end).
  int64_t row_of(int64_t window) const { return rows_[static_cast<size_t>(window)]; }
  std::pair<int64_t, int64_t> tokens_of(int64_t row) const;
  int64_t row_count() const { return static_cast<int64_t>(begins_.size()) - 1; }
  int64_t token_count() const { return begins_.back(); }
  /// Whether a token is the first of its word.
  bool begins_word(int64_t token) const { return begins_word_[static_cast<size_t>(token)] != 0; }

 private:
  std::vector<Part> parts_;
  std::vector<int64_t> rows_;
  std::vector<int64_t> begins_ = {0};  // of each row, and the end
  std::vector<uint8_t> begins_word_;
};

/// Logits and labels of the tokens of all rows.
class TokenScorer final : public Scorer {
 public:
  TokenScorer(const Model& model, const RowSource& rows, std::string scheme, std::vector<std::string> metrics);

  void add(const Outputs& outputs, const Batch& batch) override;
  /// The loss of the labelled tokens, and the scores of their words; each word counts once.
  Json metrics() override;
  /// EntityScores::by_type().
  Json by_type();
  /// {"tags": [...]} of the words of the row that this window is of.
  Json row(int64_t position) override;
  /// logits.<row> [tokens, labels] of each row that has tokens, from 0.
  std::vector<std::pair<std::string, Tensor>> tensors() override;

  const TokenPlaces& places() const { return places_; }
  /// [tokens, labels] float32 of a row. Throws numeric.non-finite.
  Tensor logits_of(int64_t row);

 private:
  void check();
  EntityScores word_scores();

  const Model& model_;
  TokenPlaces places_;
  std::string scheme_;
  std::vector<std::string> metrics_;
  Tensor logits_;  // [tokens, labels] float32
  Tensor labels_;  // [tokens] int64, kNoLabel where none was seen
  bool checked_ = false;
};

}  // namespace deltaw::token_cls
