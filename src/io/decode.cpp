// The blocks of GGUF's types, after https://github.com/ggml-org/llama.cpp (gguf-py/gguf/quants.py): the same products
// and sums in the same order, so that the bits are the same.
#include "io/decode.h"

#include <cstring>
#include <string>

#include "core/vectorised.h"
#include "deltaw/error.h"
#include "io/half.h"

namespace deltaw::io {
namespace {

using Byte = uint8_t;

DELTAW_INLINE inline float half_at(const Byte* at) {
  uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return from_half(half);
}

DELTAW_INLINE inline uint32_t word_at(const Byte* at) {
  uint32_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// A block of 32: the low halves of 16 bytes are its first 16 numbers, the high halves the others.
constexpr int kHalf = 16;

DELTAW_VECTORISED void decode_q4_0(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 18, out += 32) {
    const float d = half_at(in);
    for (int i = 0; i < kHalf; ++i) {
      out[i] = d * static_cast<float>((in[2 + i] & 15) - 8);
      out[i + kHalf] = d * static_cast<float>((in[2 + i] >> 4) - 8);
    }
  }
}

DELTAW_VECTORISED void decode_q4_1(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 20, out += 32) {
    const float d = half_at(in), m = half_at(in + 2);
    for (int i = 0; i < kHalf; ++i) {
      out[i] = d * static_cast<float>(in[4 + i] & 15) + m;
      out[i + kHalf] = d * static_cast<float>(in[4 + i] >> 4) + m;
    }
  }
}

DELTAW_VECTORISED void decode_q5_0(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 22, out += 32) {
    const float d = half_at(in);
    const uint32_t high = word_at(in + 2);
    for (int i = 0; i < kHalf; ++i) {
      const auto first = static_cast<int>((in[6 + i] & 15u) | (high >> i & 1u) << 4);
      const auto second = static_cast<int>((in[6 + i] >> 4) | (high >> (i + kHalf) & 1u) << 4);
      out[i] = d * static_cast<float>(first - 16);
      out[i + kHalf] = d * static_cast<float>(second - 16);
    }
  }
}

DELTAW_VECTORISED void decode_q5_1(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 24, out += 32) {
    const float d = half_at(in), m = half_at(in + 2);
    const uint32_t high = word_at(in + 4);
    for (int i = 0; i < kHalf; ++i) {
      const auto first = static_cast<int>((in[8 + i] & 15u) | (high >> i & 1u) << 4);
      const auto second = static_cast<int>((in[8 + i] >> 4) | (high >> (i + kHalf) & 1u) << 4);
      out[i] = d * static_cast<float>(first) + m;
      out[i + kHalf] = d * static_cast<float>(second) + m;
    }
  }
}

DELTAW_VECTORISED void decode_q8_0(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 34, out += 32) {
    const float d = half_at(in);
    for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(in[2 + i])) * d;
  }
}

// A block of 256 of the K types has parts of 16 or 32 numbers, each with a scale, and in some a minimum, of few bits.

DELTAW_VECTORISED void decode_q2_k(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 84, out += 256) {
    const Byte* scales = in;
    const float d = half_at(in + 80), least = half_at(in + 82);
    for (int part = 0; part < 16; ++part) {
      const float dl = d * static_cast<float>(scales[part] & 15), ml = least * static_cast<float>(scales[part] >> 4);
      const Byte* q = in + 16 + 32L * (part / 8) + 16L * (part % 2);
      const int shift = 2 * (part / 2 % 4);
      for (int i = 0; i < 16; ++i) out[16 * part + i] = dl * static_cast<float>(q[i] >> shift & 3) - ml;
    }
  }
}

/// Scales of 6 bits, less 32: bytes 0 to 7 hold the low halves, the low ones first, bytes 8 to 11 the two high bits.
DELTAW_INLINE inline int scale_of_q3_k(const Byte* scales, int part) {
  const int low = part < 8 ? scales[part] & 15 : scales[part - 8] >> 4;
  const int high = scales[8 + part % 4] >> (2 * (part / 4)) & 3;
  return (low | high << 4) - 32;
}

DELTAW_VECTORISED void decode_q3_k(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 110, out += 256) {
    const float d = half_at(in + 108);
    for (int part = 0; part < 16; ++part) {
      const float dl = d * static_cast<float>(scale_of_q3_k(in + 96, part));
      const Byte* high = in + 16L * (part % 2);
      const Byte* q = in + 32 + 32L * (part / 8) + 16L * (part % 2);
      const int shift = 2 * (part / 2 % 4), bit = part / 2;
      for (int i = 0; i < 16; ++i) {
        const int value = (q[i] >> shift & 3) - ((high[i] >> bit & 1) != 0 ? 0 : 4);
        out[16 * part + i] = dl * static_cast<float>(value);
      }
    }
  }
}

/// Scale and minimum of one of 8 parts, 6 bits each: the first four in the low bits of bytes 0 to 7, the high bits of
/// which belong to the other four, whose low halves are bytes 8 to 11.
struct ScaleAndMinimum {
  float scale, minimum;
};
DELTAW_INLINE inline ScaleAndMinimum scale_of_q4_k(const Byte* scales, int part) {
  const int i = part % 4;
  if (part < 4) return {static_cast<float>(scales[i] & 63), static_cast<float>(scales[i + 4] & 63)};
  return {static_cast<float>((scales[i + 8] & 15) | (scales[i] >> 2 & 48)),
          static_cast<float>((scales[i + 8] >> 4) | (scales[i + 4] >> 2 & 48))};
}

