#include "ops/dropout_mask.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/vectors.h"
#if defined(DELTAW_BF16_UNITS)
#include <immintrin.h>
// Of what the header's own functions leave undefined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace deltaw::ops {
namespace {

constexpr int64_t kLanes = 16;           // counters worked on side by side: the compiler makes vectors of them
constexpr int64_t kBlock = 8 * kLanes;   // a counter gives four words, a word two numbers
constexpr int64_t kBlocksPerTask = 256;  // 32,768 elements

using Lanes = std::array<uint32_t, kLanes>;

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3): ten rounds over the
// counters {first, first + 1, ...}, with no state between them, so that the compiler makes vectors of the loops.
DELTAW_VECTORISED
std::array<Lanes, 4> philox_by_lanes(uint64_t first, uint64_t key) {
  std::array<Lanes, 4> c{};
  for (int64_t i = 0; i < kLanes; ++i) {
    c[0][i] = static_cast<uint32_t>(first + i);
    c[1][i] = static_cast<uint32_t>((first + i) >> 32);
  }
  auto low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round, low += 0x9E3779B9u, high += 0xBB67AE85u) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const uint64_t p = uint64_t{0xD2511F53u} * c[0][i], q = uint64_t{0xCD9E8D57u} * c[2][i];
      const uint32_t a = static_cast<uint32_t>(q >> 32) ^ c[1][i] ^ low;
      const uint32_t b = static_cast<uint32_t>(p >> 32) ^ c[3][i] ^ high;
      c[1][i] = static_cast<uint32_t>(q);
      c[3][i] = static_cast<uint32_t>(p);
      c[0][i] = a;
      c[2][i] = b;
    }
  }
  return c;
}

#if defined(DELTAW_BF16_UNITS)
// The same. Words are the low halves of 64 bits, where products find them; what is above them is never read.
DELTAW_BF16_UNITS
std::array<Lanes, 4> philox_in_units(uint64_t first, uint64_t key) {
  const __m512i by0 = _mm512_set1_epi64(0xD2511F53), by2 = _mm512_set1_epi64(0xCD9E8D57);
  std::array<Lanes, 4> words;
  __m512i c[4][2];
  for (int half = 0; half < 2; ++half) {
    const __m512i ahead = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    c[0][half] = _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first) + 8 * half), ahead);
    c[1][half] = _mm512_srli_epi64(c[0][half], 32);
    c[2][half] = c[3][half] = _mm512_setzero_si512();
  }
  auto low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round, low += 0x9E3779B9u, high += 0xBB67AE85u) {
    const __m512i key0 = _mm512_set1_epi64(low), key2 = _mm512_set1_epi64(high);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512i p = _mm512_mul_epu32(by0, c[0][half]), q = _mm512_mul_epu32(by2, c[2][half]);
      c[0][half] = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(q, 32), c[1][half]), key0);
      c[2][half] = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(p, 32), c[3][half]), key2);
      c[1][half] = q;
      c[3][half] = p;
    }
  }
  for (int word = 0; word < 4; ++word) {
    for (int half = 0; half < 2; ++half) {
      _mm512_mask_cvtepi64_storeu_epi32(words[word].data() + 8 * half, 0xFF, c[word][half]);
    }
  }
  return words;
}
#endif

std::array<Lanes, 4> philox(uint64_t first, uint64_t key) {
#if defined(DELTAW_BF16_UNITS)
  static const bool in_units = has_bf16_units();
  if (in_units) return philox_in_units(first, key);
#endif
  return philox_by_lanes(first, key);
}

// Elements [block * kBlock, (block + 1) * kBlock): zero where a 16-bit number is below the threshold.
template <class Scalar>
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("O3")))
#endif
void fill_block(Scalar* out, int64_t block, uint32_t threshold, Scalar kept, uint64_t key) {
  const std::array<Lanes, 4> words = philox(static_cast<uint64_t>(block) * kLanes, key);
  for (const Lanes& word : words) {
    for (int64_t i = 0; i < kLanes; ++i) *out++ = (word[i] & 0xFFFF) < threshold ? Scalar(0) : kept;
    for (int64_t i = 0; i < kLanes; ++i) *out++ = (word[i] >> 16) < threshold ? Scalar(0) : kept;
  }
}

template <class Scalar>
void fill_mask(Scalar* out, int64_t n, uint32_t threshold, Scalar kept, uint64_t key) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, kBlocksPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t rest = n - block * kBlock;
      if (rest >= kBlock) {
        fill_block(out + block * kBlock, block, threshold, kept, key);
        continue;
      }
      std::array<Scalar, kBlock> last;
      fill_block(last.data(), block, threshold, kept, key);
      std::copy_n(last.data(), rest, out + block * kBlock);
    }
  });
}

}  // namespace

void fill_dropout_mask(float* out, int64_t n, double p, uint64_t key) {
  const double share = std::round(p * 65536) / 65536;
  fill_mask(out, n, static_cast<uint32_t>(share * 65536), static_cast<float>(1 / (1 - share)), key);
}

at::Tensor dropout_mask(const at::Tensor& like, double p, uint64_t key) {
  at::Tensor mask = at::empty(like.sizes(), like.options().memory_format(at::MemoryFormat::Contiguous));
  // In 65,536ths; the scale follows what is left, so that the mean of the mask is one.
  const double share = std::round(p * 65536) / 65536, kept = 1 / (1 - share);
  if (!like.is_cpu()) {
    at::Generator generator = at::globalContext().defaultGenerator(like.device()).clone();
    generator.set_current_seed(key);
    return mask.bernoulli_(1 - share, generator).mul_(kept);
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, mask.scalar_type(), "dropout_mask", [&] {
    fill_mask(mask.data_ptr<scalar_t>(), mask.numel(), static_cast<uint32_t>(share * 65536),
              static_cast<scalar_t>(kept), key);
  });
  return mask;
}

}  // namespace deltaw::ops
