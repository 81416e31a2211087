// What a causal model says of the rows of a file.
#pragma once

#include <memory>
#include <vector>

#include "deltaw/task_reader.h"
#include "deltaw/text_data.h"

namespace deltaw::causal_lm {

/// `rows` are those of `texts`, encoded and none left out. What `asked` points to must outlive the result.
std::unique_ptr<Predictions> predictions_of(const AskedModel& asked, TextDataset texts, std::vector<EncodedRow> rows,
                                            int64_t pad_id, bool pads_left);

}  // namespace deltaw::causal_lm
