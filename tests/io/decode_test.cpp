#include "io/decode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "io/encode.h"
#include "io/gguf.h"
#include "io/half.h"
#include "io/safetensors.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw::io {
namespace {

using test::error_of;

std::vector<float> decoded(const TensorBytes& tensor) {
  std::vector<float> numbers(static_cast<size_t>(tensor.count()));
  decode(tensor, numbers);
  return numbers;
}

uint32_t bits(float number) {
  return std::bit_cast<uint32_t>(number);
}

class Decode : public testing::Test {
 protected:
  const GgufFile file_{test::fixture("golden/gguf/blocks.gguf")};
  const SafetensorsFile expected_{test::fixture("golden/gguf/numbers.safetensors")};
};

TEST_F(Decode, GivesTheBitsThatThePackageGives) {
  int types = 0;
  for (const TensorBytes& tensor : file_.tensors()) {
    const TensorBytes* expected = expected_.find(tensor.name);
    if (expected == nullptr) continue;
    ++types;
    EXPECT_EQ(tensor.shape, expected->shape) << tensor.name;
    const std::vector<float> numbers = decoded(tensor), wanted = decoded(*expected);
    ASSERT_EQ(numbers.size(), wanted.size()) << tensor.name;
    for (size_t i = 0; i < numbers.size(); ++i) {
      ASSERT_EQ(bits(numbers[i]), bits(wanted[i])) << tensor.name << " " << i << ": " << numbers[i] << " " << wanted[i];
    }
  }
  EXPECT_EQ(types, 13);
}

TEST_F(Decode, GivesRowsAsTheyAreStored) {
  for (const char* name : {"Q4_0", "Q6_K", "F16", "F32", "BF16"}) {
    TensorBytes tensor = *file_.find(name);
    const std::vector<float> whole = decoded(tensor);
    tensor.undo = [](std::span<float> all) { std::fill(all.begin(), all.end(), 7.0f); };
    EXPECT_FALSE(tensor.is_plain());
    const auto row = static_cast<size_t>(tensor.shape.back());
    std::vector<float> second(row);
    decode_rows(tensor, 1, second);
    for (size_t i = 0; i < row; ++i) ASSERT_EQ(bits(second[i]), bits(whole[row + i])) << name << " " << i;
    EXPECT_EQ(decoded(tensor), std::vector<float>(whole.size(), 7.0f)) << name;
  }
}

TEST_F(Decode, RefusesRowsThatAreNotThere) {
  const TensorBytes& blocks = *file_.find("Q8_0");
  const auto id = [&](int64_t first, size_t size) {
    std::vector<float> room(size);
    return error_of([&] { decode_rows(blocks, first, room); }).id();
  };
  const auto row = static_cast<size_t>(blocks.shape[1]);
  EXPECT_EQ(id(0, 2 * row), "none");
  EXPECT_EQ(id(2, 0), "none");
  EXPECT_EQ(id(1, 2 * row), "internal.tensor");
  EXPECT_EQ(id(-1, row), "internal.tensor");
  EXPECT_EQ(id(3, 0), "internal.tensor");
  EXPECT_EQ(id(0, 32), "internal.tensor");
  std::vector<float> room(2);
  EXPECT_EQ(error_of([&] { decode(*file_.find("I32"), room); }).id(), "internal.tensor");
  EXPECT_EQ(error_of([&] { decode(blocks, room); }).id(), "internal.tensor");
}

TEST_F(Decode, RoundsDoublesAndTakesNothingForNothing) {
  const std::vector<double> numbers = {0.1, -2.5, 1e300};
  const TensorBytes doubles{"d", Dtype::f64, {3}, reinterpret_cast<const std::byte*>(numbers.data())};
  EXPECT_EQ(decoded(doubles), (std::vector<float>{0.1f, -2.5f, std::numeric_limits<float>::infinity()}));
  const float number = 3;
  EXPECT_EQ(decoded({"s", Dtype::f32, {}, reinterpret_cast<const std::byte*>(&number)}), std::vector<float>{3});
  EXPECT_TRUE(decoded({"n", Dtype::q8_0, {4, 0}, nullptr}).empty());
}

TEST(Half, EveryOneComesBackAsItWas) {
  for (uint32_t half = 0; half < 65536; ++half) {
    const float number = from_half(static_cast<uint16_t>(half));
    const bool nan = (half & 0x7FFF) > 0x7C00;
    EXPECT_EQ(std::isnan(number), nan) << half;
    if (!nan) {
      EXPECT_EQ(to_half(number), half) << number;
    }
  }
  EXPECT_EQ(from_half(0x0001), 0x1p-24f);
  EXPECT_EQ(from_half(0x7BFF), 65504.0f);
  EXPECT_EQ(to_half(65519.0f), 0x7BFF);
  EXPECT_EQ(to_half(65520.0f), 0x7C00);
  EXPECT_EQ(to_half(1.0f + 0x1p-11f), 0x3C00);  // half way: to the even one
  EXPECT_EQ(to_half(1.0f + 0x3p-11f), 0x3C02);
  EXPECT_EQ(to_half(0x1p-25f), 0);
  EXPECT_EQ(to_half(0x1.8p-25f), 1);
}

TEST_F(Decode, EncodesToTheBytesThatThePackageGives) {
  const TensorBytes& plain = *expected_.find("plain");
  const std::vector<float> numbers = decoded(plain);
  for (const auto& [name, dtype] : {std::pair{"plain.F16", Dtype::f16}, std::pair{"plain.BF16", Dtype::bf16},
                                    std::pair{"plain.Q8_0", Dtype::q8_0}}) {
    const TensorBytes& wanted = *expected_.find(name);
    std::vector<std::byte> bytes(*stored_size(dtype, plain.count()));
    ASSERT_EQ(bytes.size(), wanted.size()) << name;
    encode(dtype, numbers, bytes, name);
    for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], wanted.data[i]) << name << " " << i;
  }
}

TEST(Encode, RefusesWhatTheTypeCannotHold) {
  const auto id = [](Dtype dtype, float number) {
    std::vector<float> numbers(32, 1.0f);
    numbers[31] = number;
    std::vector<std::byte> bytes(*stored_size(dtype, 32));
    return error_of([&] { encode(dtype, numbers, bytes, "w"); }).id();
  };
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(id(Dtype::f16, 65519.0f), "none");
  EXPECT_EQ(id(Dtype::f16, 65520.0f), "numeric.non-finite");
  EXPECT_EQ(id(Dtype::bf16, 3e38f), "none");
  EXPECT_EQ(id(Dtype::bf16, std::numeric_limits<float>::max()), "numeric.non-finite");
  EXPECT_EQ(id(Dtype::q8_0, 8.3e6f), "none");
  EXPECT_EQ(id(Dtype::q8_0, 8.4e6f), "numeric.non-finite");
  EXPECT_EQ(id(Dtype::q8_0, std::nanf("")), "numeric.non-finite");
  EXPECT_EQ(id(Dtype::f32, infinity), "none");
  EXPECT_EQ(id(Dtype::q4_0, 1.0f), "internal.tensor");
  std::vector<std::byte> bytes(34);
  EXPECT_EQ(error_of([&] { encode(Dtype::q8_0, std::vector<float>(31), bytes, "w"); }).id(), "internal.tensor");
}

}  // namespace
}  // namespace deltaw::io
