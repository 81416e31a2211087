#include "ops/host_read.h"

#include <atomic>

#include "deltaw/error.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

std::atomic<int64_t> reads{0};

const Tensor& counted(const Tensor& tensor) {
  reads.fetch_add(1, std::memory_order_relaxed);
  return tensor;
}

const Tensor& known(const Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  throw Error({.id = "internal.device",
               .what = "a tensor that stays on the host stands on " + tensor.device().str(),
               .where = "what is known of a batch",
               .fix = "move batches with Batch::to, which leaves attention_mask where it is"});
}

Tensor places(const Tensor& tensor) {
  return tensor.flatten().nonzero().flatten();
}

}  // namespace

int64_t host_reads() {
  return reads.load(std::memory_order_relaxed);
}

double host_number(const Tensor& tensor) {
  return counted(tensor).item<double>();
}

int64_t host_integer(const Tensor& tensor) {
  return counted(tensor).item<int64_t>();
}

bool host_flag(const Tensor& tensor) {
  return counted(tensor).item<bool>();
}

bool host_equal(const Tensor& a, const Tensor& b) {
  return counted(a).equal(b);
}

Tensor host_copy(const Tensor& tensor) {
  return counted(tensor).cpu().contiguous();
}

template <class T>
std::vector<T> host_values(const Tensor& tensor) {
  const Tensor values = host_copy(tensor.to(c10::CppTypeToScalarType<T>::value));
  const T* data = values.const_data_ptr<T>();
  return {data, data + values.numel()};
}

template std::vector<double> host_values(const Tensor& tensor);
template std::vector<float> host_values(const Tensor& tensor);
template std::vector<int64_t> host_values(const Tensor& tensor);
template std::vector<uint8_t> host_values(const Tensor& tensor);

Tensor host_places(const Tensor& tensor) {
  return places(counted(tensor));
}

bool known_flag(const Tensor& tensor) {
  return known(tensor).item<bool>();
}

std::pair<int64_t, int64_t> known_range(const Tensor& tensor) {
  const auto [least, greatest] = known(tensor).aminmax();
  return {least.item<int64_t>(), greatest.item<int64_t>()};
}

Tensor known_places(const Tensor& tensor) {
  return places(known(tensor));
}

}  // namespace deltaw::ops
