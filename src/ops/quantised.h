// A frozen weight in few bits: NormalFloat and 4-bit floats (Dettmers et al. 2023, arXiv:2305.14314), and int8 by rows.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "ops/int8/product.h"

namespace deltaw {

enum class QuantType { nf4, fp4, int8 };

/// How the weights of frozen linear layers are held.
struct Quantisation {
  QuantType type = QuantType::nf4;
  bool nested = false;      // the scales of 4-bit blocks are quantised too
  bool multiplies = false;  // int8: products are computed with the codes, their other side quantised too

  std::string name() const;  // "nf4", "nf4, double quantisation", "int8", "int8, multiplied in int8"
};

/// W0 [d_out, d_in] in fewer bits than numbers have.
class Quantised {
 public:
  virtual ~Quantised() = default;
  Quantised(const Quantised&) = delete;
  Quantised& operator=(const Quantised&) = delete;

  int64_t d_out() const { return d_out_; }
  int64_t d_in() const { return d_in_; }
  at::ScalarType type() const { return type_; }  // that products are computed in

  /// [d_out, d_in] in type(), computed in float32 and rounded once. Made anew by every call: keep it for one use.
  virtual at::Tensor dequantised() const = 0;
  virtual int64_t nbytes() const = 0;
  /// W0 where products are to be computed with its codes (ops/int8/product.h); else null, and they are with
  /// dequantised().
  virtual const ops::Int8Weight* in_int8() const { return nullptr; }
  /// What a product needs at hand beside it.
  int64_t bytes_at_hand() const {
    const auto element = static_cast<int64_t>(at::elementSize(type_));
    return in_int8() ? ops::bytes_at_hand(*in_int8()) : d_out_ * d_in_ * element;
  }
  /// What quantising it changed; nothing where its file holds it like this.
  virtual std::optional<double> relative_error() const { return std::nullopt; }
  virtual std::string name() const = 0;  // of the bits: "nf4"

 protected:
  Quantised(int64_t d_out, int64_t d_in, at::ScalarType type) : d_out_(d_out), d_in_(d_in), type_(type) {}

 private:
  int64_t d_out_, d_in_;
  at::ScalarType type_;
};

/// W0 [d_out, d_in] as codes and scales, with the numerics of bitsandbytes.
///
/// 4 bits: a block is 64 elements of the flattened weight, the last one may be shorter; its scale is its largest
/// magnitude, a code the nearest of 16 fixed numbers to element / scale. Two codes make a byte, the first one above.
/// Nested: the scales less their mean are quantised in turn, in blocks of 256 with the signed dynamic map of 8 bits
/// (Dettmers et al. 2022, arXiv:2110.02861).
///
/// int8: code = round(127 element / scale) with the largest magnitude of the row as its scale, which is what LLM.int8()
/// (arXiv:2208.07339) makes of a weight.
class BnbQuantised final : public Quantised {
 public:
  static constexpr int64_t kBlock = 64, kNestedBlock = 256;

  /// `weight` is of any floating type and is read in float32; `type` is what products are computed in.
  BnbQuantised(const at::Tensor& weight, const Quantisation& how, at::ScalarType type);

  at::Tensor dequantised() const override;
  /// || dequantised - weight || / || weight ||, Frobenius norms before rounding to type(). Not finite where the weight
  /// is not.
  std::optional<double> relative_error() const override { return error_; }
  int64_t nbytes() const override;  // of codes and scales
  const ops::Int8Weight* in_int8() const override { return how_.multiplies ? &int8_ : nullptr; }
  std::string name() const override { return how_.name(); }

  /// 4 bits: uint8 [ceil(n / 2)] for the n elements. int8: int8 [d_out, d_in]. Undefined where in_int8() has them.
  const at::Tensor& codes() const { return codes_; }
  /// 4 bits: [ceil(n / 64)], float32, or uint8 where they are nested. int8: float32 [d_out].
  const at::Tensor& scales() const { return scales_; }
  /// Of the nested scales: float32 [ceil(blocks / 256)], and what was taken off them, float32 [].
  const at::Tensor& nested_scales() const { return nested_scales_; }
  const at::Tensor& nested_offset() const { return nested_offset_; }

 private:
  at::Tensor block_scales() const;  // float32 [ceil(n / 64)]
  void quantise_blocks(const at::Tensor& weight);
  void nest_scales();
  void quantise_rows(const at::Tensor& weight);

  Quantisation how_;
  at::Tensor codes_, scales_, nested_scales_, nested_offset_;
  ops::Int8Weight int8_;  // where it multiplies, in place of codes_
  double error_ = 0;
};

namespace ops {

/// x W0^T + bias for x [..., d_in] in any type, by W0's codes where it says so; `bias` [d_out] may be undefined. The
/// autograd graph keeps neither x nor a dequantised weight: the backward pass makes the latter again.
at::Tensor quantised_linear(const at::Tensor& x, const std::shared_ptr<const Quantised>& weight,
                            const at::Tensor& bias);

}  // namespace ops
}  // namespace deltaw
