// GGUF files as they were planned: written, and read again.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "adapt/gguf_plan.h"
#include "core/files.h"
#include "io/decode.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

/// Whether numbers of a file are these, rounded once; of Q8_0, within half a step of each block.
bool is_stored(const Tensor& found, const Tensor& numbers, io::Dtype dtype) {
  if (dtype != io::Dtype::q8_0) return ops::host_equal(found, numbers.to(scalar_type(dtype)).to(at::kFloat));
  constexpr int64_t kBlock = 32;
  // Half a step of 127 and, since the scale is rounded to float16 behind that, 127 times what is lost there.
  constexpr double kShare = 0.5 / 127 + 0x1p-11, kTiny = 127 * 0x1p-25;
  const Tensor blocks = numbers.reshape({-1, kBlock}), off = (found.reshape({-1, kBlock}) - blocks).abs();
  return ops::host_flag(off.le(blocks.abs().amax(1, /*keepdim=*/true) * kShare + kTiny).all());
}

}  // namespace

void write_gguf_plan(const GgufPlan& plan, const std::filesystem::path& folder) {
  std::vector<io::GgufTensor> tensors;
  for (const GgufTensorPlan& planned : plan.tensors) {
    io::GgufTensor tensor{.name = planned.name, .dtype = planned.dtype, .shape = planned.shape};
    if (planned.kept) {
      tensor.stored = planned.kept->data;
    } else {
      tensor.numbers = [numbers = planned.numbers](std::span<float> out) {
        std::copy_n(numbers.const_data_ptr<float>(), out.size(), out.begin());
      };
    }
    tensors.push_back(std::move(tensor));
  }
  io::write_gguf(folder / kGgufFile, plan.values, tensors);
  if (plan.tokenizer) text::check_gguf_tokenizer(folder / kGgufFile, *plan.tokenizer);
  write_file(folder / "Modelfile", fmt::format("FROM ./{}\n", kGgufFile));
}

std::string problem_of(const GgufPlan& plan, const std::filesystem::path& path) {
  const io::GgufFile file(path);
  for (const GgufTensorPlan& planned : plan.tensors) {
    const io::TensorBytes* stored = file.find(planned.name);
    if (!stored || stored->dtype != planned.dtype || stored->shape != planned.shape) {
      return planned.name + " is missing, or of another type or shape";
    }
    if (planned.kept) {
      const bool same = std::memcmp(stored->data, planned.kept->data, stored->size()) == 0;
      if (!same) return planned.name + " is not the base's";
      continue;
    }
    const Tensor found = at::empty(planned.numbers.sizes(), at::kFloat);
    io::decode(*stored, {found.mutable_data_ptr<float>(), static_cast<size_t>(found.numel())});
    if (!is_stored(found, planned.numbers, planned.dtype)) return planned.name + " is not what was to be written";
  }
  file.check_length();
  return "";
}

}  // namespace deltaw
