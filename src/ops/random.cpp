#include "ops/random.h"

#include <ATen/CPUGeneratorImpl.h>

namespace deltaw::ops {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9E3779B97F4A7C15ull * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// torch's own generator. A hash of key and position was quicker, and too regular: under its masks STS-B stayed on the
// plateau that it leaves under these.
at::Tensor dropout_mask(const at::Tensor& like, double p, uint64_t key) {
  at::Generator generator = like.is_cpu() ? at::make_generator<at::CPUGeneratorImpl>(key)
                                          : at::globalContext().defaultGenerator(like.device()).clone();
  if (!like.is_cpu()) generator.set_current_seed(key);
  const auto options = like.options().memory_format(at::MemoryFormat::Contiguous);
  return at::empty(like.sizes(), options).bernoulli_(1 - p, generator).mul_(1 / (1 - p));
}

}  // namespace deltaw::ops
