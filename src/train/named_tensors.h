// Named tensors to a safetensors file and back.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw::train {

void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Every tensor of the file, in memory of its own.
std::map<std::string, Tensor> read_tensors(const std::filesystem::path& path);

}  // namespace deltaw::train
