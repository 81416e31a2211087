// What a token classifier says of the rows of a file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/task_reader.h"
#include "tasks/token_cls/rows.h"

namespace deltaw::token_cls {

/// {"entities": [...]} of each row, by this strategy (aggregate.h); of a row of words also {"tags": [...]}, that of
/// each word's first token, null where the tokenizer makes nothing of the word. The tensors are TokenScorer's. What
/// `asked` names and the tokenizer must outlive it.
std::unique_ptr<Predictions> predictions_of(const AskedModel& asked, std::shared_ptr<const WordWindows> rows,
                                            std::vector<Json> ids, const Tokenizer& tokenizer,
                                            const std::string& strategy);

}  // namespace deltaw::token_cls
