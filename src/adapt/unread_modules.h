// Modules that a base's checkpoint has and the model that is loaded from it has not, since its outputs do not follow
// from them: what makes one vector of SigLIP's patches for the pair, beside the classifier that reads their mean.
// transformers' model has them all the same, so PEFT adapts and saves them with the others of their names.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"

namespace deltaw {

/// By their names in the checkpoint. Those of the family's other heads are not among them: an adapter of one is not an
/// adapter of this model. Empty where the model is of no family or its weights are not there any more.
std::set<std::string> unread_modules(const Model& model);

/// The tensors of these, and others that the model has not, such as DINOv2's mask token, in the checkpoint's types:
/// where the checkpoint is of the class that the model is written as, transformers misses them in a file without.
std::vector<NamedTensor> unread_tensors(const Model& model);

}  // namespace deltaw
