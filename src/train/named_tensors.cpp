#include "train/named_tensors.h"

#include <ATen/ATen.h>

#include <cstring>

#include "io/safetensors.h"
#include "models/loader.h"

namespace deltaw::train {

void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<Tensor> alive;
  std::vector<io::TensorBytes> blocks;
  for (const NamedTensor& tensor : tensors) {
    alive.push_back(tensor.value.detach().contiguous());
    blocks.push_back(to_bytes(tensor.name, alive.back()));
  }
  io::write_safetensors(path, blocks);
}

std::map<std::string, Tensor> read_tensors(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  std::map<std::string, Tensor> tensors;
  for (const io::TensorBytes& block : file.tensors()) {
    Tensor tensor = at::empty(block.shape, scalar_type(block.dtype));
    if (block.size() > 0) std::memcpy(tensor.mutable_data_ptr(), block.data, block.size());
    tensors[block.name] = std::move(tensor);
  }
  file.check_length();
  return tensors;
}

}  // namespace deltaw::train
