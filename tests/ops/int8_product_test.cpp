// Products in eight bits: whole numbers exactly, by every unit of the processor, and how x becomes whole numbers.
#include "ops/int8/product.h"

#include <gtest/gtest.h>

#include <limits>

#include "support/compared.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

// Whole numbers from -127 to 127, the largest of which each row has: rounding leaves them as they are.
Tensor whole_numbers(int64_t rows, int64_t columns, uint64_t seed) {
  Tensor x = at::randint(-127, 128, {rows, columns}, at::make_generator<at::CPUGeneratorImpl>(seed), at::kFloat);
  if (columns > 0) x.select(1, seed % columns).fill_(seed % 2 == 0 ? 127 : -127);
  return x;
}

Int8Weight codes_of(const Tensor& numbers) {
  return {numbers.to(at::kChar), at::ones({numbers.size(0)})};
}

Tensor exact(const Tensor& x, const Tensor& y) {
  return at::mm(x.to(at::kDouble), y.to(at::kDouble)).to(at::kFloat);
}

TEST(Int8Product, AddsUpWholeNumbersExactlyByEveryUnit) {
  for (const Int8Units& units : int8_units()) {
    for (const int64_t tokens : {1, 16, 31, 33, 300}) {
      for (const auto& [d_out, d_in] :
           {std::pair{1, 1}, {15, 63}, {32, 64}, {33, 65}, {96, 130}, {520, 70}, {70, 600}}) {
        SCOPED_TRACE(testing::Message() << units.name << ", " << tokens << " by " << d_out << " by " << d_in);
        const Tensor W0 = whole_numbers(d_out, d_in, 2);
        const Tensor x = whole_numbers(tokens, d_in, 3), dy = whole_numbers(tokens, d_out, 4);
        const Tensor product = exact(x, W0.t()), gradient = exact(dy, W0);
        EXPECT_TRUE(int8_product(Int8Rows(x), codes_of(W0), {}, at::kFloat, units).equal(product));
        Tensor dx;
        add_int8_gradient(dx, dy, codes_of(W0), units);
        EXPECT_TRUE(dx.equal(gradient));
        Tensor sum = at::ones_like(product);
        add_int8_product(sum, Int8Rows(x), codes_of(W0), units);
        EXPECT_TRUE(sum.equal(product + 1));
        add_int8_gradient(dx, dy, codes_of(W0), units);
        EXPECT_TRUE(dx.equal(gradient + gradient));
      }
    }
  }
}

// Sums of the largest products, 127 * 127 each, go beyond what 16 bits and floats hold exactly.
TEST(Int8Product, HoldsTheLargestSums) {
  for (const Int8Units& units : int8_units()) {
    SCOPED_TRACE(units.name);
    const Tensor x = at::full({3, 5000}, 127, at::kFloat), W0 = at::full({4, 5000}, -127, at::kFloat);
    const Tensor expected = at::full({3, 4}, -127.0 * 127 * 5000, at::kFloat);
    EXPECT_TRUE(int8_product(Int8Rows(x), codes_of(W0), {}, at::kFloat, units).equal(expected));
  }
}

Int8Weight drawn_weight(int64_t d_out, int64_t d_in) {
  const Tensor scales = at::rand({d_out}, at::make_generator<at::CPUGeneratorImpl>(8)) / 100 + 0.001;
  return {whole_numbers(d_out, d_in, 7).to(at::kChar), scales};
}

// x by rows, dy behind W0's scales, each to multiples of a 127th of the largest number in its row.
TEST(Int8Product, RoundsByRows) {
  const auto rounded_rows = [](const Tensor& x) {
    const Tensor step = x.abs().amax(1, true) / 127;
    return (x / step).round() * step;
  };
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    SCOPED_TRACE(type);
    const Int8Weight weight = drawn_weight(70, 90);
    const Tensor codes = weight.codes().to(at::kDouble), scales = weight.scales().to(at::kDouble);
    const Tensor x = test::drawn({40, 90}, type, 1), dy = test::drawn({40, 70}, type, 2);
    const Tensor bias = test::drawn({70}, type, 3), wide_dy = dy.to(at::kDouble);
    // In bf16 numbers lie halfway between two codes more often, and either is right.
    const double share = type == at::kBFloat16 ? 0.02 : 1e-5;
    const Tensor product = rounded_rows(x.to(at::kDouble)).mm(codes.t()) * scales + bias.to(at::kDouble);
    test::expect_near(int8_product(Int8Rows(x), weight, bias, type), product.to(type), share, "product");
    Tensor sum = bias.expand({40, 70}).contiguous();
    add_int8_product(sum, Int8Rows(x), weight);
    test::expect_near(sum, product.to(type), share, "sum");
    Tensor dx;
    add_int8_gradient(dx, dy, weight);
    test::expect_near(dx, rounded_rows(wide_dy * scales).mm(codes).to(type), share, "gradient");
    const Tensor unrounded = x.to(at::kDouble).mm((codes * scales.unsqueeze(1)).t()) + bias.to(at::kDouble);
    const double error = ((product - unrounded).norm() / unrounded.norm()).item<double>();
    EXPECT_GT(error, 1e-3);
    EXPECT_LT(error, 0.02);
  }
}

