// What ensure_weight_tying keeps one tensor: PEFT's rule.
#pragma once

#include "deltaw/adapter.h"

namespace deltaw {

/// The embedding and the head that is tied to it, and what of them an adapter trains as one. PEFT goes by names: it
/// ties where modules_to_save, or else target_modules, names `embed_tokens` or `lm_head`. GPT-2's `wte` is neither.
struct Ties {
  const Layer* words = nullptr;
  const Layer* head = nullptr;  // both null where the model ties nothing
  bool modules = false;         // their stand-ins are one tensor
  bool targets = false;         // their factors are: the head's are the embedding's, turned round

  /// `config` as it acts: the embedding is among what it names.
  AdapterConfig applied(AdapterConfig config) const;
};

Ties find_ties(const Model& model, const AdapterConfig& config);

}  // namespace deltaw
