#include "train/adamw.h"

#include <ATen/ATen.h>

#include <cctype>
#include <cmath>

namespace deltaw::train {
namespace {

bool has_part(const std::string& name, const std::string& part) {
  return ("." + name + ".").find("." + part + ".") != std::string::npos;
}

bool ends_a_part(const std::string& name, const std::string& ending) {
  return (name + ".").find(ending + ".") != std::string::npos;
}

}  // namespace

bool decays(const std::string& name) {
  std::string lower = name;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* word : {"bias", "layernorm", "rmsnorm"}) {
    if (lower.find(word) != std::string::npos) return false;
  }
  return !has_part(lower, "norm") && !ends_a_part(lower, "_norm");
}

AdamW::AdamW(std::vector<NamedTensor> tensors, const Settings& settings) : settings_(settings) {
  for (NamedTensor& tensor : tensors) {
    const bool slot_decays = decays(tensor.name);
    Tensor mean = at::zeros_like(tensor.value, at::MemoryFormat::Contiguous);
    slots_.push_back({std::move(tensor), mean, at::zeros_like(mean), slot_decays});
  }
}

void AdamW::step(double rate) {
  const at::NoGradGuard no_grad;
  ++steps_;
  const auto t = static_cast<double>(steps_);
  const double correction = 1 - std::pow(settings_.beta1, t);
  const double square_correction = std::sqrt(1 - std::pow(settings_.beta2, t));
  for (Slot& slot : slots_) {
    Tensor& weight = slot.tensor.value;
    const Tensor& gradient = weight.grad();
    if (!gradient.defined()) continue;
    const double own_rate = rate * slot.tensor.rate;
    if (settings_.weight_decay != 0 && slot.decays) weight.mul_(1 - own_rate * settings_.weight_decay);
    slot.mean.lerp_(gradient, 1 - settings_.beta1);
    slot.square.mul_(settings_.beta2).addcmul_(gradient, gradient, 1 - settings_.beta2);
    weight.addcdiv_(slot.mean, slot.square.sqrt().div_(square_correction).add_(settings_.epsilon),
                    -own_rate / correction);
  }
}

std::vector<NamedTensor> AdamW::state() const {
  std::vector<NamedTensor> all;
  for (const Slot& slot : slots_) {
    all.push_back({"exp_avg." + slot.tensor.name, slot.mean});
    all.push_back({"exp_avg_sq." + slot.tensor.name, slot.square});
  }
  return all;
}

}  // namespace deltaw::train
