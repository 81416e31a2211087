#include "deltaw/batch.h"

#include <ATen/ATen.h>

#include "deltaw/error.h"

namespace deltaw {
namespace {

void append(std::vector<int64_t>& all, const std::vector<int64_t>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

bool fits(const std::vector<Tensor>& parts, const std::vector<Batch>& batches) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool by_rows = parts[i].dim() > 0 && parts[i].size(0) == batches[i].rows;
    if (!by_rows || parts[i].sizes().slice(1) != parts[0].sizes().slice(1)) return false;
  }
  return parts.size() == batches.size();
}

}  // namespace

const Tensor& Batch::operator[](std::string_view name) const {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  std::string has;
  for (const auto& [key, tensor] : tensors) has += (has.empty() ? "" : ", ") + key;
  throw Error({.id = "data.no-tensor",
               .what = "the batch has no '" + std::string(name) + "'",
               .where = "a batch of " + has,
               .fix = "use a task whose rows this model reads"});
}

Tensor Batch::get(std::string_view name) const {
  const auto found = tensors.find(name);
  return found == tensors.end() ? Tensor() : found->second;
}

// What is padded the host knows and reads without waiting for a device (ops/host_read.h).
Batch Batch::to(at::Device device) const {
  Batch moved = *this;
  for (auto& [name, tensor] : moved.tensors) {
    if (name != "attention_mask") tensor = tensor.to(device);
  }
  return moved;
}

Batch joined(const std::vector<Batch>& batches) {
  Batch all;
  std::map<std::string, std::vector<Tensor>> parts;
  for (const Batch& batch : batches) {
    all.rows += batch.rows;
    append(all.positions, batch.positions);
    append(all.costs, batch.costs);
    for (const auto& [name, tensor] : batch.tensors) parts[name].push_back(tensor);
  }
  for (const auto& [name, tensors] : parts) {
    if (fits(tensors, batches)) all.tensors[name] = at::cat(tensors);
  }
  return all;
}

std::vector<int64_t> costs_of(const RowSource& rows) {
  std::vector<int64_t> costs;
  for (int64_t row = 0; row < rows.size(); ++row) costs.push_back(rows.cost(row));
  return costs;
}

}  // namespace deltaw
