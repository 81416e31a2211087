// Models as checkpoint folders.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"

namespace deltaw {

/// The name of a type in a configuration: "bfloat16".
const char* type_name(at::ScalarType type);

/// The tensor as it is stored: rounded once. Throws numeric.non-finite naming it where the type cannot hold it.
Tensor rounded(const std::string& name, const Tensor& tensor, at::ScalarType type);

/// config.json and the weights. A tensor that is another one still (tied weights) is left out; `stored` is the type of
/// all tensors, where they have one.
void write_checkpoint(const std::filesystem::path& folder, const Model& model, std::vector<NamedTensor> tensors,
                      std::optional<at::ScalarType> stored);

}  // namespace deltaw
