#include "train/adamw.h"

#include <ATen/ATen.h>

#include <cctype>
#include <map>
#include <utility>

#include "core/ascii.h"

namespace deltaw::train {
namespace {

bool has_part(const std::string& name, const std::string& part) {
  return ("." + name + ".").find("." + part + ".") != std::string::npos;
}

bool ends_a_part(const std::string& name, const std::string& ending) {
  return (name + ".").find(ending + ".") != std::string::npos;
}

struct Lists {
  std::vector<Tensor> weights, gradients, means, squares;
};

}  // namespace

bool decays(const std::string& name) {
  const std::string small = lower(name);
  for (const char* word : {"bias", "layernorm", "rmsnorm"}) {
    if (small.find(word) != std::string::npos) return false;
  }
  return !has_part(small, "norm") && !ends_a_part(small, "_norm");
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
  // Tensors of one rate and one decay in one call.
  std::map<std::pair<double, double>, Lists> groups;
  for (Slot& slot : slots_) {
    const Tensor& gradient = slot.tensor.value.grad();
    if (!gradient.defined()) continue;
    Lists& lists = groups[{rate * slot.tensor.rate, slot.decays ? settings_.weight_decay : 0}];
    lists.weights.push_back(slot.tensor.value);
    lists.gradients.push_back(gradient);
    lists.means.push_back(slot.mean);
    lists.squares.push_back(slot.square);
  }
  const Tensor step = at::scalar_tensor(steps_, at::kFloat);
  for (auto& [key, lists] : groups) {
    const std::vector<Tensor> steps(lists.weights.size(), step);
    at::_fused_adamw_(lists.weights, lists.gradients, lists.means, lists.squares, {}, steps, key.first, settings_.beta1,
                      settings_.beta2, key.second, settings_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
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
