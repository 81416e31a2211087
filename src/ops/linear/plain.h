// Linear layers that plain autograd computes: what no update of the weight changes, or one that is settled for many
// passes, or whose method acts on the input.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/active_updates.h"
#include "deltaw/model.h"

namespace deltaw::ops {

/// Whether a layer is one of these; `adapted` is null where the call's adapter does not change it.
bool is_plain(const AdaptedLayer* adapted, const Call& call);

/// y of such a layer. x [..., d_in]; y is in rows where `adapted` is not null.
Tensor plain_layer(const Tensor& x, const Linear& layer, const AdaptedLayer* adapted, Call& call);

}  // namespace deltaw::ops
