// Two ways to compute the same, with their gradients.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

namespace deltaw::test {

using Tensors = std::vector<at::Tensor>;
using Function = std::function<Tensors(const Tensors&)>;

struct Run {
  Tensors values, gradients;
};

/// Values of `function` and gradients of all its inputs, from fixed random gradients of its outputs.
inline Run run(const Function& function, const Tensors& inputs) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.detach().requires_grad_());
  Run result{function(leaves), {}};
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  Tensors gradients;
  for (const at::Tensor& value : result.values) {
    gradients.push_back(at::empty(value.sizes(), at::kDouble).normal_(0, 1, generator).to(value.scalar_type()));
  }
  result.gradients = torch::autograd::grad(result.values, leaves, gradients);
  return result;
}

/// Of one shape and type, and `share` of the larger of one and the expected value apart at most; NaN is NaN.
inline void expect_near(const at::Tensor& actual, const at::Tensor& expected, double share, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  ASSERT_EQ(actual.scalar_type(), expected.scalar_type()) << what;
  const at::Tensor a = actual.detach().to(at::kDouble), e = expected.detach().to(at::kDouble);
  EXPECT_TRUE(at::allclose(a, e, share, share, /*equal_nan=*/true))
      << what << ": " << (a - e).abs().nan_to_num().max() << " apart";
}

/// The same values and gradients from both.
inline void expect_alike(const Function& actual, const Function& expected, const Tensors& inputs, double share,
                         const std::string& what) {
  const Run a = run(actual, inputs), e = run(expected, inputs);
  ASSERT_EQ(a.values.size(), e.values.size());
  for (size_t i = 0; i < e.values.size(); ++i) {
    expect_near(a.values[i], e.values[i], share, what + ", value " + std::to_string(i));
  }
  for (size_t i = 0; i < e.gradients.size(); ++i) {
    expect_near(a.gradients[i], e.gradients[i], share, what + ", gradient " + std::to_string(i));
  }
  const at::NoGradGuard no_grad;
  const Tensors plain = actual(inputs);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(plain[i].equal(a.values[i])) << what << " unrecorded";
}

/// What `work` returns when it runs in so many threads.
template <class Work>
auto in_threads(int count, const Work& work) {
  const int threads = at::get_num_threads();
  at::set_num_threads(count);
  auto result = work();
  at::set_num_threads(threads);
  return result;
}

/// One thread gives, bit for bit, what two give.
inline void expect_equal_by_threads(const Function& function, const Tensors& inputs) {
  const auto work = [&] { return run(function, inputs); };
  const Run one = in_threads(1, work), two = in_threads(2, work);
  for (size_t i = 0; i < one.values.size(); ++i) EXPECT_TRUE(one.values[i].equal(two.values[i])) << i;
  for (size_t i = 0; i < one.gradients.size(); ++i) EXPECT_TRUE(one.gradients[i].equal(two.gradients[i])) << i;
}

/// Rows of random numbers; equal for equal seeds.
inline at::Tensor drawn(at::IntArrayRef shape, at::ScalarType type, uint64_t seed, double deviation = 1) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kDouble).normal_(0, deviation, generator).to(type);
}

/// The largest relative error of one rounding, with room for the sums behind it.
inline double tolerance(at::ScalarType type) {
  return type == at::kBFloat16 ? 0.016 : 4e-6;
}

}  // namespace deltaw::test
