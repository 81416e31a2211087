// Several methods on the same layers, as one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

/// The name of a tensor of part `i` among the tensors of all.
std::string part_name(size_t i, const std::string& name);

/// W = W0 + sum_i weight_i dW_i; at most one part has gains, and they act on the sum.
class Composite final : public Method {
 public:
  struct Part {
    const Method* method;  // owned by the adapter's parts
    double weight;
  };
  explicit Composite(std::vector<Part> parts) : parts_(std::move(parts)) {}

  std::vector<Param> declare(const LayerInfo&, const BaseView&, at::Generator&) const override { return {}; }
  Update update(const LayerInfo& layer, const Params& params, const BaseView& base) const override;
  double dropout() const override { return parts_.front().method->dropout(); }
  bool acts_on_inputs() const override;
  Tensor map_output(const LayerInfo& layer, const Params& params, const Tensor& output) const override;

 private:
  std::vector<Part> parts_;
};

/// Throws config.conflict, naming both, where the parts cannot act together.
void check_parts(const std::vector<Adapter>& parts, const std::vector<double>& weights);

/// What the parts are together.
MethodSpec composite_spec(const std::vector<Adapter>& parts);

}  // namespace deltaw
