#include "io/content_hash.h"

#include <map>

#include "core/hash.h"

namespace deltaw::io {
namespace {

constexpr std::string_view kPrefix = "sampled1:";
// Of each tensor: its ends and two stretches between. Other training of the same model changes nearly every number.
constexpr size_t kStretches = 4, kStretchBytes = 256;

bool is_floating(Dtype dtype) {
  return is_block_type(dtype) || dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::f16 ||
         dtype == Dtype::bf16;
}

std::string samples(const TensorBytes& tensor) {
  const auto* bytes = reinterpret_cast<const char*>(tensor.data);
  const size_t size = tensor.size();
  if (size <= kStretches * kStretchBytes) return {bytes, size};
  std::string all;
  for (size_t i = 0; i < kStretches; ++i) {
    all.append(bytes + (size - kStretchBytes) / (kStretches - 1) * i, kStretchBytes);
  }
  return all;
}

std::string hash_of(const TensorBytes& tensor) {
  return xxh128(tensor.name + '\0' + dtype_name(tensor.dtype) + shape_text(tensor.shape) + samples(tensor));
}

}  // namespace

std::string content_hash(const Checkpoint& checkpoint) {
  std::map<std::string, std::string> hashes;  // by name
  for (const TensorFile& file : checkpoint.files()) {
    for (const TensorBytes& tensor : file.tensors()) {
      // Counters such as position_ids are written by some versions of transformers only, and are not read.
      if (is_floating(tensor.dtype)) hashes[tensor.name] = hash_of(tensor);
    }
  }
  checkpoint.check_lengths();
  std::string all;
  for (const auto& [name, hash] : hashes) all += hash;
  return std::string(kPrefix) + xxh128(all);
}

bool is_content_hash(std::string_view text) {
  return text.starts_with(kPrefix) && is_xxh128(text.substr(kPrefix.size()));
}

}  // namespace deltaw::io
