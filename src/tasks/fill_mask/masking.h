// Which tokens of a row are predicted, and what stands in their place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "deltaw/tokenizer.h"

namespace deltaw::fill_mask {

/// The names are those of transformers' DataCollatorForLanguageModeling.
struct MaskingOptions {
  double mlm_probability = 0.15;
  double mask_replace_prob = 0.8;
  double random_replace_prob = 0.1;
  bool whole_word_mask = false;

  void fields(FieldVisitor& f);
  /// Throws config.out-of-range where the two shares are more than 1 together.
  void check(const std::string& where) const;
};

struct Masking {
  MaskingOptions options;
  int64_t mask_id = 0;
  int64_t vocabulary = 1;  // a random token is one of the ids below it
};

/// The unit that each token of a row is of, numbered from 0 in order: what is chosen together. -1: never chosen.
using Units = std::vector<int64_t>;

/// Tokens as units or, with `whole_words`, the words of the tokenizer. Special tokens are of none, wherever they stand.
Units units_of(const Encoding& encoding, const Tokenizer& tokenizer, bool whole_words);

int64_t count_units(const Units& units);

/// A masked token: its position in the row and the id that replaces it.
struct Replacement {
  int64_t position;
  int64_t id;
};

/// Every unit is chosen with mlm_probability; where that chooses none, one of them all. Of the tokens of chosen units,
/// mask_replace_prob become the mask token and random_replace_prob a random one; the others stay (Devlin et al. 2018,
/// arXiv:1810.04805). Follows from the arguments alone.
std::vector<Replacement> draw_masks(const std::vector<int64_t>& ids, const Units& units, const Masking& masking,
                                    uint64_t key);

}  // namespace deltaw::fill_mask
