// AdamW (Loshchilov & Hutter, arXiv:1711.05101) with torch.optim.AdamW's arithmetic:
//
//   w <- w (1 - rate * weight_decay)
//   m <- lerp(m, g, 1 - beta1)        v <- beta2 v + (1 - beta2) g^2
//   w <- w - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
#pragma once

#include <cstdint>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw::train {

class AdamW {
 public:
  struct Settings {
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0;
  };

  /// Updates `tensors` (leaves) in place, each at its own multiple of the rate. Biases and norms, told by their names
  /// as Hugging Face does, do not decay.
  AdamW(std::vector<NamedTensor> tensors, const Settings& settings);

  /// One update from the gradients that the tensors hold; a tensor without one stays as it is.
  void step(double rate);

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  /// "exp_avg.<name>" and "exp_avg_sq.<name>", the state itself and no copies.
  std::vector<NamedTensor> state() const;

 private:
  struct Slot {
    NamedTensor tensor;
    Tensor mean;
    Tensor square;
    bool decays = true;
  };
  Settings settings_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

/// Whether weight decay acts on a tensor of this name.
bool decays(const std::string& name);

}  // namespace deltaw::train
