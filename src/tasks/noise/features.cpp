#include "tasks/noise/features.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <omp.h>

#include <utility>

namespace deltaw::noise {
namespace {

/// Where a sum is split among threads its last bits follow from their number.
class OneCore {
 public:
  OneCore() : before_(omp_get_max_threads()) {
    at::internal::lazy_init_num_threads();
    omp_set_num_threads(1);
  }
  ~OneCore() { omp_set_num_threads(before_); }
  OneCore(const OneCore&) = delete;
  OneCore& operator=(const OneCore&) = delete;

 private:
  int before_;
};

}  // namespace

Features::Features(std::shared_ptr<const PipelineParts> parts, int64_t most_bytes)
    : parts_(std::move(parts)), most_bytes_(most_bytes) {}

Features::Tensors Features::made(std::map<std::string, Tensors>& of, const std::string& name,
                                 const std::function<Tensors(bool& fixed)>& make) const {
  {
    const std::lock_guard lock(guard_);
    if (const auto found = of.find(name); found != of.end()) return found->second;
  }
  const at::NoGradGuard no_grad;
  const OneCore alone;
  bool fixed = true;
  Tensors tensors = make(fixed);
  int64_t bytes = 0;
  for (Tensor& tensor : tensors) {
    tensor = tensor.squeeze(0).to(at::kFloat).clone();
    bytes += static_cast<int64_t>(tensor.nbytes());
  }
  const std::lock_guard lock(guard_);
  if (!fixed || bytes_ + bytes > most_bytes_) return tensors;
  const auto [place, is_new] = of.emplace(name, std::move(tensors));  // another thread may have been faster
  if (is_new) bytes_ += bytes;
  return place->second;
}

LatentDistribution Features::latents(const std::string& name, const std::function<Picture()>& picture) const {
  Tensors both = made(latents_, name, [&](bool& fixed) -> Tensors {
    const Picture own = picture();
    fixed = own.fixed;
    Call call;
    const LatentDistribution said = autoencoder().encode(own.pixels.unsqueeze(0), call);
    return {said.mean, said.deviation};
  });
  return {.mean = std::move(both[0]), .deviation = std::move(both[1])};
}

Tensor Features::states(const std::string& caption) const {
  return made(states_, caption, [&](bool& /*fixed*/) -> Tensors { return {prompts().encode({caption})}; }).front();
}

Tensor Features::text(const std::string& caption) const {
  return prompts().is_part() ? prompts().ids({caption}).squeeze(0) : states(caption);
}

size_t Features::kept() const {
  const std::lock_guard lock(guard_);
  return latents_.size() + states_.size();
}

}  // namespace deltaw::noise
