// Every product of two small matrices, in both kinds of numbers, against float64.
#include "ops/operand.h"

#include <gtest/gtest.h>

#include <iostream>
#include <limits>
#include <string>

#include "ops/matrix_units.h"
#include "ops/vectors.h"
#include "support/compared.h"

namespace deltaw {
namespace {

using at::Tensor;

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
  for (int64_t i = 0; i < s.rows; ++i) taken_a.take_row(floats[i].const_data_ptr<float>(), i, s.depth);
  taken_a.taken(floats.const_data_ptr<float>(), floats.stride(0), s.rows, s.depth);
  const auto expect = [&](const auto& left, const auto& right, const std::string& what) {
    const int64_t columns = ops::in_vectors(s.columns);
    Tensor c = at::ones({s.rows, columns}, at::kFloat);
    ops::add_product(left, right, c.data_ptr<float>(), columns, s.rows, columns, s.depth);
    const std::string where = what + ", depth " + std::to_string(s.depth);
    test::expect_near(c.narrow(1, 0, s.columns), expected + 1, 1e-4, where);
    c.fill_(std::numeric_limits<float>::quiet_NaN());
    ops::add_product(left, right, c.data_ptr<float>(), columns, s.rows, columns, s.depth, ops::Into::fresh);
    test::expect_near(c.narrow(1, 0, s.columns), expected, 1e-4, where + ", fresh");
  };
  expect(read_a.left(), read_b.right(), "as they are");
  expect(read_a.left(), read_turned_b.turned_right(), "right turned");
  expect(read_turned_a.turned_left(), read_b.right(), "left turned");
  expect(read_turned_a.turned_left(), read_turned_b.turned_right(), "both turned");
  expect(taken_a.left(), read_b.right(), "left from floats");
}

// The rows and the depth that products are fastest with take in zeros only, whatever was read before.
template <class Operand>
void expect_zeros_behind_rows() {
  for (const int64_t count : {1, 6, 33}) {
    const Tensor none = at::full({70, 40}, std::numeric_limits<float>::quiet_NaN(), at::kBFloat16);
    const auto operand = [&](const Tensor& x, ops::Forms forms) {
      Operand made(none.size(0), none.size(1), forms);
      made.read(none.const_data_ptr<at::BFloat16>(), none.stride(0), none.size(0));
      made.read(x.const_data_ptr<at::BFloat16>(), x.stride(0), x.size(0));
      return made;
    };
    const Tensor a = test::drawn({count, 40}, at::kBFloat16, 1), b = test::drawn({count, 40}, at::kBFloat16, 2);
    const Operand left = operand(a, {.along_rows = true}), right = operand(b, {.along_rows = true});
    const int64_t rows = Operand::whole_rows(40), columns = ops::in_vectors(40);
    Tensor c = at::empty({rows, columns}, at::kFloat);
    ops::add_product(left.turned_left(), right.right(), c.data_ptr<float>(), columns, rows, columns,
                     Operand::whole_depth(count), ops::Into::fresh);
    const Tensor expected = at::mm(a.t().to(at::kDouble), b.to(at::kDouble)).to(at::kFloat);
    test::expect_near(c.narrow(0, 0, 40).narrow(1, 0, 40), expected, 1e-4, std::to_string(count) + " rows");
  }
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
  expect_zeros_behind_rows<ops::Floats>();
}

#if defined(DELTAW_BF16_UNITS)
TEST(Operand, GivesEveryProductInPairs) {
  if (ops::has_bf16_units()) {
    expect_products_of_all_sizes<ops::Pairs>();
    expect_zeros_behind_rows<ops::Pairs>();
    if (!ops::has_matrix_units()) std::cerr << "this processor has no AMX: products in its tiles are not tested\n";
  } else {
    std::cerr << "this processor has no AVX512_BF16: products of pairs are not tested\n";
  }
}
#endif

}  // namespace
}  // namespace deltaw
