// Attention in bf16, forward and backward, beside torch's scaled_dot_product_attention, in turns: the least of the
// rounds. As many threads as OMP_NUM_THREADS says.
//   attention_bench BATCH HEADS TOKENS WIDTH [ROUNDS]
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <limits>

#include "deltaw/memory.h"
#include "ops/attention/attention.h"

namespace {

using at::Tensor;

struct Fastest {
  double forward = std::numeric_limits<double>::infinity(), backward = forward;
};

double lap(std::chrono::steady_clock::time_point& last) {
  const auto now = std::chrono::steady_clock::now();
  const double ms = std::chrono::duration<double, std::milli>(now - last).count();
  last = now;
  return ms;
}

void time_once(const std::function<Tensor()>& attend, const Tensor& gradient, Fastest& fastest) {
  auto last = std::chrono::steady_clock::now();
  const Tensor y = attend();
  fastest.forward = std::min(fastest.forward, lap(last));
  y.backward(gradient);
  fastest.backward = std::min(fastest.backward, lap(last));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5) {
    std::fprintf(stderr, "attention_bench BATCH HEADS TOKENS WIDTH [ROUNDS]\n");
    return 2;
  }
  deltaw::reuse_memory();
  const auto number = [&](int i) { return std::atol(argv[i]); };
  const auto drawn = [&] {  // of a linear layer's output: a token's heads stand together
    return at::randn({number(1), number(3), number(2), number(4)}).to(at::kBFloat16).transpose(1, 2);
  };
  const Tensor q = drawn().requires_grad_(), k = drawn().requires_grad_(), v = drawn().requires_grad_();
  const Tensor gradient = drawn();
  deltaw::Call call;
  Fastest own, torchs;
  for (long round = argc > 5 ? number(5) : 5; round > 0; --round) {
    time_once([&] { return deltaw::ops::attention(q, k, v, {}, {}, call); }, gradient, own);
    time_once([&] { return at::scaled_dot_product_attention(q, k, v); }, gradient, torchs);
  }
  std::printf("deltaw %.1f + %.1f ms, torch %.1f + %.1f ms, together %.2f\n", own.forward, own.backward, torchs.forward,
              torchs.backward, (own.forward + own.backward) / (torchs.forward + torchs.backward));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
