// What merging writes, whatever the kind of file.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

/// The model as its checkpoint stores it, in float32 or wider, with the adapter's head and vocabulary.
std::unique_ptr<Model> original_of(const Model& model);

/// Every tensor of the merged model, in the type that the checkpoint stores it in, or in `stored`. `original` is
/// original_of() the adapter's model. Throws numeric.non-finite.
std::vector<NamedTensor> merged_tensors(const Adapter& adapter, const Model& original,
                                        std::optional<at::ScalarType> stored, const Progress& progress);

/// Throws config.not-mergeable for a method that is no update of weights.
void refuse_unmergeable(const Adapter& adapter);

}  // namespace deltaw
