// Rows of which a part is what an adapted model makes: classes that a tower of texts reads.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>

#include "deltaw/adapter.h"

namespace deltaw::tasks {

class FollowsAdapter {
 public:
  virtual ~FollowsAdapter() = default;
  /// The tensors of every batch that are others with this adapter than with that which the rows were made for.
  virtual std::map<std::string, at::Tensor> tensors_of(const Adapter& adapter) const = 0;
};

}  // namespace deltaw::tasks