// As slices of other matrices are, in any order of their numbers.
TEST(Int8Product, TakesMatricesWithGaps) {
  const Int8Weight weight = drawn_weight(70, 90);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Tensor within = test::drawn({40, 100}, type, 1).narrow(1, 3, 90), turned = within.t().contiguous().t();
    const Tensor expected = int8_product(Int8Rows(within.contiguous()), weight, {}, type);
    EXPECT_TRUE(int8_product(Int8Rows(within), weight, {}, type).equal(expected));
    EXPECT_TRUE(int8_product(Int8Rows(turned), weight, {}, type).equal(expected));
    const Tensor all = at::zeros({40, 80}, type);
    Tensor part = all.narrow(1, 5, 70), columns = at::zeros({70, 40}, type).t();
    add_int8_product(part, Int8Rows(within), weight);
    add_int8_product(columns, Int8Rows(within), weight);
    EXPECT_TRUE(part.equal(expected));
    test::expect_near(columns, expected, 1e-6, "columns");
    EXPECT_TRUE(all.narrow(1, 0, 5).eq(0).all().item<bool>());
    EXPECT_TRUE(all.narrow(1, 75, 5).eq(0).all().item<bool>());
  }
}

TEST(Int8Product, GivesZeroForARowOfZerosAndNaNForOneThatIsNotFinite) {
  const Int8Weight weight = drawn_weight(40, 66);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Tensor x = test::drawn({6, 66}, type, 1);
    const Tensor clean = int8_product(Int8Rows(x), weight, {}, type);
    x[1].zero_();
    x[2][65] = std::numeric_limits<double>::quiet_NaN();
    x[3][0] = std::numeric_limits<double>::infinity();
    x[4].fill_(1e-38);
    const Tensor y = int8_product(Int8Rows(x), weight, {}, type);
    EXPECT_TRUE(y[1].eq(0).all().item<bool>());
    EXPECT_TRUE(y[2].isnan().all().item<bool>());
    EXPECT_TRUE(y[3].isnan().all().item<bool>());
    EXPECT_LT(y[4].abs().max().item<double>(), 1e-30);
    for (const int64_t row : {0, 5}) EXPECT_TRUE(y[row].equal(clean[row])) << row;
    const Int8Weight empty(at::zeros({40, 66}, at::kChar), weight.scales());
    EXPECT_TRUE(int8_product(Int8Rows(test::drawn({6, 66}, type, 1)), empty, {}, type).eq(0).all().item<bool>());
  }
  EXPECT_EQ(int8_product(Int8Rows(at::empty({0, 66})), weight, {}, at::kFloat).sizes(), at::IntArrayRef({0, 40}));
}

TEST(Int8Product, GivesTheSameBytesForAnyNumberOfThreads) {
  const Int8Weight weight = drawn_weight(300, 200);
  for (const int64_t tokens : {5, 700}) {
    const Tensor x = test::drawn({tokens, 200}, at::kBFloat16, 1), dy = test::drawn({tokens, 300}, at::kBFloat16, 2);
    const auto work = [&] {
      Tensor dx;
      add_int8_gradient(dx, dy, weight);
      return std::vector<Tensor>{int8_product(Int8Rows(x), weight, {}, at::kBFloat16), dx};
    };
    const auto one = test::in_threads(1, work), two = test::in_threads(2, work);
    EXPECT_TRUE(one[0].equal(two[0]));
    EXPECT_TRUE(one[1].equal(two[1]));
  }
}

}  // namespace
}  // namespace deltaw::ops
