// Rows of words to tokens and, where they are longer than a model reads, to windows that overlap.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/word_rows.h"
#include "deltaw/data.h"
#include "deltaw/tokenizer.h"

namespace deltaw::data {

/// The tokens of a row without special ones. All vectors but `text` have an entry for each token.
struct WordTokens {
  std::string text;  // the words with blanks between them, or the row's own text
  std::vector<int64_t> ids;
  std::vector<std::pair<int64_t, int64_t>> offsets;  // [begin, end) in code points of `text`
  std::vector<int64_t> words;                        // the number of its word; of a text, of what blanks lie around
  std::vector<int64_t> labels;                       // its class, or kNoLabel
  int64_t word_count = 0;                            // words of the row; 0 of a text
};

/// Tokens [begin, end) of a row that go through a model at once, and those of them [own_begin, own_end) whose
/// prediction is taken from there.
struct Window {
  int64_t row = 0;
  int64_t begin = 0, end = 0;
  int64_t own_begin = 0, own_end = 0;
};

struct WordEncoding {
  int64_t max_length = 0;         // tokens of a window, special ones included
  int64_t stride = 0;             // tokens that neighbouring windows share at least where they can; 0: a quarter
  bool label_all_tokens = false;  // and not only the first of a word
  bool learned = false;           // windows without a label are left out
};

struct EncodedWords {
  std::vector<WordTokens> rows;
  std::vector<EncodedRow> windows;  // as a model reads them; `index` is that of the row
  std::vector<Window> places;       // of each window
  int64_t before = 0;               // special tokens at the beginning of a window
  int64_t without_tokens = 0;       // words that the tokenizer makes nothing of
  int64_t long_rows = 0;            // rows of several windows
};

/// The ids of transformers' tokenizers for text that is split into words (is_split_into_words), and for text that is
/// not; of a byte-level tokenizer those with add_prefix_space, which words need.
class WordTokenizer {
 public:
  explicit WordTokenizer(const Tokenizer& tokenizer);

  WordTokens of_words(const std::vector<std::string>& words) const;
  WordTokens of_text(const std::string& text) const;
  /// A window as the model reads it: with the tokens that the tokenizer puts around a text.
  EncodedRow window(const std::vector<int64_t>& ids, int64_t begin, int64_t end) const;

  int64_t before() const { return static_cast<int64_t>(before_.size()); }
  int64_t special() const { return static_cast<int64_t>(before_.size() + after_.size()); }

 private:
  Encoding encoded(const std::string& text) const;

  const Tokenizer& tokenizer_;
  bool lacks_blank_ = false;             // a blank must stand before a word for it to be encoded as one
  std::vector<int64_t> before_, after_;  // special tokens
  std::vector<int64_t> types_before_, types_after_;
  int64_t type_ = 0;  // of the row's tokens
};

/// Windows of at most `room` tokens that hold whole words where these fit, each begun `stride` tokens or a little less
/// before the end of the one before. A word's prediction is taken from the window in which the fewer of the tokens on
/// its two sides are most; where a window begins or ends with the row, nothing is lacking on that side.
std::vector<Window> windows_of(const WordTokens& row, int64_t room, int64_t stride);

/// Tokens and windows of every row. A class of `labels` that begins an entity ("B-PER") is continued by the class
/// inside it ("I-PER") on the further tokens of a word, as in transformers' run_ner, where label_all_tokens.
/// Throws config.max-length where no token fits beside the special ones, and config.stride for a stride that leaves a
/// window nothing new.
EncodedWords encode_words(const WordDataset& dataset, const Tokenizer& tokenizer, const LabelSet& labels,
                          const WordEncoding& encoding);

}  // namespace deltaw::data
