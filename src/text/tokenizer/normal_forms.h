// Unicode normalisation that keeps the alignment.
#pragma once

#include "text/tokenizer/aligned.h"

namespace deltaw::text {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

void normal_form(Aligned& aligned, NormalForm form);

}  // namespace deltaw::text
