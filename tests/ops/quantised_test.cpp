// Weights in few bits: against bitsandbytes, and what quantising may change.
#include "ops/quantised.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/compared.h"
#include "support/golden.h"

namespace deltaw {
namespace {

using test::Golden;

Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kFloat).normal_(0, 1, generator);
}

Quantisation kind_of(const std::string& name) {
  return {.type = name.starts_with("nf4")   ? QuantType::nf4
                  : name.starts_with("fp4") ? QuantType::fp4
                                            : QuantType::int8,
          .nested = name.ends_with("_nested")};
}

void expect_golden(const Golden& golden, const std::string& matrix, const std::string& kind) {
  const std::string key = matrix + "." + kind + ".";
  SCOPED_TRACE(key);
  const Tensor weight = golden[matrix];
  const BnbQuantised quantised(weight, kind_of(kind), at::kFloat);
  EXPECT_TRUE(quantised.codes().equal(golden[key + "codes"]));
  EXPECT_TRUE(quantised.scales().equal(golden[key + "scales"]));
  const bool nested = kind_of(kind).nested;  // a mean of many numbers: its last bit depends on the machine's vectors
  if (nested) {
    EXPECT_TRUE(at::allclose(quantised.nested_scales(), golden[key + "nested_scales"], 1e-6, 0));
    EXPECT_TRUE(at::allclose(quantised.nested_offset(), golden[key + "nested_offset"], 1e-6, 0));
    EXPECT_TRUE(at::allclose(quantised.dequantised(), golden[key + "dequantised"], 1e-6, 1e-9));
    return;
  }
  EXPECT_TRUE(quantised.dequantised().equal(golden[key + "dequantised"]));
  if (!golden.has(key + "dequantised_bf16")) return;
  EXPECT_TRUE(BnbQuantised(weight, kind_of(kind), at::kBFloat16).dequantised().equal(golden[key + "dequantised_bf16"]));
}

TEST(Quantised, IsWhatBitsandbytesMakes) {
  const Golden small(test::fixture("golden/quantised/small.safetensors"));
  for (const char* matrix : {"plain", "short", "holes", "bf16", "f16"}) {
    for (const char* kind : {"nf4", "fp4", "nf4_nested", "fp4_nested", "int8"}) expect_golden(small, matrix, kind);
  }
  expect_golden(Golden(test::fixture("golden/quantised/large.safetensors")), "large", "nf4_nested");
}

// Half the widest gap between neighbouring numbers, times the scale: NF4's is from -1, FP4's from 2/3 to 1.
TEST(Quantised, ChangesNoElementByMoreThanHalfAGap) {
  const Tensor weight = normal({32, 128}, 3);
  const Tensor blocks = weight.view({-1, BnbQuantised::kBlock});
  const Tensor largest = blocks.abs().amax(1, /*keepdim=*/true);
  for (const auto& [type, gap] : {std::pair(QuantType::nf4, 0.3038072), std::pair(QuantType::fp4, 1.0 / 3)}) {
    const Tensor changed = BnbQuantised(weight, {.type = type}, at::kFloat).dequantised().view_as(blocks) - blocks;
    EXPECT_TRUE((changed.abs() <= largest * (gap / 2 + 1e-6)).all().item<bool>());
    EXPECT_GT((changed.abs() / largest).max().item<double>(), 0.4 * gap);
  }
  const Tensor rows = weight.abs().amax(1, /*keepdim=*/true);
  const Tensor changed = BnbQuantised(weight, {.type = QuantType::int8}, at::kFloat).dequantised() - weight;
  EXPECT_TRUE((changed.abs() <= rows * (0.5 / 127 + 1e-6)).all().item<bool>());
}

