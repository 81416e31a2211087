#include "io/encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "core/vectorised.h"
#include "deltaw/error.h"
#include "io/half.h"

namespace deltaw::io {
namespace {

constexpr int kBlock = 32;

/// The largest size of `count` numbers; infinity or NaN where one of them is.
DELTAW_INLINE inline float largest(const float* in, int64_t count) {
  uint32_t most = 0;  // sizes are in the order of their bits, NaN behind infinity
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::bit_cast<uint32_t>(in[i]) & 0x7FFFFFFFu);
  return std::bit_cast<float>(most);
}

DELTAW_VECTORISED bool is_below(const float* in, int64_t count, float limit) {
  return largest(in, count) < limit;
}

/// To the nearest whole number, halves away from zero.
DELTAW_INLINE inline float nearest(float value) {
  const float size = std::fabs(value), whole = std::floor(size);
  return std::copysign(whole + std::floor(2.0f * (size - whole)), value);
}

DELTAW_VECTORISED void encode_q8_0(const float* in, int64_t blocks, uint8_t* out) {
  for (; blocks > 0; --blocks, in += kBlock, out += 34) {
    const float d = largest(in, kBlock) / 127.0f;
    // Infinite for a scale that is zero as a half: any numbers give zeros then.
    const float inverse = d == 0.0f || std::isinf(1.0f / d) ? 0.0f : 1.0f / d;
    const uint16_t half = to_half(d);
    std::memcpy(out, &half, sizeof half);
    for (int i = 0; i < kBlock; ++i) {
      out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(nearest(in[i] * inverse))));
    }
  }
}

DELTAW_VECTORISED void encode_half(const float* in, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t half = to_half(in[i]);
    std::memcpy(out + 2 * i, &half, sizeof half);
  }
}

DELTAW_VECTORISED void encode_bfloat16(const float* in, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t value = to_bfloat16(in[i]);
    std::memcpy(out + 2 * i, &value, sizeof value);
  }
}

/// The first size that the type's rounding makes infinite; infinity itself where there is none.
float limit_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f16:
      return 65520.0f;
    case Dtype::bf16:
      return std::bit_cast<float>(0x7F7F8000u);
    case Dtype::q8_0:
      return 65520.0f * 127.0f;
    default:
      return INFINITY;
  }
}

void check_held(Dtype dtype, std::span<const float> in, const std::string& where) {
  const float limit = limit_of(dtype);
  if (is_below(in.data(), static_cast<int64_t>(in.size()), limit)) return;
  for (size_t i = 0; i < in.size(); ++i) {
    if (std::fabs(in[i]) < limit) continue;  // NaN is not
    const bool finite = std::isfinite(in[i]);
    throw Error({.id = "numeric.non-finite",
                 .what = fmt::format("the number at place {} is {}, which {} cannot hold", i, in[i], dtype_name(dtype)),
                 .where = where,
                 .fix = finite ? "write it as BF16 or F32"
                               : "the model holds a number that is not finite: train again with a lower learning rate, "
                                 "or take another checkpoint"});
  }
}

}  // namespace

void encode(Dtype dtype, std::span<const float> in, std::span<std::byte> out, const std::string& where) {
  const auto count = static_cast<int64_t>(in.size());
  if (stored_size(dtype, count) != out.size()) {
    throw Error({.id = "internal.tensor",
                 .what = fmt::format("{} numbers do not take {} bytes as {}", count, out.size(), dtype_name(dtype)),
                 .where = where,
                 .fix = "report this as a bug"});
  }
  auto* bytes = reinterpret_cast<uint8_t*>(out.data());
  if (dtype != Dtype::f32) check_held(dtype, in, where);
  switch (dtype) {
    case Dtype::f32:
      if (count > 0) std::memcpy(bytes, in.data(), out.size());
      return;
    case Dtype::f16:
      return encode_half(in.data(), count, bytes);
    case Dtype::bf16:
      return encode_bfloat16(in.data(), count, bytes);
    case Dtype::q8_0:
      return encode_q8_0(in.data(), count / kBlock, bytes);
    default:
      break;
  }
  throw Error({.id = "internal.tensor",
               .what = std::string("numbers cannot be written as ") + dtype_name(dtype),
               .where = where,
               .fix = "report this as a bug"});
}

}  // namespace deltaw::io
