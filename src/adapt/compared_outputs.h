// What was written beside the adapter it came from, by their logits.
#pragma once

#include "deltaw/adapter.h"

namespace deltaw {

/// What three make of one input.
struct Compared {
  Tensor base, adapter, written;

  double difference() const;  // largest element of written - adapter
  /// What that may be where nothing in between was rounded to 16 bits.
  double tolerance() const;
  /// || written - adapter || / || adapter - base ||; 0 where they are the same but for rounding in float32.
  double share() const;
};

}  // namespace deltaw