TEST(Quantised, IsNotChangedByBeingQuantisedAgain) {
  const Tensor weight = normal({16, 128}, 4);
  for (const QuantType type : {QuantType::nf4, QuantType::fp4, QuantType::int8}) {
    const BnbQuantised once(weight, {.type = type}, at::kFloat);
    const BnbQuantised twice(once.dequantised(), {.type = type}, at::kFloat);
    EXPECT_TRUE(at::allclose(twice.dequantised(), once.dequantised(), 1e-6, 1e-9));
    EXPECT_LT(twice.relative_error().value(), 1e-6);
  }
}

TEST(Quantised, MeasuresItsError) {
  const Tensor weight = normal({24, 96}, 5);
  for (const char* kind : {"nf4", "fp4", "nf4_nested", "int8"}) {
    const BnbQuantised quantised(weight, kind_of(kind), at::kFloat);
    const double expected = ((quantised.dequantised() - weight).norm() / weight.norm()).item<double>();
    EXPECT_NEAR(quantised.relative_error().value(), expected, 1e-6) << kind;
  }
  EXPECT_EQ(BnbQuantised(at::zeros({4, 4}), {}, at::kFloat).relative_error().value(), 0);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const char* kind : {"nf4", "nf4_nested", "int8"}) {
      Tensor broken = weight.clone();
      broken[7][9].fill_(bad);
      EXPECT_FALSE(std::isfinite(BnbQuantised(broken, kind_of(kind), at::kFloat).relative_error().value())) << kind;
    }
  }
}

TEST(Quantised, CountsItsBytes) {
  const Tensor weight = normal({256, 128}, 6);  // 512 blocks
  EXPECT_EQ(BnbQuantised(weight, {}, at::kFloat).nbytes(), 256 * 128 / 2 + 512 * 4);
  EXPECT_EQ(BnbQuantised(weight, {.nested = true}, at::kFloat).nbytes(), 256 * 128 / 2 + 512 + 2 * 4 + 4);
  EXPECT_EQ(BnbQuantised(weight, {.type = QuantType::int8}, at::kFloat).nbytes(), 256 * 128 + 256 * 4);
}

TEST(Quantised, GivesTheSameOnSeveralThreads) {
  const Tensor weight = normal({512, 256}, 7);
  for (const char* kind : {"nf4", "fp4", "int8"}) {
    const auto codes = [&] { return std::make_shared<const BnbQuantised>(weight, kind_of(kind), at::kFloat); };
    const auto first = test::in_threads(1, codes), second = test::in_threads(3, codes);
    const BnbQuantised &one = *first, &three = *second;
    EXPECT_TRUE(three.codes().equal(one.codes())) << kind;
    const Tensor expected = test::in_threads(1, [&] { return one.dequantised(); });
    EXPECT_TRUE(test::in_threads(3, [&] { return three.dequantised(); }).equal(expected)) << kind;
    EXPECT_EQ(three.relative_error().value(), one.relative_error().value()) << kind;
  }
}

TEST(QuantisedLinear, IsTheProductWithTheDequantisedWeight) {
  const auto weight = std::make_shared<const BnbQuantised>(normal({24, 40}, 8), Quantisation{}, at::kDouble);
  const Tensor x = normal({2, 3, 40}, 9).to(at::kDouble), bias = normal({24}, 10).to(at::kDouble);
  const auto leaves = [&] { return std::pair(x.clone().requires_grad_(), bias.clone().requires_grad_()); };
  const auto [x1, b1] = leaves();
  const auto [x2, b2] = leaves();
  const Tensor y = ops::quantised_linear(x1, weight, b1), expected = at::linear(x2, weight->dequantised(), b2);
  EXPECT_EQ(test::differs(y, expected, 1e-12), "");
  y.square().sum().backward();
  expected.square().sum().backward();
  EXPECT_EQ(test::differs(x1.grad(), x2.grad(), 1e-12), "");
  EXPECT_EQ(test::differs(b1.grad(), b2.grad(), 1e-12), "");

  const at::NoGradGuard no_grad;
  EXPECT_EQ(test::differs(ops::quantised_linear(x, weight, Tensor()), at::linear(x, weight->dequantised()), 1e-12), "");
}

}  // namespace
}  // namespace deltaw
