// Every product of two small matrices, in both kinds of numbers, against float64.
#include "ops/operand.h"

#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "ops/matrix_units.h"
#include "ops/vectors.h"
#include "support/compared.h"

namespace deltaw {
namespace {

using at::Tensor;
using ops::padded;

struct Sizes {
  int64_t rows, columns, depth;
};

// a b, of numbers that both kinds hold.
template <class Operand>
void expect_products(const Sizes& s) {
  const auto drawn = [](int64_t rows, int64_t columns, int seed) {
    return test::drawn({rows, columns}, at::kBFloat16, seed);
  };
  const Tensor a = drawn(s.rows, s.depth, 1), b = drawn(s.depth, s.columns, 2);
  const Tensor expected = at::mm(a.to(at::kDouble), b.to(at::kDouble)).to(at::kFloat);
  const auto operand = [](const Tensor& x, ops::Forms forms) {
    Operand made(x.size(0), x.size(1), forms);
    made.read(x.const_data_ptr<at::BFloat16>(), x.stride(0), x.size(0));
    return made;
  };
  const Tensor turned_a = a.t().contiguous(), turned_b = b.t().contiguous();
  const Operand read_a = operand(a, {}), read_b = operand(b, {.along_rows = true});
  const Operand read_turned_a = operand(turned_a, {.along_rows = true}),
                read_turned_b = operand(turned_b, {.turned = true});
  const Tensor floats = a.to(at::kFloat);
  Operand taken_a(s.rows, s.depth, {});
  taken_a.take(floats.const_data_ptr<float>(), floats.stride(0), s.rows, s.depth);
  const auto expect = [&](const auto& left, const auto& right, const std::string& what) {
    Tensor c = at::ones({s.rows, padded(s.columns)}, at::kFloat);
    ops::add_product(left, right, c.data_ptr<float>(), c.size(1), s.rows, padded(s.columns), s.depth);
    test::expect_near(c.narrow(1, 0, s.columns), expected + 1, 1e-4, what + ", depth " + std::to_string(s.depth));
  };
  expect(read_a.left(), read_b.right(), "as they are");
  expect(read_a.left(), read_turned_b.turned_right(), "right turned");
  expect(read_turned_a.turned_left(), read_b.right(), "left turned");
  expect(read_turned_a.turned_left(), read_turned_b.turned_right(), "both turned");
  expect(taken_a.left(), read_b.right(), "left from floats");
}

template <class Operand>
void expect_products_of_all_sizes() {
  for (const Sizes& s : {Sizes{1, 1, 1}, Sizes{7, 20, 33}, Sizes{64, 128, 32}, Sizes{13, 65, 64}, Sizes{8, 32, 129},
                         Sizes{64, 64, 197}, Sizes{197, 64, 64}, Sizes{48, 96, 300}}) {
    expect_products<Operand>(s);
  }
}

TEST(Operand, GivesEveryProductInFloats) {
  expect_products_of_all_sizes<ops::Floats>();
}

#if defined(DELTAW_BF16_UNITS)
TEST(Operand, GivesEveryProductInPairs) {
  if (ops::has_bf16_units()) {
    expect_products_of_all_sizes<ops::Pairs>();
    if (!ops::has_matrix_units()) std::cerr << "this processor has no AMX: products in its tiles are not tested\n";
  } else {
    std::cerr << "this processor has no AVX512_BF16: products of pairs are not tested\n";
  }
}
#endif

}  // namespace
}  // namespace deltaw
