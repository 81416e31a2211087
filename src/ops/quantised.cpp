#include "ops/quantised.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "ops/sum.h"

namespace deltaw {
namespace {

using at::Tensor;

constexpr int64_t kBlock = BnbQuantised::kBlock;
constexpr int64_t kGrain = 256;           // blocks that one thread takes at least
constexpr float kSmallestScale = 1e-38F;  // keeps the reciprocal of a block of zeros finite

using Table = std::array<float, 16>;

// Code to number. NF4: quantiles of N(0, 1) with an exact zero, scaled to [-1, 1]; the paper's appendix E.
constexpr Table kNf4 = {-1.0F,
                        -0.6961928009986877F,
                        -0.5250730514526367F,
                        -0.39491748809814453F,
                        -0.28444138169288635F,
                        -0.18477343022823334F,
                        -0.09105003625154495F,
                        0.0F,
                        0.07958029955625534F,
                        0.16093020141124725F,
                        0.24611230194568634F,
                        0.33791524171829224F,
                        0.44070982933044434F,
                        0.5626170039176941F,
                        0.7229568362236023F,
                        1.0F};
// FP4: a sign, two bits of exponent, one of mantissa; twelfths.
constexpr Table kFp4 = {0.0F,  0.0625F / 12,  8.0F / 12,  1.0F,  4.0F / 12,  6.0F / 12,  2.0F / 12,  3.0F / 12,
                        -0.0F, -0.0625F / 12, -8.0F / 12, -1.0F, -4.0F / 12, -6.0F / 12, -2.0F / 12, -3.0F / 12};

const Table& table_of(QuantType type) {
  return type == QuantType::nf4 ? kNf4 : kFp4;
}

// Nearest code by the midpoints between the numbers in rising order.
struct Nearest {
  std::array<float, 15> middle;
  std::array<uint8_t, 16> code;

  explicit Nearest(const Table& table) : middle{}, code{} {
    std::iota(code.begin(), code.end(), uint8_t{0});
    std::stable_sort(code.begin(), code.end(), [&](uint8_t a, uint8_t b) { return table[a] < table[b]; });
    for (size_t i = 0; i < middle.size(); ++i) middle[i] = (table[code[i]] + table[code[i + 1]]) / 2;
  }

  uint8_t operator()(float value) const {
    int place = 0;
    for (const float m : middle) place += value > m;
    return code[place];
  }
};

// The signed dynamic map: decades from 1e-6 to 1, each with twice the numbers of the one below it; then 0 and 1.
Tensor dynamic_map() {
  std::vector<Tensor> parts;
  for (int decade = 0; decade < 7; ++decade) {
    const Tensor edges = at::linspace(0.1, 1, (int64_t{1} << decade) + 1, at::kFloat);
    const int64_t n = edges.numel() - 1;
    const Tensor means = (edges.narrow(0, 0, n) + edges.narrow(0, 1, n)) / 2.0;
    const Tensor scaled = means * std::pow(10.0, decade - 6);
    parts.push_back(scaled);
    parts.push_back(-scaled);
  }
  parts.push_back(at::tensor({0.0F, 1.0F}));
  return std::get<0>(at::cat(parts).sort());
}

const Tensor& nested_map() {
  static const Tensor map = dynamic_map();
  return map;
}

float largest_magnitude(const float* begin, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(begin[i]));
  return largest;
}

// Squared norms of a part and of what quantising it changed.
struct Squares {
  double error = 0, whole = 0;

  void add(float stored, float original) {
    const double difference = static_cast<double>(stored) - original;
    error += difference * difference;
    whole += static_cast<double>(original) * original;
  }
};

double relative(const std::vector<Squares>& parts) {
  Squares sum;
  for (const Squares& part : parts) {
    sum.error += part.error;
    sum.whole += part.whole;
  }
  if (!std::isfinite(sum.whole)) return sum.whole;
  return sum.whole == 0 ? 0 : std::sqrt(sum.error / sum.whole);
}

// One block's numbers: sixteen products, then a look-up an element.
template <class T>
void dequantise_block(const uint8_t* codes, int64_t n, float scale, const Table& table, T* out) {
  std::array<T, 16> scaled;
  for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = static_cast<T>(table[i] * scale);
  int64_t i = 0;
  for (; i + 1 < n; i += 2) {
    const uint8_t pair = codes[i / 2];
    out[i] = scaled[pair >> 4];
    out[i + 1] = scaled[pair & 15];
  }
  if (i < n) out[i] = scaled[codes[i / 2] >> 4];
}

constexpr float kOneOf127 = 7.874015718698502e-3F;

}  // namespace