DELTAW_VECTORISED void decode_q4_k(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 144, out += 256) {
    const float d = half_at(in), least = half_at(in + 2);
    for (int part = 0; part < 8; ++part) {
      const ScaleAndMinimum of = scale_of_q4_k(in + 4, part);
      const float dl = d * of.scale, ml = least * of.minimum;
      const Byte* q = in + 16 + 32L * (part / 2);
      const int shift = 4 * (part % 2);
      for (int i = 0; i < 32; ++i) out[32 * part + i] = dl * static_cast<float>(q[i] >> shift & 15) - ml;
    }
  }
}

DELTAW_VECTORISED void decode_q5_k(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 176, out += 256) {
    const float d = half_at(in), least = half_at(in + 2);
    const Byte* high = in + 16;
    for (int part = 0; part < 8; ++part) {
      const ScaleAndMinimum of = scale_of_q4_k(in + 4, part);
      const float dl = d * of.scale, ml = least * of.minimum;
      const Byte* q = in + 48 + 32L * (part / 2);
      const int shift = 4 * (part % 2);
      for (int i = 0; i < 32; ++i) {
        const int value = (q[i] >> shift & 15) | (high[i] >> part & 1) << 4;
        out[32 * part + i] = dl * static_cast<float>(value) - ml;
      }
    }
  }
}

DELTAW_VECTORISED void decode_q6_k(const Byte* in, int64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 210, out += 256) {
    const float d = half_at(in + 208);
    for (int part = 0; part < 16; ++part) {
      const float dl = d * static_cast<float>(static_cast<int8_t>(in[192 + part]));
      const int row = part / 2;  // of 32 numbers
      const Byte* low = in + 64L * (row / 4) + 32L * (row % 2) + 16L * (part % 2);
      const Byte* high = in + 128 + 32L * (row / 4) + 16L * (part % 2);
      const int low_shift = 4 * (row / 2 % 2), high_shift = 2 * (row % 4);
      for (int i = 0; i < 16; ++i) {
        const int value = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
        out[16 * part + i] = dl * static_cast<float>(value - 32);
      }
    }
  }
}

DELTAW_VECTORISED void decode_half(const Byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = half_at(in + 2 * i);
}

DELTAW_VECTORISED void decode_bfloat16(const Byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t value;
    std::memcpy(&value, in + 2 * i, sizeof value);
    out[i] = from_bfloat16(value);
  }
}

void decode_double(const Byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    double value;
    std::memcpy(&value, in + 8 * i, sizeof value);
    out[i] = static_cast<float>(value);
  }
}

void copy_float(const Byte* in, int64_t count, float* out) {
  if (count > 0) std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
}

/// Of so many blocks; a plain number is one.
using Decoder = void (*)(const Byte*, int64_t, float*);

Decoder decoder_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return decode_double;
    case Dtype::f32:
      return copy_float;
    case Dtype::f16:
      return decode_half;
    case Dtype::bf16:
      return decode_bfloat16;
    case Dtype::q4_0:
      return decode_q4_0;
    case Dtype::q4_1:
      return decode_q4_1;
    case Dtype::q5_0:
      return decode_q5_0;
    case Dtype::q5_1:
      return decode_q5_1;
    case Dtype::q8_0:
      return decode_q8_0;
    case Dtype::q2_k:
      return decode_q2_k;
    case Dtype::q3_k:
      return decode_q3_k;
    case Dtype::q4_k:
      return decode_q4_k;
    case Dtype::q5_k:
      return decode_q5_k;
    case Dtype::q6_k:
      return decode_q6_k;
    default:
      return nullptr;
  }
}

[[noreturn]] void refuse(const TensorBytes& tensor, const std::string& fault) {
  throw Error(
      {.id = "internal.tensor",
       .what = "cannot decode the tensor '" + tensor.name + "' of type " + dtype_name(tensor.dtype) + ": " + fault,
       .where = "decode",
       .fix = "report this as a bug"});
}

}  // namespace

void decode_rows(const TensorBytes& tensor, int64_t first, std::span<float> out) {
  const Decoder decoder = decoder_of(tensor.dtype);
  if (decoder == nullptr) refuse(tensor, "it holds whole numbers");
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back(), count = tensor.count();
  const auto wanted = static_cast<int64_t>(out.size());
  const DtypeBlock block = dtype_block(tensor.dtype);
  const int64_t rows = row == 0 ? 0 : count / row;
  if (row % block.numbers != 0) refuse(tensor, "its rows are no whole blocks");
  if (row == 0 ? wanted != 0 : wanted % row != 0) refuse(tensor, "the room for them is no number of rows");
  if (first < 0 || first > rows || (row > 0 && wanted / row > rows - first)) refuse(tensor, "it has no such rows");
  const auto skipped = static_cast<size_t>(first * row / block.numbers) * block.bytes;
  decoder(reinterpret_cast<const Byte*>(tensor.data) + skipped, wanted / block.numbers, out.data());
}

void decode(const TensorBytes& tensor, std::span<float> out) {
  if (static_cast<int64_t>(out.size()) != tensor.count()) refuse(tensor, "the room for its numbers has another size");
  if (!tensor.undo) return decode_rows(tensor, 0, out);
  TensorBytes stored = tensor;
  stored.shape = {tensor.count()};  // the rows of the file may be columns here
  decode_rows(stored, 0, out);
  tensor.undo(out);
}

}  // namespace deltaw::io
