#include "ops/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

namespace deltaw::ops {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements per task

// MurmurHash3's finaliser over a counter: enough for a mask, and the compiler turns the loop into vector code.
template <class Scalar>
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("O3")))
#endif
void fill_mask(Scalar* out, int64_t begin, int64_t end, uint32_t threshold, Scalar kept, uint64_t key) {
  const auto low = static_cast<uint32_t>(key);
  const auto high = static_cast<uint32_t>(key >> 32);
  for (int64_t i = begin; i < end; ++i) {
    auto h = static_cast<uint32_t>(i) * 0x9E3779B1u + low;
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= (h >> 13) ^ high;
    h *= 0xC2B2AE35u;
    h ^= h >> 16;
    out[i] = h < threshold ? Scalar(0) : kept;
  }
}

}  // namespace

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9E3779B97F4A7C15ull * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

at::Tensor dropout_mask(const at::Tensor& like, double p, uint64_t key) {
  const double kept = 1 / (1 - p);
  if (!like.is_cpu()) {
    at::Generator generator = at::globalContext().defaultGenerator(like.device()).clone();
    generator.set_current_seed(key);
    return at::empty(like.sizes(), like.options()).bernoulli_(1 - p, generator).mul_(kept);
  }
  const auto threshold = static_cast<uint32_t>(p * 4294967296.0);
  at::Tensor mask = at::empty(like.sizes(), like.options().memory_format(at::MemoryFormat::Contiguous));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, mask.scalar_type(), "dropout_mask", [&] {
    auto* out = mask.data_ptr<scalar_t>();
    at::parallel_for(0, mask.numel(), kGrain, [&](int64_t begin, int64_t end) {
      fill_mask<scalar_t>(out, begin, end, threshold, static_cast<scalar_t>(kept), key);
    });
  });
  return mask;
}

}  // namespace deltaw::ops