std::string Quantisation::name() const {
  const char* word = type == QuantType::nf4 ? "nf4" : type == QuantType::fp4 ? "fp4" : "int8";
  return std::string(word) + (nested ? ", double quantisation" : multiplies ? ", multiplied in int8" : "");
}

BnbQuantised::BnbQuantised(const Tensor& weight, const Quantisation& how, at::ScalarType type)
    : Quantised(weight.size(0), weight.size(1), type), how_(how) {
  const at::NoGradGuard frozen;
  const Tensor wide = weight.to(at::kFloat).contiguous();
  if (how.type == QuantType::int8) {
    quantise_rows(wide);
  } else {
    quantise_blocks(wide);
  }
}

void BnbQuantised::quantise_blocks(const Tensor& weight) {
  const int64_t n = weight.numel(), blocks = (n + kBlock - 1) / kBlock;
  codes_ = at::empty({(n + 1) / 2}, at::kByte);
  scales_ = at::empty({blocks}, at::kFloat);
  const Table& table = table_of(how_.type);
  const Nearest nearest(table);
  const auto* data = weight.const_data_ptr<float>();
  auto* codes = codes_.mutable_data_ptr<uint8_t>();
  auto* scales = scales_.mutable_data_ptr<float>();
  at::parallel_for(0, blocks, kGrain, [&](int64_t first, int64_t last) {
    std::array<uint8_t, kBlock> own{};
    for (int64_t b = first; b < last; ++b) {
      const float* part = data + b * kBlock;
      const int64_t size = std::min(kBlock, n - b * kBlock);
      scales[b] = largest_magnitude(part, size);
      const float inverse = 1 / std::max(scales[b], kSmallestScale);
      for (int64_t i = 0; i < size; ++i) own[i] = nearest(std::clamp(part[i] * inverse, -1.0F, 1.0F));
      if (size % 2 != 0) own[size] = nearest(0);
      for (int64_t i = 0; i < size; i += 2) {
        codes[(b * kBlock + i) / 2] = static_cast<uint8_t>(own[i] << 4 | own[i + 1]);
      }
    }
  });
  if (how_.nested) nest_scales();

  const Tensor stored = block_scales();
  const auto* kept = stored.const_data_ptr<float>();
  std::vector<Squares> squares(static_cast<size_t>(blocks));
  at::parallel_for(0, blocks, kGrain, [&](int64_t first, int64_t last) {
    std::array<float, kBlock> own{};
    for (int64_t b = first; b < last; ++b) {
      const int64_t size = std::min(kBlock, n - b * kBlock);
      dequantise_block(codes + b * kBlock / 2, size, kept[b], table, own.data());
      for (int64_t i = 0; i < size; ++i) squares[b].add(own[i], data[b * kBlock + i]);
    }
  });
  error_ = relative(squares);
}

void BnbQuantised::nest_scales() {
  const Tensor& map = nested_map();
  const int64_t last = map.numel() - 1;
  const Tensor middle = (map.narrow(0, 0, last) + map.narrow(0, 1, last)) / 2.0;
  nested_offset_ = scales_.mean();
  const Tensor centred = scales_ - nested_offset_;
  const int64_t n = centred.numel(), blocks = (n + kNestedBlock - 1) / kNestedBlock;
  const Tensor rows = at::constant_pad_nd(centred, {0, blocks * kNestedBlock - n}).view({blocks, kNestedBlock});
  nested_scales_ = rows.abs().amax(1);
  const Tensor inverse = nested_scales_.clamp_min(kSmallestScale).reciprocal();
  const Tensor within = (rows * inverse.unsqueeze(1)).clamp(-1, 1).view(-1).narrow(0, 0, n);
  scales_ = at::bucketize(within, middle).to(at::kByte);
}

Tensor BnbQuantised::block_scales() const {
  if (!how_.nested) return scales_;
  const int64_t n = scales_.numel();
  const Tensor own = nested_scales_.repeat_interleave(kNestedBlock).narrow(0, 0, n);
  return nested_map().index_select(0, scales_.to(at::kLong)).mul_(own).add_(nested_offset_);
}

