#include "adapt/write_checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "adapt/adapter_folder.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "deltaw/convert.h"
#include "deltaw/error.h"
#include "io/write_weights.h"
#include "models/loader.h"

namespace deltaw {
namespace {

// Leaves out what is one tensor with another still; false where the update has parted the two.
bool drop_tied(const Model& model, std::vector<NamedTensor>& tensors) {
  bool all_tied = true;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->tied_to.empty()) continue;
    const auto named = [&](const std::string& name) {
      return std::find_if(tensors.begin(), tensors.end(),
                          [&](const NamedTensor& tensor) { return tensor.name == name; });
    };
    const auto own = named(parameter->name);
    if (own->value.equal(named(parameter->tied_to)->value)) {
      tensors.erase(own);
    } else {
      all_tied = false;
    }
  }
  return all_tied;
}

/// The type that most numbers have.
at::ScalarType usual_type(const std::vector<NamedTensor>& tensors) {
  std::map<at::ScalarType, int64_t> counts;
  for (const NamedTensor& tensor : tensors) counts[tensor.value.scalar_type()] += tensor.value.numel();
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

/// The first tensor that is not in the folder as it was written, or nothing.
std::string problem_of(const std::filesystem::path& folder, const std::vector<NamedTensor>& tensors) {
  const auto written = std::make_shared<const io::Checkpoint>(folder);
  for (const NamedTensor& tensor : tensors) {
    const io::TensorBytes* bytes = written->find(tensor.name);
    if (!bytes) continue;  // tied to another
    const bool same = scalar_type(bytes->dtype) == tensor.value.scalar_type() &&
                      to_tensor(*bytes, tensor.value.scalar_type(), written).equal(tensor.value);
    if (!same) return tensor.name + " is not what was written";
  }
  written->check_lengths();
  return "";
}

}  // namespace

const char* type_name(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return "float64";
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      return c10::toString(type);
  }
}

Tensor rounded(const std::string& name, const Tensor& tensor, at::ScalarType type) {
  Tensor result = tensor.detach().to(type).contiguous();
  if (result.isfinite().all().item<bool>()) return result;
  throw Error({.id = "numeric.non-finite",
               .what = fmt::format("the tensor holds values that are not finite in {}", type_name(type)),
               .where = name,
               .fix = "its values do not fit the type, or the model or adapter is broken: nothing was written"});
}

void write_checkpoint(const std::filesystem::path& folder, const Model& model, std::vector<NamedTensor> tensors,
                      std::optional<at::ScalarType> stored) {
  const at::ScalarType usual = usual_type(tensors);
  const bool tied = drop_tied(model, tensors);
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  io::write_weights(folder, bytes);
  Json config = model.config();
  config["architectures"] = {model.architecture()};
  if (!tied) config["tie_word_embeddings"] = false;
  if (!stored && !std::filesystem::is_directory(model.folder())) stored = usual;  // a GGUF file has a type a tensor
  if (stored) {  // transformers 5 writes the shorter name, and reads both
    config.erase("torch_dtype");
    config["dtype"] = type_name(*stored);
  }
  write_json(folder / "config.json", config);
}

ConvertReport convert_checkpoint(const Model& model, const std::filesystem::path& output,
                                 const std::function<void(const std::filesystem::path&)>& companions,
                                 std::optional<at::ScalarType> stored, const Progress& progress) {
  const at::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(model.parameters().size());
  ConvertReport report;
  std::vector<NamedTensor> tensors;
  for (const Parameter* parameter : model.parameters()) {
    if (progress) progress(parameter->slot + 1, count);
    if (!parameter->value.defined()) continue;
    tensors.push_back(
        {parameter->name, rounded(parameter->name, parameter->value, stored.value_or(parameter->stored))});
    ++report.tensors;
    if (parameter->tied_to.empty()) report.parameters += parameter->numel();
  }
  write_folder(
      output,
      [&](const std::filesystem::path& folder) {
        write_checkpoint(folder, model, tensors, stored);
        if (companions) companions(folder);
      },
      is_read_as_model);
  report.problem = problem_of(output, tensors);
  return report;
}

}  // namespace deltaw
