// Modules that a base's checkpoint has and the model that is loaded from it has not, since its outputs do not follow
// from them: what makes one vector of SigLIP's patches for the pair, beside the classifier that reads their mean.
// transformers' model has them all the same, so PEFT adapts and saves them with the others of their names.
#pragma once

#include <set>
#include <string>

#include "deltaw/model.h"

namespace deltaw {

/// By their names in the checkpoint. Those of the family's other heads are not among them: an adapter of one is not an
/// adapter of this model. Empty where the model is of no family or its weights are not there any more.
std::set<std::string> unread_modules(const Model& model);

}  // namespace deltaw
