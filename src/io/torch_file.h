// Files of torch.save that hold a dictionary of tensors: pytorch_model.bin, adapter_model.bin.
#pragma once

#include <filesystem>

#include "io/tensor_file.h"

namespace deltaw::io {

/// Reads the zip archives of torch 1.6 and later, and the files of torch before. Tensors stay where they lie, but for
/// those whose elements do not stand in order, which are copied. Throws format.pickle for anything but tensors, which
/// is never executed, and format.torch-file for an archive that is damaged.
class TorchFile : public TensorFile {
 public:
  explicit TorchFile(const std::filesystem::path& path);
};

}  // namespace deltaw::io