void BnbQuantised::quantise_rows(const Tensor& weight) {
  codes_ = at::empty({d_out(), d_in()}, at::kChar);
  scales_ = at::empty({d_out()}, at::kFloat);
  const auto* data = weight.const_data_ptr<float>();
  auto* codes = codes_.mutable_data_ptr<int8_t>();
  auto* scales = scales_.mutable_data_ptr<float>();
  std::vector<Squares> squares(static_cast<size_t>(d_out()));
  at::parallel_for(0, d_out(), 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const float* part = data + row * d_in();
      scales[row] = largest_magnitude(part, d_in());
      const float factor = scales[row] > 0 ? 127 / scales[row] : 0;
      for (int64_t i = 0; i < d_in(); ++i) {
        const float value = std::nearbyint(part[i] * factor);
        codes[row * d_in() + i] = static_cast<int8_t>(value > -127 ? std::min(value, 127.0F) : -127.0F);  // NaN too
        squares[row].add(static_cast<float>(codes[row * d_in() + i]) * scales[row] * kOneOf127, part[i]);
      }
    }
  });
  error_ = relative(squares);
  if (how_.multiplies) int8_ = {std::exchange(codes_, {}), scales_ * kOneOf127};
}

Tensor BnbQuantised::dequantised() const {
  const at::NoGradGuard frozen;
  Tensor result = at::empty({d_out(), d_in()}, type());
  const int64_t n = result.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, type(), "dequantised", [&] {
    auto* out = result.mutable_data_ptr<scalar_t>();
    if (how_.type == QuantType::int8) {
      const Tensor rows = how_.multiplies ? int8_.codes() : codes_;
      const auto* codes = rows.const_data_ptr<int8_t>();
      const auto* scales = scales_.const_data_ptr<float>();
      at::parallel_for(0, d_out(), 1, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          const float scale = scales[row];
          for (int64_t i = row * d_in(); i < (row + 1) * d_in(); ++i) {
            out[i] = static_cast<scalar_t>(static_cast<float>(codes[i]) * scale * kOneOf127);
          }
        }
      });
      return;
    }
    const Tensor kept = block_scales();
    const auto* codes = codes_.const_data_ptr<uint8_t>();
    const auto* scales = kept.const_data_ptr<float>();
    const Table& table = table_of(how_.type);
    at::parallel_for(0, kept.numel(), kGrain, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t begin = b * kBlock;
        dequantise_block(codes + begin / 2, std::min(kBlock, n - begin), scales[b], table, out + begin);
      }
    });
  });
  return result;
}

int64_t BnbQuantised::nbytes() const {
  int64_t sum = how_.multiplies ? int8_.nbytes() : 0;
  for (const Tensor* tensor : {&codes_, &scales_, &nested_scales_, &nested_offset_}) {
    if (tensor->defined()) sum += static_cast<int64_t>(tensor->nbytes());
  }
  return sum;
}

namespace ops {
namespace {

struct Frozen : torch::CustomClassHolder {
  std::shared_ptr<const Quantised> weight;
  Tensor bias;  // undefined where there is none, or where it trains
};

Tensor weight_for(const Quantised& weight, const Tensor& x) {
  return weight.dequantised().to(x.scalar_type());
}

Tensor product(const Tensor& x, const Quantised& weight, const Tensor& bias) {
  const Int8Weight* codes = weight.in_int8();
  if (!codes) return at::linear(x, weight_for(weight, x), bias);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.d_out();
  return int8_product(Int8Rows(x.reshape({-1, weight.d_in()})), *codes, bias, x.scalar_type()).view(shape);
}

Tensor gradient(const Tensor& dy, const Quantised& weight) {
  const Int8Weight* codes = weight.in_int8();
  if (!codes) return at::matmul(dy, weight_for(weight, dy));
  std::vector<int64_t> shape = dy.sizes().vec();
  shape.back() = weight.d_in();
  Tensor dx;
  add_int8_gradient(dx, dy.reshape({-1, weight.d_out()}), *codes);
  return dx.view(shape);
}

class Product : public torch::autograd::Function<Product> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x,
                        const c10::intrusive_ptr<Frozen>& frozen) {
    ctx->saved_data["frozen"] = c10::IValue::make_capsule(frozen);
    return product(x, *frozen->weight, frozen->bias);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto holder = ctx->saved_data["frozen"].toCapsule();
    return {gradient(gradients[0], *static_cast<const Frozen&>(*holder).weight), Tensor()};
  }
};

}  // namespace

Tensor quantised_linear(const Tensor& x, const std::shared_ptr<const Quantised>& weight, const Tensor& bias) {
  const Tensor own = bias.defined() ? bias.to(x.scalar_type()) : bias;
  if (!at::GradMode::is_enabled()) return product(x, *weight, own);
  auto frozen = c10::make_intrusive<Frozen>();
  frozen->weight = weight;
  const bool trains = own.defined() && own.requires_grad();
  if (!trains) frozen->bias = own;
  return plus(Product::apply(x, frozen), trains ? own : Tensor());
}

}  // namespace ops
}  // namespace deltaw
