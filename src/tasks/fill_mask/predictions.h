// What a masked language model puts in the place of the masks of a text.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/task_reader.h"
#include "deltaw/tokenizer.h"

namespace deltaw::fill_mask {

struct Filling {
  const Tokenizer& tokenizer;
  int64_t mask_id = 0;
  int64_t pad_id = 0;
  int64_t top_k = 5;
};

/// The lines of transformers' fill-mask pipeline: for the one mask of a text its likeliest tokens, or a list of them
/// for each of several; "error" in their place for a text without a mask. `rows` and `ids` have an entry for every row
/// of the file. The tokenizer and what `asked` points to must outlive the result.
std::unique_ptr<Predictions> fillings_of(const AskedModel& asked, std::vector<EncodedRow> rows, std::vector<Json> ids,
                                         const Filling& filling);

}  // namespace deltaw::fill_mask
