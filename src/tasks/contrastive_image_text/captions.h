// Files of images with captions, each image once.
#pragma once

#include <cstdint>

#include "data/load_rows.h"
#include "deltaw/data.h"
#include "tasks/common/captions.h"

namespace deltaw::contrastive {

using tasks::Captioned;
using tasks::CaptionedImages;
using tasks::CaptionKeys;
using tasks::Captions;
using tasks::captions_of;

/// The images of a split, each once with all of its captions; max_*_samples and validation_split count images. Throws
/// what Tables::read and captions_of throw.
CaptionedImages read_split(const data::Tables& tables, const CaptionKeys& keys, const DataOptions& options, Split split,
                           uint64_t seed);

/// Whether there are rows of validation at all.
bool has_validation(const data::Tables& tables, const DataOptions& options);

}  // namespace deltaw::contrastive
